package guestdisk

import (
	"cmp"
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

// Kept are mounts whose disk this process serves: it must see their filesystems' end.
type Kept struct {
	Mounted
	dir     string
	backing map[string]string // what the loop devices are over, as sysfs has it
	pins    []*os.File        // of each filesystem, in no folder: they keep nobody from unmounting, and learn what couldn't be written
}

// MountServed is Mount for a disk that is served from here. What can't be kept is unmounted.
func MountServed(ctx context.Context, s *session.Session, disk string, fsck Fsck, dir string, readOnly bool) (*Kept, error) {
	mounted, err := Mount(ctx, s, disk, fsck, dir, readOnly)
	if err != nil {
		return nil, err
	}
	k := &Kept{Mounted: mounted, dir: dir, backing: map[string]string{}}
	for _, device := range k.Devices {
		k.backing[device] = backing(device)
		err = errors.Join(err, k.pin(device))
	}
	if err == nil {
		return k, nil
	}
	k.unpin()
	points, _ := k.points()
	return nil, errors.Join(err, filesystem.UnmountAll(points))
}

// points are where they are mounted, those above before those below.
func (k *Kept) points() (points []string, err error) {
	for _, device := range k.Devices {
		of, listErr := filesystem.MountsOf(device)
		points, err = append(points, of...), errors.Join(err, listErr)
	}
	slices.Sort(points)
	return points, err
}

// pin opens the filesystem of a device where it was mounted, if it is still there.
func (k *Kept) pin(device string) error {
	points, err := filesystem.MountsOf(device)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(points, func(point string) bool { return point == k.dir || strings.HasPrefix(point, k.dir+"/") })
	if at < 0 {
		return fmt.Errorf("somebody has unmounted %s meanwhile: try again", k.dir)
	}
	folder, err := openMounted(points[at], device)
	if err != nil {
		return err
	}
	defer folder.Close()
	tree, err := unix.OpenTree(int(folder.Fd()), "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("hold what is mounted on %s: %w", k.dir, err)
	}
	defer unix.Close(tree)
	fd, err := unix.Openat(tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", k.dir, err)
	}
	k.pins = append(k.pins, os.NewFile(uintptr(fd), k.dir))
	return nil
}

func (k *Kept) unpin() {
	for _, pin := range k.pins {
		pin.Close()
	}
	k.pins = nil
}

// sync writes all of it out; the error is also what couldn't be written since it was mounted.
func (k *Kept) sync() (err error) {
	for _, pin := range k.pins {
		err = cmp.Or(err, unix.Syncfs(int(pin.Fd()))) // syncfs(2)
	}
	if err != nil {
		err = fmt.Errorf("what was written to %s may not be on the disk, which could not be written to: %w", k.dir, err)
	}
	return err
}

// isUsed tells whether a filesystem still lives.
func (k *Kept) isUsed() bool {
	return slices.ContainsFunc(k.Devices, func(device string) bool { return backing(device) == k.backing[device] })
}

// UntilUnmounted waits until the filesystems are unmounted wherever they are, or does that itself
// when the context ends, and until nobody uses them: nothing may be lost that is written to them.
// The error is also that something of it couldn't be written to the disk, or that who serves
// it has ended: then nobody is waited for.
func (k *Kept) UntilUnmounted(ctx context.Context, ended <-chan struct{}) error {
	defer k.unpin()
	told := false
	for {
		points, err := k.points()
		if err != nil {
			return err
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
	err := k.sync()
	k.unpin()
	for k.isUsed() { // by a process that uses it since a lazy unmount, or in another namespace
		time.Sleep(time.Second / 4)
	}
	return err
}

// abandon unmounts a filesystem whose disk is gone, whoever uses it.
func (k *Kept) abandon(points []string) error {
	k.unpin()
	for _, point := range slices.Backward(points) {
		if on, err := filesystem.MountSource(point); err == nil && slices.Contains(k.Devices, on) {
			_ = unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	}
	return fmt.Errorf("what served the disk has ended: %s is unmounted, and what was written to it last may not be on the disk", k.dir)
}

// unmount unmounts what can be, and names once who keeps it.
func (k *Kept) unmount(ctx context.Context, points []string, told bool) bool {
	for _, point := range slices.Backward(points) {
		if on, err := filesystem.MountSource(point); err != nil || !slices.Contains(k.Devices, on) {
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
