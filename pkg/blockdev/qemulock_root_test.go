//go:build root

package blockdev

import (
	"os/exec"
	"strings"
	"testing"
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

func TestWhoOnlyReadsADiskLetsOthersRead(t *testing.T) {
	path := newDisk(t, 4<<20)
	d, usedBy, err := OpenToLook(path, t.TempDir(), nil)
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
