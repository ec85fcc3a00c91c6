//go:build root && slow

package bootstrap

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clearsign signs a text within itself, as an InRelease file is.
func (s signer) clearsign(t *testing.T, text []byte) []byte {
	t.Helper()
	cmd := exec.Command("gpg", "--homedir", s.home, "--batch", "--quiet", "--yes", "--clearsign")
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.Output()
	must(t, err)
	return out
}

// signsAnew has a mirror's own suites signed by a site's key instead of the
// distribution's: what is in folder, not what is beside it.
func signsAnew(t *testing.T, s signer, folder string) func(*http.Response) error {
	return func(r *http.Response) error {
		path := r.Request.URL.Path
		if !strings.Contains(path, "/"+folder+"/dists/") || r.StatusCode != http.StatusOK || !strings.HasSuffix(path, "/InRelease") {
			return nil
		}
		signed, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		open := exec.Command("gpg", "--homedir", s.home, "--batch", "--quiet", "--decrypt")
		open.Stdin = bytes.NewReader(signed)
		text, _ := open.Output() // the key that it was signed with isn't there
		if len(text) == 0 {
			return fmt.Errorf("%s has no text", path)
		}
		again := s.clearsign(t, text)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(again)), int64(len(again))
		r.Header.Set("Content-Length", fmt.Sprint(len(again)))
		return nil
	}
}

// sitePackages serves an archive with one package, site-tool, signed by a key of its
// own, and returns the files that EXTRA_SOURCES would lay into the tree for it. Its key
// is on the node under the same path.
func sitePackages(t *testing.T) (files map[string]string) {
	t.Helper()
	key := newSigner(t)
	dir, err := os.MkdirTemp("/var/tmp", "site-") // the key has the same path in the tree, whose /tmp is emptied
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	must(t, os.MkdirAll(dir+"/deb/DEBIAN", 0o755))
	must(t, os.MkdirAll(dir+"/deb/usr/share/site-tool", 0o755))
	control := "Package: site-tool\nVersion: 1.0\nArchitecture: all\nMaintainer: Site <site@mirror.example>\nDescription: a site's own\n"
	must(t, os.WriteFile(dir+"/deb/DEBIAN/control", []byte(control), 0o644))
	must(t, os.WriteFile(dir+"/deb/usr/share/site-tool/there", nil, 0o644))
	out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", dir+"/deb", dir+"/site-tool.deb").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	deb, err := os.ReadFile(dir + "/site-tool.deb")
	must(t, err)
	packages := control + fmt.Sprintf("Filename: ./site-tool.deb\nSize: %d\nSHA256: %x\n\n", len(deb), sha256.Sum256(deb))
	release := fmt.Sprintf("Origin: Site\nDate: %s\nSHA256:\n %x %d Packages\n", time.Now().UTC().Add(-time.Hour).Format("Mon, 02 Jan 2006 15:04:05 UTC"), sha256.Sum256([]byte(packages)), len(packages))
	must(t, os.WriteFile(dir+"/Packages", []byte(packages), 0o644))
	must(t, os.WriteFile(dir+"/InRelease", key.clearsign(t, []byte(release)), 0o644))
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	public, err := os.ReadFile(key.keyring)
	must(t, err)
	path := filepath.Join(dir, "site.gpg")
	must(t, os.WriteFile(path, public, 0o644))
	return map[string]string{
		"/etc/apt/sources.list.d/site.sources": "Types: deb\nURIs: " + server.URL + "\nSuites: ./\nSigned-By: " + path + "\n",
		"/etc/apt/preferences.d/site.pref":     "Package: *\nPin: release o=Site\nPin-Priority: 900\n",
		path:                                   string(public),
	}
}
