//go:build root

package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newDisk(t *testing.T, sizeBytes int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, sizeBytes); err != nil {
		t.Fatal(err)
	}
	return path
}

func tool(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// loopOver attaches a loop device with losetup, for disks that are devices.
func attachLoop(t *testing.T, args ...string) string {
	t.Helper()
	dev := tool(t, "", append([]string{"losetup", "--show", "-f"}, args...)...)
	t.Cleanup(func() { exec.Command("losetup", "-d", dev).Run() })
	return dev
}

func mustOpen(t *testing.T, path, locks string) *Disk {
	t.Helper()
	d, err := Open(path, locks, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func refused(t *testing.T, path, locks, want string) {
	t.Helper()
	d, err := Open(path, locks, nil)
	if err == nil {
		d.Close()
		t.Fatalf("a disk that is in use was opened; wanted %q", want)
	}
	if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
		t.Fatalf("error %q names neither %q nor the disk", err, want)
	}
}

func TestSizesOfFileAndDevice(t *testing.T) {
	locks, file := t.TempDir(), newDisk(t, 64<<20)
	if d := mustOpen(t, file, locks); d.SizeBytes != 64<<20 || !d.IsFile || d.SectorSize != 512 {
		t.Errorf("file disk: %+v", d)
	}
	dev := attachLoop(t, "-b", "4096", newDisk(t, 32<<20))
	if d := mustOpen(t, dev, locks); d.SizeBytes != 32<<20 || d.IsFile || d.SectorSize != 4096 {
		t.Errorf("device: %+v", d)
	}
}

func TestDiskInUseIsRefused(t *testing.T) {
	locks := t.TempDir()
	t.Run("mounted", func(t *testing.T) {
		dev := attachLoop(t, newDisk(t, 64<<20))
		tool(t, "", "mke2fs", "-q", "-F", dev)
		dir := t.TempDir()
		tool(t, "", "mount", dev, dir)
		defer tool(t, "", "umount", dir)
		refused(t, dev, locks, "mounted on "+dir)
	})
	t.Run("claimed by another program", func(t *testing.T) {
		dev := attachLoop(t, newDisk(t, 64<<20))
		f, err := os.OpenFile(dev, os.O_RDWR|unix.O_EXCL, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		refused(t, dev, locks, "claimed by")
	})
	t.Run("file under a loop device", func(t *testing.T) {
		file := newDisk(t, 64<<20)
		dev := attachLoop(t, file)
		refused(t, file, locks, dev+" is over it")
	})
	t.Run("device under a loop device", func(t *testing.T) {
		dev := attachLoop(t, newDisk(t, 64<<20))
		upper := attachLoop(t, dev)
		refused(t, dev, locks, upper+" is over it")
	})
	t.Run("another run of ours", func(t *testing.T) {
		file := newDisk(t, 64<<20)
		mustOpen(t, file, locks)
		refused(t, file, locks, fmt.Sprintf("another run of instance-debootstrap works on it (pid %d, since ", os.Getpid()))
	})
	t.Run("another run, by another name", func(t *testing.T) {
		file := newDisk(t, 64<<20)
		mustOpen(t, file, locks)
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(file, link); err != nil {
			t.Fatal(err)
		}
		refused(t, link, locks, "another run of instance-debootstrap")
	})
	t.Run("not a disk", func(t *testing.T) {
		refused(t, "/dev/null", locks, "neither a block device nor a file")
		refused(t, "/no/such/disk", locks, "no such file")
	})
}

func TestDiskOfARunningQEMUIsRefused(t *testing.T) {
	for _, how := range []struct{ locking, process string }{{"on", ""}, {"off", ""}, {"off", ",process=web1"}} {
		t.Run("locking="+how.locking+" "+strings.TrimPrefix(how.process, ","), func(t *testing.T) {
			file := newDisk(t, 64<<20)
			qemu := exec.Command("qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none", "-S", "-monitor", "none",
				"-name", "guest"+how.process, "-blockdev", "driver=file,node-name=d,filename="+file+",locking="+how.locking)
			if err := qemu.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { qemu.Process.Kill(); qemu.Wait() }()
			var err error
			for range 200 {
				var d *Disk
				if d, err = Open(file, t.TempDir(), nil); err != nil {
					break
				}
				d.Close()
				time.Sleep(20 * time.Millisecond)
			}
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), "qemu") {
				t.Fatalf("a disk that QEMU has open: %v", err)
			}
		})
	}
}

func TestPartitionIsReachableAndGoesWithTheLoop(t *testing.T) {
	for _, base := range []string{"file", "device", "4096-byte device"} {
		t.Run(base, func(t *testing.T) {
			path := newDisk(t, 64<<20)
			tool(t, "label: dos\n2048,,L,*\n", "sfdisk", "-q", path)
			switch base {
			case "device":
				path = attachLoop(t, path)
			case "4096-byte device":
				path = attachLoop(t, "-b", "4096", path)
			}
			d := mustOpen(t, path, t.TempDir())
			l, err := Attach(context.Background(), d.File(), true)
			if err != nil {
				t.Fatal(err)
			}
			node, err := l.AddPartition(1, 2048, 64<<11-2048)
			if err != nil {
				t.Fatal(err)
			}
			tool(t, "", "mke2fs", "-q", "-F", node)
			if got := tool(t, "", "blockdev", "--getsz", "--getss", node); got != "129024\n512" {
				t.Errorf("size and sector size of %s: %q", node, got)
			}
			if err := l.Detach(context.Background()); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(node); !os.IsNotExist(err) {
				t.Errorf("%s outlives its loop device: %v", node, err)
			}
			if out := tool(t, "", "losetup", "-n", "-O", "BACK-FILE", "-j", path); out != "" {
				t.Errorf("still attached: %s", out)
			}
		})
	}
}

func TestWrongGeometryIsRefused(t *testing.T) {
	d := mustOpen(t, newDisk(t, 64<<20), t.TempDir())
	l, err := Attach(context.Background(), d.File(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Detach(context.Background())
	if _, err := l.AddPartition(1, 2048, 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := l.AddPartition(1, 2048, 8192); err == nil || !strings.Contains(err.Error(), "size") {
		t.Errorf("a partition of another size was taken: %v", err)
	}
}

// TestKilledHolderLeavesNoLoop runs this test program again as the holder.
func TestKilledHolderLeavesNoLoop(t *testing.T) {
	if path := os.Getenv("HOLD_LOOP"); path != "" {
		d := mustOpen(t, path, os.Getenv("HOLD_LOCKS"))
		l, err := Attach(context.Background(), d.File(), true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.AddPartition(1, 2048, 4096); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("held\n")
		select {}
	}
	path := newDisk(t, 64<<20)
	cmd := exec.Command(os.Args[0], "-test.run=TestKilledHolderLeavesNoLoop")
	cmd.Env = append(os.Environ(), "HOLD_LOOP="+path, "HOLD_LOCKS="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if tool(t, "", "losetup", "-n", "-O", "NAME", "-j", path) == "" {
		t.Fatal("the holder attached nothing")
	}
	cmd.Process.Signal(syscall.SIGKILL)
	cmd.Wait()
	for range 100 {
		if tool(t, "", "losetup", "-n", "-O", "NAME", "-j", path) == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("the loop device outlives its killed holder")
}

func TestADeviceThatSomebodyMadeReadOnlyIsWritableInTheNextUse(t *testing.T) {
	f := mustOpen(t, newDisk(t, 8<<20), t.TempDir()).File()
	number := -1
	for range 20 { // another test may be faster
		l, err := Attach(t.Context(), f, false)
		if err != nil {
			t.Fatal(err)
		}
		if l.number == number {
			if _, err := l.file.WriteAt(make([]byte, 4096), 4096); err != nil {
				t.Errorf("%s: %v", l.Path, err)
			}
			if err := errors.Join(l.Sync(), l.Detach(t.Context())); err != nil {
				t.Fatal(err)
			}
			return
		}
		number = l.number
		if err := unix.IoctlSetPointerInt(int(l.file.Fd()), unix.BLKROSET, 1); err != nil {
			t.Fatal(err)
		}
		if err := l.Detach(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("no device came twice")
}

func TestParallelAttachesGetDifferentDevices(t *testing.T) {
	const runs, each = 8, 20
	errs := make(chan error, runs)
	for range runs {
		path := newDisk(t, 1<<20)
		go func() {
			for range each {
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				if err != nil {
					errs <- err
					return
				}
				l, err := Attach(context.Background(), f, false)
				if err == nil {
					err = l.Detach(context.Background())
				}
				f.Close()
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range runs {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestAFreeDeviceThatAnotherKeepsLockedIsPassedOver(t *testing.T) {
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	check(err)
	defer control.Close()
	locked := map[string]bool{}
	for range 3 { // other programs take some meanwhile
		n, err := unix.IoctlRetInt(int(control.Fd()), loopCtlGetFree)
		check(err)
		for _, n := range []int{n, n + 1} {
			_ = unix.IoctlSetInt(int(control.Fd()), loopCtlAdd, n)
			f, err := os.OpenFile(fmt.Sprint("/dev/loop", n), os.O_RDWR, 0)
			check(err)
			defer f.Close()
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				locked[f.Name()] = true
			}
		}
	}
	back, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	check(err)
	defer back.Close()
	check(back.Truncate(1 << 20))
	l, err := Attach(t.Context(), back, false)
	check(err)
	defer l.Detach(t.Context())
	if locked[l.Path] {
		t.Errorf("%s, which is locked, was taken", l.Path)
	}
}
