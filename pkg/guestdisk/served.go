package guestdisk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// Kept is a mount whose disk this process serves: it must see the filesystem's end.
type Kept struct {
	dir     string
	device  string   // the loop device, wherever else it is mounted meanwhile
	backing string   // what that is over, as sysfs has it
	pin     *os.File // of the filesystem, in no folder: it keeps nobody from unmounting, and learns what couldn't be written
}

// MountServed is Mount for a disk that is served from here. What can't be kept is unmounted.
func MountServed(ctx context.Context, s *session.Session, disk string, fsck Fsck, dir string, readOnly bool) (*Kept, error) {
	device, err := mount(ctx, s, disk, fsck, dir, readOnly)
	if err != nil {
		return nil, err
	}
	k := &Kept{dir: dir, device: device, backing: backing(device)}
	if k.pin, err = pin(dir, device); err == nil {
		return k, nil
	}
	points, _ := filesystem.MountsOf(device)
	for _, point := range points {
		err = errors.Join(err, filesystem.Unmount(point))
	}
	return nil, err
}

// pin opens the filesystem of a device that was mounted on a folder, if it is still there.
func pin(dir, device string) (*os.File, error) {
	folder, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	source, err := filesystem.SourceOf(folder)
	if err == nil && source != device {
		err = fmt.Errorf("somebody has mounted %s on %s meanwhile: try again", source, dir)
	}
	if err != nil {
		return nil, err
	}
	tree, err := unix.OpenTree(int(folder.Fd()), "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("hold what is mounted on %s: %w", dir, err)
	}
	defer unix.Close(tree)
	fd, err := unix.Openat(tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// UntilUnmounted waits until the filesystem is unmounted wherever it is, or does that itself
// when the context ends, and until nobody uses it: nothing may be lost that is written to it.
// The error is also that something of it couldn't be written to the disk, or that who serves
// it has ended: then nobody is waited for.
func (k *Kept) UntilUnmounted(ctx context.Context, ended <-chan struct{}) error {
	told := false
	for {
		points, err := filesystem.MountsOf(k.device)
		if err != nil {
			return errors.Join(err, k.pin.Close())
		}
		if len(points) == 0 {
			break
		}
		select {
		case <-ended:
			return k.abandon(points)
		default:
		}
		select {
		case <-ctx.Done():
			told = k.unmount(ctx, points, told)
		default:
		}
		select {
		case <-ended:
		case <-time.After(time.Second / 4):
		}
	}
	err := unix.Syncfs(int(k.pin.Fd())) // syncfs(2): errors since it was opened are told too
	if err != nil {
		err = fmt.Errorf("what was written to %s may not be on the disk, which could not be written to: %w", k.dir, err)
	}
	k.pin.Close()
	for backing(k.device) == k.backing { // by a process that uses it since a lazy unmount, or in another namespace
		time.Sleep(time.Second / 4)
	}
	return err
}

// abandon unmounts a filesystem whose disk is gone, whoever uses it.
func (k *Kept) abandon(points []string) error {
	k.pin.Close()
	for _, point := range slices.Backward(points) {
		if on, err := filesystem.MountSource(point); err == nil && on == k.device {
			_ = unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	}
	return fmt.Errorf("what served the disk has ended: %s is unmounted, and what was written to it last may not be on the disk", k.dir)
}

// unmount unmounts what can be, and names once who keeps it.
func (k *Kept) unmount(ctx context.Context, points []string, told bool) bool {
	for _, point := range slices.Backward(points) {
		if on, err := filesystem.MountSource(point); err != nil || on != k.device {
			continue // somebody has mounted something else over it
		}
		if err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW); err != nil && !told {
			told = true
			tell.Warn(ctx, "%s is used by %s: this command ends when nobody uses it (%v)", point, strings.Join(session.UsersOf(point), ", "), err)
		}
	}
	return told
}

// backing is what a loop device is over; "" is nothing.
func backing(device string) string {
	text, _ := os.ReadFile("/sys/block/" + filepath.Base(device) + "/loop/backing_file")
	return string(text)
}
