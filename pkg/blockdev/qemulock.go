package blockdev

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// QEMU locks its images by single bytes (block/file-posix.c, and "locking" in
// qemu-blockdev(7)): each user of an image holds a shared lock on byte 100+N for each
// thing that it does, and on 200+N for each that it lets no other do, and is refused
// where another's are in its way. The locks belong to the open file (F_OFD_SETLK): a loop
// device over it holds them as long as it is attached, also after this process.
const (
	qemuDoes, qemuForbids = 100, 200

	qemuReads, qemuWrites, qemuResizes = 0, 1, 3 // BLK_PERM_CONSISTENT_READ, _WRITE, _RESIZE
)

// lockAsQEMU locks the disk as a QEMU does that reads it, or also writes to it: then no
// QEMU starts with it for writing. One that is there already is an error.
func (d *Disk) lockAsQEMU(writes bool) error {
	does, forbids := []int64{qemuReads}, []int64{qemuWrites, qemuResizes}
	if writes {
		does = append(does, qemuWrites, qemuResizes)
	}
	for base, things := range map[int64][]int64{qemuDoes: does, qemuForbids: forbids} {
		for _, thing := range things {
			lk := unix.Flock_t{Type: unix.F_RDLCK, Whence: unix.SEEK_SET, Start: base + thing, Len: 1}
			if err := unix.FcntlFlock(d.file.Fd(), unix.F_OFD_SETLK, &lk); err != nil {
				return d.withoutLocks(err)
			}
		}
	}
	// Ours are there before another's are looked for, as QEMU does it: of two at least one sees the other.
	for base, things := range map[int64][]int64{qemuForbids: does, qemuDoes: forbids} {
		for _, thing := range things {
			held, err := isLocked(d.file, base+thing, 1)
			if err != nil {
				return d.withoutLocks(err)
			}
			if held {
				return fmt.Errorf("disk %s is in use: a QEMU has begun to use it; stop that first", d.Path)
			}
		}
	}
	return nil
}

// withoutLocks takes a filesystem that has no locks, where QEMU has none either.
func (d *Disk) withoutLocks(err error) error {
	for _, none := range []error{unix.ENOLCK, unix.EOPNOTSUPP, unix.EINVAL, unix.ENOSYS} {
		if errors.Is(err, none) {
			return nil
		}
	}
	return fmt.Errorf("disk %s: lock it against QEMU: %w", d.Path, err)
}

// isLocked reports whether a program other than the holder of the open file has a lock
// on the bytes; no length is to the end.
func isLocked(f *os.File, start, length int64) (bool, error) {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET, Start: start, Len: length}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk)
	return err == nil && lk.Type != unix.F_UNLCK, err
}

// lockedByProgram asks for the locks that QEMU holds on its images (lockAsQEMU), without
// taking one. The disk is not opened for writing: systemd-udevd would read one that was.
func (d *Disk) lockedByProgram() string {
	f, err := d.open(os.O_RDONLY)
	if err != nil {
		return ""
	}
	defer f.Close()
	if held, err := isLocked(f, 0, 0); err == nil && held {
		return "a program, most likely a running QEMU, holds a lock on it"
	}
	return ""
}
