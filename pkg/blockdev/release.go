package blockdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/tell"
)

// Times of Release.
const (
	settleTime = 5 * time.Second  // others' events may be waiting for others' locks
	freeTime   = 10 * time.Second // in all
	freePause  = 5 * time.Millisecond
)

// Release makes the disk's content durable, gives up the claim, and waits until nobody
// has the disk open: systemd-udevd probes a disk that somebody has closed after writing,
// and Ganeti demotes a DRBD device or removes a snapshot right after the script ends, and
// fails if anything still holds it. A disk that doesn't come free is told of, with what
// holds it; the content is complete all the same.
func (d *Disk) Release(ctx context.Context) error {
	if d.file == nil {
		return d.Close()
	}
	var errs []error
	if !d.ReadOnly {
		errs = append(errs, d.Sync())
	}
	errs = append(errs, closeAll(&d.file, &d.seen))
	if !d.IsFile && !d.ReadOnly { // the lock is kept: a run of ours that comes now would be what holds it
		if who := d.waitUntilFree(ctx); who != "" {
			tell.Warn(ctx, "disk %s is still open %v after it was released, %s: what deactivates it next may fail", d.Path, freeTime, who)
		}
	}
	return errors.Join(append(errs, d.Close())...)
}

// waitUntilFree returns what has the disk open in the end; "" is nothing.
func (d *Disk) waitUntilFree(ctx context.Context) (who string) {
	end := time.Now().Add(freeTime)
	var wait tell.Wait
	isOver := func() bool { return ctx.Err() != nil || time.Now().After(end) }
	// The kernel lets go of a loop device's file, which has our claim, a moment after the
	// device is gone.
	for d.isClaimed() && !isOver() {
		time.Sleep(freePause)
	}
	d.found.Close() // it would be found as well
	d.found = nil
	settleUdev(ctx, min(settleTime, max(0, time.Until(end))))
	for {
		isOpen, isKnown := d.isMapOpen()
		if isKnown && !isOpen {
			return ""
		}
		if who = d.openBy(d.proc, func(string) bool { return true }); who == "" && !isKnown {
			return ""
		}
		if isOver() {
			return cmp.Or(who, "used by the kernel")
		}
		wait.For(ctx, "%s to be free: it is %s", d.Path, cmp.Or(who, "used by the kernel"))
		time.Sleep(freePause)
	}
}

// isClaimed reports whether somebody has the disk exclusively.
func (d *Disk) isClaimed() bool {
	f, err := d.open(os.O_RDONLY | unix.O_EXCL)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, unix.EBUSY)
}

// settleUdev waits until systemd-udevd, where there is one, has seen what was closed and
// has done its work. Its socket answers only after it has read what inotify and the kernel
// told it, so nothing is missed.
func settleUdev(ctx context.Context, most time.Duration) {
	if _, err := os.Stat("/run/udev/control"); err == nil {
		command.Run(ctx, command.Cmd{Args: []string{"udevadm", "settle", fmt.Sprintf("--timeout=%.0f", most.Seconds())}, Quiet: true})
	}
}

// isMapOpen asks device-mapper whether anybody has the device open (linux/dm-ioctl.h,
// DM_DEV_STATUS); it isn't known of what is no device of its.
func (d *Disk) isMapOpen() (isOpen, isKnown bool) {
	if _, err := os.Stat(d.sysfs() + "/dm"); err != nil {
		return false, false
	}
	control, err := os.Open("/dev/mapper/control")
	if err != nil {
		return false, false
	}
	defer control.Close()
	status := unix.DmIoctl{Version: [3]uint32{4}, Dev: d.stat.Rdev}
	status.Data_size = uint32(unix.SizeofDmIoctl)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), unix.DM_DEV_STATUS, uintptr(unsafe.Pointer(&status)))
	if errno != 0 {
		return false, errno == unix.ENXIO // it is gone
	}
	return status.Open_count > 0, true
}
