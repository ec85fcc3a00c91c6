//go:build root

package guestdisk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/paths"
)

// An export asks what the instance's disks hold, its own among them, whose lock it has itself:
// 0.15 s went by until that was given up, a quarter of the run.
func TestWhatADiskHoldsIsToldWithoutWaitingForTheRunThatHasIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 8<<20), os.MkdirAll(paths.LockDir, 0o700)); err != nil {
		t.Fatal(err)
	}
	claimed, err := blockdev.Open(path, paths.LockDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer claimed.Release(t.Context())
	var st unix.Stat_t
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err == nil {
		_, err = unix.InotifyAddWatch(watch, paths.LockDir, unix.IN_OPEN)
	}
	if err := errors.Join(err, unix.Stat(path, &st)); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	// asked tells how often the disk's lock was opened since the last call.
	asked := func() int {
		events := make([]byte, 1<<20)
		n, err := unix.Read(watch, events)
		if err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
		return strings.Count(string(events[:max(n, 0)]), fmt.Sprintf("-%d.lock", st.Ino))
	}
	if seen, err := See(t.Context(), path); err != nil || seen.UsedBy == "" || asked() == 0 {
		t.Fatalf("nobody seems to use it: %q, %v", seen.UsedBy, err)
	}
	if seen, err := SeeContent(t.Context(), path); err != nil || seen.SizeBytes != 8<<20 {
		t.Errorf("%+v, %v", seen, err)
	}
	if n := asked(); n > 0 {
		t.Errorf("its lock was asked for %d times", n)
	}
}
