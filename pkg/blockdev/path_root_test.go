//go:build root

package blockdev

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestADiskIsNotReachedThroughALinkThatAnotherUserMayChange(t *testing.T) {
	dir, locks := t.TempDir(), t.TempDir()
	disk := filepath.Join(dir, "disk")
	for _, err := range []error{
		os.WriteFile(disk, make([]byte, 1<<20), 0o600),
		os.Symlink(disk, filepath.Join(dir, "roots")),
		os.Symlink("roots", filepath.Join(dir, "roots-too")),
		os.Symlink(disk, filepath.Join(dir, "users")), os.Lchown(filepath.Join(dir, "users"), 65534, 65534),
		os.Symlink(".", filepath.Join(dir, "users-folder")), os.Lchown(filepath.Join(dir, "users-folder"), 65534, 65534),
		os.Symlink("circle", filepath.Join(dir, "circle")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"disk": "", "./disk": "", "../" + filepath.Base(dir) + "//disk": "", "roots": "", "roots-too": "",
		"users": "users on the way to it is a link that user 65534 may change", "users-folder/disk": "users-folder on the way", "circle": "too many levels",
		"nothing": "no such file", "disk/x": "not a directory",
	} {
		path := dir + "/" + name
		d, err := Open(path, locks, nil)
		if err == nil {
			if now, _ := os.Stat(disk); !os.SameFile(now, stat(t, d.File())) {
				t.Errorf("%s is another file", name)
			}
			d.Close()
		}
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	t.Chdir(dir)
	if d, err := Open("roots", locks, nil); err != nil {
		t.Error(err)
	} else {
		d.Close()
	}
}

func stat(t *testing.T, f *os.File) os.FileInfo {
	t.Helper()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return st
}
