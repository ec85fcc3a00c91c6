//go:build root

package blockdev

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// writesByQEMU has a real QEMU open the disk for writing, and tells what it says.
func writesByQEMU(path string) string {
	out, _ := exec.Command("qemu-io", "-f", "raw", "-c", "write 0 512", path).CombinedOutput()
	return string(out)
}

func readsByQEMU(path string) string {
	out, _ := exec.Command("qemu-io", "-f", "raw", "-r", "-c", "read 0 512", path).CombinedOutput()
	return string(out)
}

func TestQEMUIsKeptOffADiskAsLongAsItIsClaimedOrALoopDeviceIsOverIt(t *testing.T) {
	file := newDisk(t, 4<<20)
	for _, path := range []string{file, attachLoop(t, newDisk(t, 4<<20))} {
		locks := t.TempDir()
		if said := writesByQEMU(path); !strings.Contains(said, "wrote 512") {
			t.Fatalf("before: %s", said)
		}
		d := mustOpen(t, path, locks)
		l, err := AttachWindow(t.Context(), d.File(), 0, d.SizeBytes, false)
		if err != nil {
			t.Fatal(err)
		}
		d.Close() // as at the end of the process
		if said := writesByQEMU(path); !strings.Contains(said, `Failed to get "write" lock`) {
			t.Errorf("%s under a loop device: %s", path, said)
		}
		if err := l.Detach(t.Context()); err != nil {
			t.Fatal(err)
		}
		if said := writesByQEMU(path); !strings.Contains(said, "wrote 512") {
			t.Errorf("after: %s", said)
		}
		mustOpen(t, path, locks).Close() // QEMU has left no lock
	}
}

func TestWhoWaitsToLookAtADiskSaysForWhom(t *testing.T) {
	path, locks := newDisk(t, 4<<20), t.TempDir()
	d, usedBy, err := OpenToLook(t.Context(), path, locks, nil)
	if err != nil || usedBy != "" {
		t.Fatal(usedBy, err)
	}
	defer d.Close()
	var log bytes.Buffer
	ctx, cancel := context.WithTimeout(zerolog.New(&log).WithContext(t.Context()), 2500*time.Millisecond)
	defer cancel()
	again, usedBy, err := OpenToLook(ctx, path, locks, nil)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	who := fmt.Sprintf("another run of instance-debootstrap%s (pid %d, since ", "%s", os.Getpid())
	if !strings.HasPrefix(usedBy, fmt.Sprintf(who, " looks at it")) || !strings.Contains(log.String(), "waiting for "+fmt.Sprintf(who, "")) {
		t.Errorf("used by %q, log %s", usedBy, log.String())
	}
}

// A run that was killed has left its text in the file.
func TestWhoIsRefusedForALookerIsToldOfIt(t *testing.T) {
	path, locks := newDisk(t, 4<<20), t.TempDir()
	key, err := Key(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(locks, "disk-"+key+".lock"), []byte("pid 1, since yesterday\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, usedBy, err := OpenToLook(t.Context(), path, locks, nil)
	if err != nil || usedBy != "" {
		t.Fatal(usedBy, err)
	}
	defer d.Close()
	refused(t, path, locks, fmt.Sprintf("another run of instance-debootstrap works on it (pid %d, since ", os.Getpid()))
}

// A run locks the disk as QEMU does, and has a loop device over it.
func TestALookNamesTheRunThatWorksOnTheDiskAndNoQEMU(t *testing.T) {
	path, locks := newDisk(t, 4<<20), t.TempDir()
	d, err := Open(path, locks, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("another run of instance-debootstrap works on it (pid %d, since ", os.Getpid())
	if _, usedBy, err := Look(path, locks); err != nil || !strings.HasPrefix(usedBy, want) {
		t.Errorf("used by %q, %v; not by %q", usedBy, err, want)
	}
	d.Close()
	if _, usedBy, err := Look(path, locks); err != nil || usedBy != "" {
		t.Errorf("after it: %q, %v", usedBy, err)
	}
}

// TestADiskThatIsLookedAtIsNotReadByUdev, which reads what was open for writing when that is
// closed: Ganeti's next step may fail for it.
func TestADiskThatIsLookedAtIsNotReadByUdev(t *testing.T) {
	path := attachLoop(t, newDisk(t, 4<<20))
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, path, unix.IN_CLOSE_WRITE); err != nil {
		t.Fatal(err)
	}
	closed := func() bool {
		n, _ := unix.Read(watch, make([]byte, 4096))
		return n > 0
	}
	if _, usedBy, err := Look(path, t.TempDir()); err != nil || usedBy != "" || closed() {
		t.Errorf("a plan's look: %q, %v", usedBy, err)
	}
	d, usedBy, err := OpenToLook(t.Context(), path, t.TempDir(), nil)
	if err != nil || usedBy != "" {
		t.Fatal(usedBy, err)
	}
	if d.Close(); closed() {
		t.Error("inspect's look")
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if f.Close(); !closed() {
		t.Error("the watch sees nothing")
	}
}

func TestWhoOnlyReadsADiskLetsOthersRead(t *testing.T) {
	path := newDisk(t, 4<<20)
	d, usedBy, err := OpenToLook(t.Context(), path, t.TempDir(), nil)
	if err != nil || usedBy != "" {
		t.Fatal(usedBy, err)
	}
	defer d.Close()
	if said := readsByQEMU(path); !strings.Contains(said, "read 512") {
		t.Error(said)
	}
	if said := writesByQEMU(path); !strings.Contains(said, `Failed to get "write" lock`) {
		t.Error(said)
	}
}

// TestOfTwoThatComeAtOnceOneSeesTheOther: QEMU's lock comes between our look and ours.
func TestOfTwoThatComeAtOnceOneSeesTheOther(t *testing.T) {
	path := newDisk(t, 4<<20)
	first, second := mustOpen(t, path, t.TempDir()), &Disk{Path: path}
	if err := second.look(); err != nil {
		t.Fatal(err)
	}
	var err error
	if second.file, err = second.open(2); err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := second.lockAsQEMU(true); err == nil || !strings.Contains(err.Error(), "a QEMU has begun to use it") {
		t.Error(err)
	}
	first.Close()
	if err := second.lockAsQEMU(true); err != nil {
		t.Error(err)
	}
}
