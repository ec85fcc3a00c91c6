package transport

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A guest may have so many that the export would not end.
func TestNoFolderIsReadAheadAnyLongerOnceThatIsStopped(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "empty", "too"), 0o755))
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	var st unix.Stat_t
	must(t, unix.Fstat(fd, &st))
	ctx, stop := context.WithCancel(t.Context())
	a := &Ahead{ctx: ctx, device: st.Dev}
	stop()
	if a.folder(fd, aheadDepth) || a.asked > 0 {
		t.Errorf("%d bytes are asked for all the same", a.asked)
	}
}
