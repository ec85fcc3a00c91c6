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
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/tell"
)

// Mount mounts the root filesystem of a disk, as create makes it, on a folder that
// exists, in the node's own namespace: a plain umount frees all. It is a guest's:
// without devices, set-user-ID and programs. A disk that something uses is mounted
// only read-only.
func Mount(ctx context.Context, fsck, disk, dir string, readOnly bool) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("folder to mount on: %w", err)
	}
	if real != filepath.Clean(dir) { // it may be a link in a guest's tree
		return fmt.Errorf("%s leads to %s: if that is meant, name it", dir, real)
	}
	folder, err := openFolder(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	points, err := filesystem.MountsBelow(filepath.Dir(dir))
	if err != nil {
		return err
	}
	if slices.Contains(points, dir) {
		return fmt.Errorf("something is mounted on %s already: umount it first, or name another folder", dir)
	}
	if isOpen(dir) {
		tell.Warn(ctx, "every user of this node can go to %s, and has there what the guest's user of the same number has: to prevent that, mount it in a folder with mode 0700", dir)
	}
	return MountOn(ctx, fsck, disk, openPath(folder), readOnly, false)
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

// openPath is a path of an open file for this process.
func openPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// MountOn mounts the one filesystem of a disk, or of its one root partition, on a folder
// that the caller has looked at. The loop device lasts as long as the mount. live says
// that the caller knows, and has told, that a guest uses the disk.
func MountOn(ctx context.Context, fsck, path, dir string, readOnly, live bool) error {
	disk, usedBy, err := openToMount(path, readOnly)
	if err != nil {
		return err
	}
	defer disk.Close()
	if usedBy != "" && !live {
		live = true
		tell.Warn(ctx, "%s is in use (%s): what is seen is some moments old, and may look damaged", path, usedBy)
	}
	loop, err := attachRoot(ctx, disk, readOnly)
	if err != nil {
		return err
	}
	loop.Unlock()
	found, err := filesystem.Probe(ctx, loop.Path)
	if err != nil {
		return err
	}
	t, err := filesystem.ParseType(found.Type)
	if err != nil {
		return fmt.Errorf("it holds %s, and only ext2, ext3, ext4, xfs and btrfs are mounted", found)
	}
	if !readOnly {
		if err := filesystem.Repair(ctx, loop.Path, t); err != nil {
			return err
		}
	}
	if live && fsck == Full {
		return errors.New("GUEST_FSCK=full: it isn't mounted: what a guest uses can't be checked; shut it down first")
	}
	if err := checkInFull(ctx, fsck, loop.Path, t, readOnly); err != nil {
		return err
	}
	options := filesystem.MountOptions{Untrusted: true, ReadOnly: readOnly, NoReplay: readOnly && live}
	err = filesystem.MountWith(ctx, loop.Path, dir, t, options)
	if readOnly && errors.Is(err, filesystem.ErrNeedsReplay) {
		tell.Warn(ctx, "%s was not unmounted cleanly, and its log is not replayed: what is seen may be old or damaged", path)
		options.NoReplay = true
		err = filesystem.MountWith(ctx, loop.Path, dir, t, options)
	}
	return err
}

// openToMount opens a disk for itself alone, unless it is only read.
func openToMount(path string, readOnly bool) (d *blockdev.Disk, usedBy string, err error) {
	if readOnly {
		return blockdev.OpenToLook(path, paths.LockDir, nil)
	}
	d, err = blockdev.Open(path, paths.LockDir, nil)
	return d, "", err
}

// attachRoot puts a loop device over the one partition of a disk that has a
// filesystem, or over the whole of a disk without a table.
func attachRoot(ctx context.Context, disk *blockdev.Disk, readOnly bool) (*blockdev.Loop, error) {
	layout, err := partition.Read(disk.File(), disk.SizeBytes)
	if err != nil {
		return nil, err
	}
	p, ok, why := layout.RootPartition()
	if !ok {
		return nil, fmt.Errorf("not a layout of ours: %s", why)
	}
	return attach(ctx, disk.File(), p, readOnly)
}
