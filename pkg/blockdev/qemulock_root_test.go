//go:build root

package blockdev

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
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
