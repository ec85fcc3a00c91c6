package bootstrap

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// slowArchive answers 404 after a time, but for the suite itself, of which it says so
// immediately; most is how many waited at a time.
func slowArchive(t *testing.T, takes time.Duration) (uri string, most func() int) {
	t.Helper()
	var mu sync.Mutex
	var waiting, peak int
	count := func(more int) {
		mu.Lock()
		defer mu.Unlock()
		waiting += more
		peak = max(peak, waiting)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/dists/site/InRelease") && !strings.HasSuffix(r.URL.Path, "/dists/site/Release") {
			count(1)
			defer count(-1)
			select {
			case <-time.After(takes):
			case <-r.Context().Done():
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/debian", func() int {
		mu.Lock()
		defer mu.Unlock()
		return peak
	}
}

func TestAMirrorIsAskedForAllThatItMayHaveAtOnce(t *testing.T) {
	for _, tool := range []string{Debootstrap, Mmdebstrap} {
		uri, most := slowArchive(t, 2*time.Second)
		spec := Spec{Suite: "site", Mirror: uri, WorkDir: t.TempDir(), NodeArch: "amd64"}
		f := fetcher{tool, "", spec.WorkDir, &sync.WaitGroup{}}
		all, end := spec.askAll(t.Context(), f, Source{URI: uri}, true)
		for _, r := range all {
			r.answer()
		}
		end()
		if n := most(); n != len(all)-1 || n < 5 {
			t.Errorf("%s: %d of %d waited at a time", tool, n, len(all)-1)
		}
	}
}

// The rest is ended, and leaves no file.
func TestASuiteThatIsNotThereIsToldBeforeTheRestIsAnswered(t *testing.T) {
	for _, tool := range []string{Debootstrap, Mmdebstrap} {
		uri, _ := slowArchive(t, time.Minute)
		spec := Spec{Suite: "site", Mirror: uri, WorkDir: t.TempDir(), NodeArch: "amd64"}
		begin := time.Now()
		_, _, err := spec.sources(t.Context(), Tool{Name: tool}, "")
		if took := time.Since(begin); err == nil || !strings.Contains(err.Error(), "there is no suite site") || took > answerTime/2 {
			t.Errorf("%s: %v after %s", tool, err, took)
		}
		if left, err := os.ReadDir(spec.WorkDir); err != nil || len(left) > 0 {
			t.Errorf("%s: %v, left is %v", tool, err, left)
		}
	}
}

func TestARunThatEndsWhileArchivesAreAskedLeavesNoFile(t *testing.T) {
	stop := errors.New("stop")
	for _, tool := range []string{Debootstrap, Mmdebstrap} {
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		defer server.Close()
		spec := Spec{Suite: "site", Mirror: server.URL + "/debian", WorkDir: t.TempDir(), NodeArch: "amd64"}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(500*time.Millisecond, func() { cancel(stop) })
		begin := time.Now()
		_, _, err := spec.sources(ctx, Tool{Name: tool}, "")
		if took := time.Since(begin); !errors.Is(err, stop) || took > answerTime/2 {
			t.Errorf("%s: %v after %s", tool, err, took)
		}
		if left, err := os.ReadDir(spec.WorkDir); err != nil || len(left) > 0 {
			t.Errorf("%s: %v, left is %v", tool, err, left)
		}
	}
}
