//go:build root

package root

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// archive is a server for all addresses, as the lab's proxy. It has the Release file of
// trixie alone, and whether any other is there is what its state says: 404, or 503.
func (l *lab) archive() (state *atomic.Int32) {
	l.Helper()
	state = &atomic.Int32{}
	state.Store(http.StatusNotFound)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/debian/dists/trixie/InRelease" || r.URL.Host != "mirror.example" {
			http.Error(w, "no", int(state.Load()))
			return
		}
		fmt.Fprintf(w, "Origin: Test\nDate: %s\nComponents: main\n", time.Now().UTC().Add(-time.Hour).Format(time.RFC1123))
	}))
	l.Cleanup(server.Close)
	l.setting("PROXY=" + server.URL)
	return state
}

func TestATreeWithoutSecurityIsWarnedOfAtEachUseAndBuiltAnewAfterADay(t *testing.T) {
	const without = "built without updates and security updates since no archive of them could be reached"
	l := newCacheLab(t)
	archive := l.archive()
	archive.Store(http.StatusServiceUnavailable)
	l.matches(l.create(), without)
	tar := l.theTar()
	before := inode(t, tar)
	log := l.create()
	l.matches(log, without)
	l.matches(log, `receipt=.*"sources":\["http://mirror\.example/debian trixie main"\]`)
	if inode(t, tar) != before {
		t.Error("it was built anew on the same day")
	}
	l.matches(l.cache("list"), `ok, without updates and security updates`)
	if out := l.cache("warm", "--expired"); !strings.Contains(out, "nothing to renew") {
		t.Errorf("warm --expired:\n%s", out)
	}
	for command, args := range map[string][]string{"plan": {"create"}, "doctor": nil} {
		out, _ := l.run("instance-debootstrap", append([]string{command}, args...)...)
		l.matches(out, without)
	}

	l.ageEntry(tar, 2)
	l.matches(l.cache("list"), `ok, expired, without updates`)
	l.fake("debootstrap", `case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac; echo "the archive is gone" >&2; exit 1`)
	for range 2 { // it doesn't answer yet
		if log := l.create(); strings.Contains(log, "the archive is gone") || !strings.Contains(log, without) {
			t.Errorf("what can't be reached:\n%s", log)
		}
	}
	archive.Store(http.StatusNotFound)
	if log := l.create(); strings.Contains(log, "the archive is gone") {
		t.Errorf("asked twice on one day:\n%s", log)
	}
	l.tool("sh", "-c", "touch -d '2 days ago' "+base+"/lock/asked-*")
	log = l.create() // with what is there
	l.matches(log, "the archive is gone.*the old one stays in use")
	l.matches(log, without)
	l.cacheFails("the old one stays in use", "warm", "--expired")

	l.fakeDebootstrapAgain("0.01")
	if log := l.create(); strings.Contains(log, "without updates") || inode(t, tar) == before {
		t.Errorf("it was not built anew:\n%s", log)
	}
	if out := l.cache("list"); strings.Contains(out, "without") || len(l.tars()) != 1 {
		t.Errorf("cache list:\n%s", out)
	}
}

func TestATreeOfAnArchiveThatHasNoSecurityIsWhole(t *testing.T) {
	l := newCacheLab(t)
	l.archive()
	l.matches(l.create(), "no security archive of trixie is to be had.*none has one")
	if log := l.create(); strings.Contains(log, "without") {
		t.Errorf("warned of at each use:\n%s", log)
	}
	tar := l.theTar()
	before := inode(t, tar)
	l.ageEntry(tar, 2)
	if l.create(); inode(t, tar) != before {
		t.Error("it was built anew")
	}
}
