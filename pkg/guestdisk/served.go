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
	dir    string
	device string   // the loop device, wherever else it is mounted meanwhile
	pin    *os.File // of the filesystem, in no folder: it keeps nobody from unmounting, and learns what couldn't be written
}

// Keep takes a folder on which a filesystem was just mounted, and unmounts it where that
// can't be kept.
func Keep(dir string) (*Kept, error) {
	k, err := keep(dir)
	if err != nil {
		err = errors.Join(err, filesystem.Unmount(dir))
	}
	return k, err
}

func keep(dir string) (*Kept, error) {
	device, err := filesystem.MountSource(dir)
	if err != nil {
		return nil, err
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open_tree %s: %w", dir, err)
	}
	defer unix.Close(tree)
	fd, err := unix.Openat(tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return &Kept{dir, device, os.NewFile(uintptr(fd), dir)}, nil
}

// UntilUnmounted waits until the filesystem is unmounted wherever it is, or does that itself
// when the context ends, and until nobody uses it: nothing may be lost that is written to it.
// The error is also that something of it couldn't be written to the disk.
func (k *Kept) UntilUnmounted(ctx context.Context) error {
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
		case <-ctx.Done():
			told = k.unmount(ctx, points, told)
		default:
		}
		time.Sleep(time.Second / 4)
	}
	err := unix.Syncfs(int(k.pin.Fd())) // syncfs(2): errors since it was opened are told too
	if err != nil {
		err = fmt.Errorf("what was written to %s may not be on the disk, which could not be written to: %w", k.dir, err)
	}
	k.pin.Close()
	for attached(k.device) { // by a process that uses it since a lazy unmount, or in another namespace
		time.Sleep(time.Second / 4)
	}
	return err
}

// unmount unmounts what can be, and names once who keeps it.
func (k *Kept) unmount(ctx context.Context, points []string, told bool) bool {
	for _, point := range slices.Backward(points) {
		if err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW); err != nil && !told {
			told = true
			tell.Warn(ctx, "%s is used by %s: this command ends when nobody uses it (%v)", point, strings.Join(session.UsersOf(point), ", "), err)
		}
	}
	return told
}

// attached reports whether a loop device is over anything.
func attached(device string) bool {
	_, err := os.Stat("/sys/block/" + filepath.Base(device) + "/loop/backing_file")
	return err == nil
}
