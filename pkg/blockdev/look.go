package blockdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Look describes a disk without claiming it, for plans: its size in bytes, and
// what uses it ("" is nothing that was found).
func Look(path, lockDir string) (sizeBytes int64, usedBy string, err error) {
	d := &Disk{Path: path}
	if err := d.look(); err != nil {
		return 0, "", err
	}
	defer d.Close()
	if sizeBytes, err = d.size(); err != nil {
		return 0, "", err
	}
	if usedBy = d.usedBy(nil); usedBy == "" && !d.IsFile {
		if stacked := glob(d.sysfs() + "/holders/*"); len(stacked) > 0 {
			usedBy = "claimed by " + d.holders()
		}
	}
	if usedBy != "" { // asked for only then: the question keeps a run off for a moment
		usedBy = cmp.Or(d.runOfOurs(lockDir), usedBy)
	}
	return sizeBytes, usedBy, err
}

// InUse refuses a disk that something uses; "" is nothing.
func InUse(path, usedBy string) error {
	if usedBy == "" {
		return nil
	}
	return fmt.Errorf("disk %s is in use: %s; stop what uses it first", path, usedBy)
}

// Size is the size in bytes of a file or block device, whatever is on it.
func Size(path string) (sizeBytes int64, isFile bool, err error) {
	d := &Disk{Path: path}
	if err := d.look(); err != nil {
		return 0, false, err
	}
	defer d.Close()
	sizeBytes, err = d.size()
	return sizeBytes, d.IsFile, err
}

func (d *Disk) size() (int64, error) {
	if d.IsFile {
		return d.stat.Size, nil
	}
	f, err := d.open(os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return deviceSize(f)
}

// Writable says why a disk can't be written to, without opening it for that.
func Writable(path string) error {
	d := &Disk{Path: path}
	err := d.look()
	if err != nil {
		return err
	}
	defer d.Close()
	err = unix.Access(d.Path, unix.W_OK)
	if err == nil && !d.IsFile {
		f, err := d.open(os.O_RDONLY)
		if err != nil {
			return err
		}
		defer f.Close()
		if readOnly, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET); err != nil || readOnly != 0 {
			return fmt.Errorf("disk %s can't be written to: %w", path, cmp.Or(err, error(unix.EROFS)))
		}
	}
	if err != nil {
		return fmt.Errorf("disk %s can't be written to: %w", path, err)
	}
	return nil
}

// OpenToLook opens a disk read-only, for looking at it. It is claimed like any
// other unless something uses it, which usedBy then names: as long as it is open no
// QEMU starts that would write to it. Two that look at it do so one after the other.
func OpenToLook(ctx context.Context, path, lockDir string, hostProc *os.Root) (d *Disk, usedBy string, err error) {
	d = &Disk{Path: path, SectorSize: 512, ReadOnly: true, proc: hostProc}
	if err := d.look(); err != nil {
		d.Close()
		return nil, "", err
	}
	if usedBy = d.takeLooksLock(ctx, lockDir); usedBy == "" {
		usedBy = d.usedBy(hostProc)
	}
	if usedBy != "" {
		if err := closeAll(&d.looking, &d.lock); err != nil {
			d.Close()
			return nil, "", err
		}
	}
	f, err := d.open(os.O_RDONLY | unix.O_EXCL)
	if errors.Is(err, unix.EBUSY) {
		usedBy = cmp.Or(usedBy, "claimed by "+d.holders())
		f, err = d.open(os.O_RDONLY)
	}
	switch {
	case err != nil:
		err = fmt.Errorf("disk: %w", err)
	default:
		if err = d.measure(f); err == nil && usedBy == "" {
			err = d.lockAsQEMU(false)
		}
	}
	if err != nil {
		d.Close()
		return nil, "", err
	}
	return d, usedBy, nil
}
