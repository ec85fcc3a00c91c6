package guestdisk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// Mount mounts the root filesystem of a disk, as create makes it, on a folder that
// exists, in the node's own namespace: a plain umount frees all. It is a guest's:
// without devices, set-user-ID and programs. A disk that something uses is mounted
// only read-only.
func Mount(ctx context.Context, s *session.Session, disk string, fsck Fsck, dir string, readOnly bool) error {
	_, err := mount(ctx, s, disk, fsck, dir, readOnly)
	return err
}

// mount is Mount, and returns the loop device.
func mount(ctx context.Context, s *session.Session, disk string, fsck Fsck, dir string, readOnly bool) (device string, err error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", fmt.Errorf("folder to mount on: %w", err)
	}
	if real != filepath.Clean(dir) { // it may be a link in a guest's tree
		return "", fmt.Errorf("%s leads to %s: if that is meant, name it", dir, real)
	}
	folder, err := openFolder(dir)
	if err != nil {
		return "", err
	}
	defer folder.Close()
	points, err := filesystem.MountsBelow(filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	if slices.Contains(points, dir) {
		return "", fmt.Errorf("something is mounted on %s already: umount it first, or name another folder", dir)
	}
	device, err = MountOn(ctx, s, disk, fsck, fmt.Sprintf("/proc/self/fd/%d", folder.Fd()), readOnly, false)
	if err == nil && isOpen(dir) {
		tell.Warn(ctx, "every user of this node can go to %s, and has there what the guest's user of the same number has: to prevent that, mount it on a folder that lies in one with mode 0700, such as /root/guest", dir)
	}
	return device, err
}

// isOpen tells whether everybody may pass the folders that a folder is in.
func isOpen(dir string) bool {
	for dir != "/" {
		dir = filepath.Dir(dir)
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm()&0o001 == 0 {
			return false
		}
	}
	return true
}

// openFolder opens a folder that is reached without a link: what is mounted on its
// descriptor lands there, whatever the owner of a folder above makes of its name
// meanwhile.
func openFolder(dir string) (*os.File, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, dir, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("%s is not a folder: name one to mount on", dir)
	case err != nil:
		return nil, fmt.Errorf("folder to mount on: %s: %w", dir, err)
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// MountOn mounts the one filesystem of a disk, or of its one root partition, on a folder
// that the caller has looked at. The loop device, which it returns, lasts as long as the mount. live says
// that the caller knows, and has told, that a guest uses the disk.
func MountOn(ctx context.Context, s *session.Session, path string, fsck Fsck, dir string, readOnly, live bool) (device string, err error) {
	disk, usedBy, err := openToMount(ctx, s, path, fsck, readOnly)
	if err != nil {
		return "", err
	}
	if usedBy != "" && !live {
		live = true
		tell.Warn(ctx, "%s is in use (%s): what is seen is some moments old, and may look damaged", path, usedBy)
	}
	layout, root, err := disk.Root()
	if err != nil {
		return "", err
	}
	if apart := describeApart(partitionsOf(layout)); apart != "" {
		tell.Warn(ctx, "what is mounted is the guest's root alone, partition %d of %s: %s are filesystems of their own, and not seen", root.Number, path, apart)
	}
	part, err := attach(ctx, disk.File(), root, fsck, readOnly)
	if err != nil {
		return "", err
	}
	defer part.loop.Leave()
	part.name = path
	t, err := part.Type()
	if err != nil {
		return "", err
	}
	if _, err := part.claimed(t); err != nil {
		return "", err
	}
	if !readOnly {
		if err := filesystem.Repair(ctx, part.Device, t); err != nil {
			return "", err
		}
	}
	if live && fsck == Full {
		return "", errors.New("GUEST_FSCK=full: it isn't mounted: what a guest uses can't be checked; shut it down first")
	}
	if err := part.checkInFull(ctx, t); err != nil {
		return "", err
	}
	options := filesystem.MountOptions{Untrusted: true, ReadOnly: readOnly, NoReplay: readOnly && live}
	err = filesystem.MountWith(ctx, part.Device, dir, t, options)
	if readOnly && errors.Is(err, filesystem.ErrNeedsReplay) {
		tell.Warn(ctx, "%s was not unmounted cleanly, and its log is not replayed: what is seen may be old or damaged", path)
		options.NoReplay = true
		err = filesystem.MountWith(ctx, part.Device, dir, t, options)
	}
	return part.Device, err
}

// openToMount opens a disk for itself alone, unless it is only read. The mount's loop device
// has it open for as long as it lasts, so that nobody waits here for it to come free.
func openToMount(ctx context.Context, s *session.Session, path string, fsck Fsck, readOnly bool) (*Disk, string, error) {
	if readOnly {
		return Look(ctx, s, path, fsck)
	}
	d, err := blockdev.Open(path, paths.LockDir, s.HostProc)
	if err != nil {
		return nil, "", err
	}
	s.Defer("close "+path, func(context.Context) error { return errors.Join(d.Sync(), d.Close()) })
	return &Disk{d, s, fsck}, "", nil
}
