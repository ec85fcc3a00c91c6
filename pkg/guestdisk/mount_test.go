package guestdisk

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAFolderIsOpenUnlessOneAboveItIsClosed(t *testing.T) {
	closed := filepath.Join(t.TempDir(), "closed")
	inside := filepath.Join(closed, "guest")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	for dir, open := range map[string]bool{inside: false, "/usr/share": true, "/none/there": false} {
		if isOpen(dir) != open {
			t.Errorf("%s: %v", dir, !open)
		}
	}
}
