//go:build root

package userspace

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/blockdev"
)

// TestAWriteThatFailsOnceByALoopDeviceIsTold: FUSE would cut the request into two pieces, and
// Linux would take the first one's success for that of both.
func TestAWriteThatFailsOnceByALoopDeviceIsTold(t *testing.T) {
	options := "driver=raw,file.driver=blkdebug,file.inject-error.0.event=none,file.inject-error.0.iotype=write,file.inject-error.0.sector=2200,file.inject-error.0.once=on,file.inject-error.0.errno=5,file.image.driver=file,file.image.filename=" + file(t, 8)
	s := newSession(t)
	f, err := os.OpenFile(open(t, s, serve(t, options), Raw, false), os.O_RDWR, 0)
	must(t, err)
	before := requestLimits()
	l, err := blockdev.Attach(context.Background(), f, false)
	must(t, err)
	dev, err := os.OpenFile(l.Path, os.O_RDWR|unix.O_DIRECT, 0)
	must(t, err)
	memory, err := unix.Mmap(-1, 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	must(t, err)
	must(t, unix.Madvise(memory, unix.MADV_HUGEPAGE)) // or no request has so many pages
	copy(memory, bytes.Repeat([]byte("data"), 1<<20))
	_, err = dev.WriteAt(memory[2<<20:][:1280<<10], 0)
	err = errors.Join(err, dev.Sync(), dev.Close(), l.Sync(), l.Detach(context.Background()), f.Sync(), f.Close(), s.UndoTo(context.Background(), 0))
	if err == nil {
		t.Error("what the server refused is called written")
	}
	if now := requestLimits(); !maps.Equal(now, before) {
		t.Errorf("requests of loop devices are limited to %v, and before to %v KiB", now, before)
	}
}

// requestLimits are the loop devices' largest requests.
func requestLimits() map[string]string {
	limits := map[string]string{}
	all, _ := filepath.Glob("/sys/block/loop*/queue/max_sectors_kb")
	for _, path := range all {
		text, _ := os.ReadFile(path)
		limits[path] = string(text)
	}
	return limits
}

// TestAQcow2sDeviceIsFreeWhenTheRunHasEnded: systemd-udevd probes it, as any that was written to.
func TestAQcow2sDeviceIsFreeWhenTheRunHasEnded(t *testing.T) {
	device := tool(t, "losetup", "--show", "-f", file(t, 16))
	device = device[:len(device)-1]
	t.Cleanup(func() { tool(t, "losetup", "-d", device) })
	tool(t, "qemu-img", "create", "-q", "-f", "qcow2", device, "8M")
	s := newSession(t)
	open(t, s, device, Qcow2, false)
	f, err := os.Open(device)
	must(t, err)
	probe := exec.Command("sleep", "1")
	probe.Stdin = f
	must(t, probe.Start())
	ended := make(chan error, 1)
	go func() { ended <- probe.Wait() }()
	must(t, f.Close())
	must(t, s.UndoTo(context.Background(), 0))
	select {
	case err := <-ended:
		must(t, err)
	case <-time.After(100 * time.Millisecond):
		t.Error("the run has ended, and something still has the disk open")
	}
}

// A server may have old data where it says that nothing is stored.
func TestAServedDiskIsNeverTakenForEmpty(t *testing.T) {
	s := newSession(t)
	path := open(t, s, serve(t, "driver=raw,file.driver=file,file.filename="+file(t, 8)), Raw, false)
	d, err := blockdev.Open(path, t.TempDir(), nil)
	must(t, err)
	defer d.Close()
	if d.IsEmpty() {
		t.Error("it is taken for empty, without a look at what it holds")
	}
}
