//go:build root && slow

package bootstrap

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync"
	"testing"
)

// counted is a mirror that counts the packages which are asked for, all and those that were
// before a tree had anything installed.
type counted struct {
	sync.Mutex
	tree       string
	all, early map[string]int
}

func (c *counted) count(name string) {
	status, _ := os.ReadFile(c.tree + "/var/lib/dpkg/status")
	c.Lock()
	defer c.Unlock()
	c.all[name]++
	if !strings.Contains(string(status), "Package: base-files\n") {
		c.early[name]++
	}
}

func TestEachPackageIsFetchedOnceAndTheRestBeforeTheFirstIsInstalled(t *testing.T) {
	suite, mirror := archive(t)
	to, err := url.Parse(mirror)
	must(t, err)
	c := &counted{tree: t.TempDir(), all: map[string]int{}, early: map[string]int{}}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".deb") {
			c.count(path.Base(r.URL.Path))
		}
		forward.ServeHTTP(w, r)
	}))
	defer server.Close()
	spec := Spec{Tool: Mmdebstrap, Suite: suite, Mirror: server.URL, NodeArch: "amd64", Security: SecurityNone, ExtraPkgs: []string{"less"}, Scratch: true}
	tool, err := Choose(t.Context(), spec)
	must(t, err)
	_, err = Run(t.Context(), tool, spec, c.tree)
	must(t, err)
	installed, err := exec.Command("dpkg-query", "--admindir="+c.tree+"/var/lib/dpkg", "--show").Output()
	must(t, err)
	if n := strings.Count(string(installed), "\n"); n != len(c.all) {
		t.Errorf("%d packages are installed, %d were fetched", n, len(c.all))
	}
	for name, times := range c.all {
		if times != 1 {
			t.Errorf("%s was fetched %d times", name, times)
		}
	}
	if len(c.early) < len(c.all)/2 { // a third of them are essential
		t.Errorf("%d of %d packages were fetched before the first was installed", len(c.early), len(c.all))
	}
}
