package filesystem

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAHeldFolderIsOpenAndNoListOfOpenFilesShowsIt(t *testing.T) {
	dir := t.TempDir()
	held, err := Hold(dir)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(fds) == 0 {
		t.Fatal(fds, err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); to == dir {
			t.Errorf("%s is %s", fd, dir)
		}
	}
	top, err := held.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	now, err := top.Stat()
	was, statErr := os.Stat(dir)
	if err != nil || statErr != nil || !os.SameFile(now, was) {
		t.Error(now, was, err, statErr)
	}
	if _, err := Hold(filepath.Join(dir, "missing")); err == nil {
		t.Error("a folder that isn't there is held")
	}
	if top, err := (*Held)(nil).Take(); top != nil || err != nil {
		t.Error(top, err)
	}
}
