//go:build root

package bootstrap

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// canary is a password that is looked for everywhere.
const canary = "CaNaRy7Bird%7Eword" // ~ is %7E

// withLogin puts the password into a mirror's URL.
func withLogin(mirror string) string {
	return strings.Replace(mirror, "://", "://reader:"+canary+"@", 1)
}

// guard serves a mirror to those who know the password.
func guard(t *testing.T, mirror string, change func(*http.Response) error) string {
	t.Helper()
	to, err := url.Parse(strings.TrimRight(mirror, "/"))
	must(t, err)
	folder := path.Base(to.Path)
	to.Path = path.Dir(to.Path) // what is beside it can be reached too
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, ModifyResponse: change}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "reader" || password != strings.Replace(canary, "%7E", "~", 1) {
			w.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		r.Header.Del("Authorization")
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/" + folder
}

// watchTools looks at the arguments and the environment of every process, over
// and over, until the result is asked for: those that had the password.
func watchTools(t *testing.T) (seen func() []string) {
	t.Helper()
	var found []string
	quit, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-time.After(2 * time.Millisecond):
			}
			files, _ := filepath.Glob("/proc/[0-9]*/[ce][mn][dv]*") // cmdline, environ
			for _, file := range files {
				if text, _ := os.ReadFile(file); strings.Contains(string(text), "CaNaRy7Bird") && !slices.Contains(found, string(text)) {
					found = append(found, string(text))
				}
			}
		}
	}()
	stop := sync.OnceFunc(func() { close(quit); <-done })
	t.Cleanup(stop)
	return func() []string { stop(); return found }
}

func TestAMirrorsPasswordIsGivenToTheMirrorAndNobodyElse(t *testing.T) {
	key := newSigner(t)
	for _, name := range []string{Debootstrap, Mmdebstrap} {
		spec := Spec{Tool: name, Suite: "bookworm", Arch: "amd64", NodeArch: "amd64", WorkDir: t.TempDir()}
		spec.Mirror = withLogin(guard(t, serveArchive(t, &key, nil), nil))
		tool, err := Choose(t.Context(), spec)
		must(t, err)
		tool.Keyring = key.keyring
		seen := watchTools(t)
		_, err = Run(t.Context(), tool, spec, t.TempDir())
		// The archive has no packages: they got that far.
		if err == nil || strings.Contains(err.Error(), "401") || strings.Contains(err.Error(), "Failed getting release") || strings.Contains(err.Error(), "CaNaRy7Bird") {
			t.Errorf("%s: %v", name, err)
		}
		if found := seen(); len(found) > 0 {
			t.Errorf("%s: these processes had the password: %q", name, found)
		}
		if left, _ := os.ReadDir(spec.WorkDir); len(left) > 0 {
			t.Errorf("%s left %v", name, left)
		}
		spec.Mirror = strings.Replace(spec.Mirror, canary, "wrong", 1)
		if _, err := Run(t.Context(), tool, spec, t.TempDir()); err == nil || !strings.Contains(err.Error(), "401") && !strings.Contains(err.Error(), "Failed getting release") {
			t.Errorf("%s, a wrong password: %v", name, err)
		}
	}
}
