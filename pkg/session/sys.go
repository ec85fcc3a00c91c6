package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/cell"
)

// GiveSys mounts a sysfs on the folder /sys of the tree at target, read only, until
// restore is called: where a partition of a loop device begins is told by sysfs
// alone. What it has of UEFI is covered, since the guest's firmware is not the
// node's, and grub-install goes by that. A tree without the folder gets nothing.
//
// It is the sysfs of an empty network namespace. So a hook can mount the node's over
// it, which the kernel refuses on one that is the same filesystem, and unmount that.
func (s *Session) GiveSys(target string) (restore func() error, err error) {
	none := func() error { return nil }
	sys := filepath.Join(target, "sys")
	dir, err := unix.Open(sys, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return none, nil
	}
	defer unix.Close(dir)
	if err := mountEmptySys(fmt.Sprintf("/proc/self/fd/%d", dir)); err != nil {
		return none, fmt.Errorf("mount sysfs on %s: %w", sys, err)
	}
	restore = func() error {
		err := unix.Unmount(sys, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) { // a hook has unmounted it
			return nil
		}
		return err
	}
	const efi = "/firmware/efi"
	if _, err := os.Stat(sys + efi); err != nil {
		return restore, nil
	}
	if err := unix.Mount("tmpfs", sys+efi, "tmpfs", unix.MS_RDONLY, "size=4k"); err != nil {
		return none, errors.Join(fmt.Errorf("cover %s: %w", sys+efi, err), restore())
	}
	return restore, nil
}

// mountEmptySys mounts the sysfs of a new network namespace, read only: mount(2)
// takes that of its thread.
func mountEmptySys(dir string) error {
	return cell.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		return unix.Mount("sysfs", dir, "sysfs", flags, "")
	})
}
