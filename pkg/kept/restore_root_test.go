//go:build root

package kept

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWhatIsPutBackIsOnTheDiskWhenThatIsSaid looks at the disk as it would be had the node lost its
// power then: at a copy of it, made while it is mounted.
func TestWhatIsPutBackIsOnTheDiskWhenThatIsSaid(t *testing.T) {
	dir := t.TempDir()
	tool := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	for _, name := range []string{"old/srv/app", "new", "copy"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	want := strings.Repeat("data", 1<<18)
	if err := os.WriteFile(dir+"/old/srv/app/file", []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
	tool("tar", "-C", dir+"/old", "-cf", dir+"/"+filesName, "./srv/app")
	tar, err := os.ReadFile(dir + "/" + filesName)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(tar)
	tool("truncate", "-s", "64M", dir+"/disk")
	tool("mkfs.ext4", "-q", dir+"/disk")
	mount := func(image, at string) {
		t.Helper()
		tool("mount", "-o", "loop", dir+"/"+image, dir+"/"+at)
		t.Cleanup(func() { unix.Unmount(dir+"/"+at, unix.MNT_DETACH) })
	}
	mount("disk", "new")
	h := Held{Dir: dir, Paths: []string{"/srv/app"}, SHA256: hex.EncodeToString(sum[:])}
	if err := h.Restore(t.Context(), dir+"/new", "fail"); err != nil {
		t.Fatal(err)
	}
	tool("cp", "--sparse=always", dir+"/disk", dir+"/snapshot")
	mount("snapshot", "copy")
	if got, err := os.ReadFile(dir + "/copy/srv/app/file"); err != nil || string(got) != want {
		t.Errorf("%d bytes of %d are on the disk, %v", len(got), len(want), err)
	}
}
