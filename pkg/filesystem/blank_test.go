package filesystem

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A qcow2 of 10 GiB is a file of 192 KiB: only that it is too small would send its owner off
// to make a larger one.
func TestAQcow2ThatIsTakenForASmallRawDiskIsCalledThat(t *testing.T) {
	for head, want := range map[string]bool{"QFI\xfb": true, "QFI": false, "\x00\x00\x00\x00": false} {
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, []byte(head), 0o600); err != nil {
			t.Fatal(err)
		}
		reason := errors.New("too small")
		err := WrongSize(path, reason)
		if !errors.Is(err, reason) || strings.Contains(err.Error(), "--format qcow2") != want {
			t.Errorf("%q: %v", head, err)
		}
	}
}
