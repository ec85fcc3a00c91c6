//go:build root && slow

package filesystem

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fetch gets a file of the archive.
func fetch(t *testing.T, url, path string) {
	t.Helper()
	resp, err := http.Get(url)
	for range 3 { // an archive's mirror has its moments
		if err == nil && resp.StatusCode == http.StatusOK {
			break
		}
		if err == nil {
			resp.Body.Close()
		}
		time.Sleep(5 * time.Second)
		resp, err = http.Get(url)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", url, resp.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, resp.Body); err != nil {
		t.Fatal(err)
	}
}

// suitesE2fsck returns the suite's own e2fsck, the statically linked one.
func suitesE2fsck(t *testing.T, mirror, suite string) string {
	t.Helper()
	dir := t.TempDir()
	fetch(t, mirror+"/dists/"+suite+"/main/binary-amd64/Packages.xz", dir+"/Packages.xz")
	out, err := exec.Command("sh", "-c", `xz -dc "$0" | awk '/^Package: /{p=$2} /^Filename: /&&p=="e2fsck-static"{print $2; exit}'`, dir+"/Packages.xz").Output()
	name := strings.TrimSpace(string(out))
	if err != nil || name == "" {
		t.Fatalf("no e2fsck-static in %s: %v", suite, err)
	}
	fetch(t, mirror+"/"+name, dir+"/e2fsck.deb")
	if out, err := exec.Command("dpkg-deb", "-x", dir+"/e2fsck.deb", dir+"/root").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	found, _ := filepath.Glob(dir + "/root/*bin/e2fsck.static")
	if usr, _ := filepath.Glob(dir + "/root/usr/*bin/e2fsck.static"); len(found) == 0 {
		found = usr
	}
	if len(found) != 1 {
		t.Fatalf("e2fsck.static of %s: %v", suite, found)
	}
	return found[0]
}

func TestEachSuitesOwnE2fsckTakesItsFilesystems(t *testing.T) {
	mirror := os.Getenv("TEST_MIRROR")
	if mirror == "" {
		t.Fatal("TEST_MIRROR must be the URL of a Debian mirror")
	}
	for _, suite := range []string{"bullseye", "bookworm", "trixie", "forky", "sid"} {
		e2fsck := suitesE2fsck(t, strings.TrimRight(mirror, "/"), suite)
		for _, fstype := range []Type{Ext2, Ext3, Ext4} {
			t.Run(fmt.Sprintf("%s/%s", suite, fstype), func(t *testing.T) {
				disk := filepath.Join(t.TempDir(), "disk")
				if err := os.WriteFile(disk, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(disk, 2<<30); err != nil {
					t.Fatal(err)
				}
				if _, err := Make(t.Context(), Spec{Type: fstype, Device: disk, Suite: suite}); err != nil {
					t.Fatal(err)
				}
				if out, err := exec.Command(e2fsck, "-fn", disk).CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}
