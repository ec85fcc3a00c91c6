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

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// Mounted is what of a guest was mounted.
type Mounted struct {
	Devices []string // the loop devices, the root's first
	Beside  int      // how many mounts there are below the root's
}

// Mount mounts the filesystems of a disk, as create makes it, on a folder that
// exists, in the node's own namespace: umount frees all. They are a guest's:
// without devices, set-user-ID and programs. A disk that something uses is mounted
// only read-only.
func Mount(ctx context.Context, s *session.Session, disk string, fsck Fsck, dir string, readOnly bool) (m Mounted, err error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return m, fmt.Errorf("folder to mount on: %w", err)
	}
	if real != filepath.Clean(dir) { // it may be a link in a guest's tree
		return m, fmt.Errorf("%s leads to %s: if that is meant, name it", dir, real)
	}
	folder, err := openFolder(dir)
	if err != nil {
		return m, err
	}
	defer folder.Close()
	points, err := filesystem.MountsBelow(filepath.Dir(dir))
	if err != nil {
		return m, err
	}
	if slices.Contains(points, dir) {
		return m, fmt.Errorf("something is mounted on %s already: umount it first, or name another folder", dir)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return m, cmp.Or(err, fmt.Errorf("%s isn't empty, and the guest's files would hide what is in it: name an empty folder", dir))
	}
	m, err = MountOn(ctx, s, disk, fsck, fmt.Sprintf("/proc/self/fd/%d", folder.Fd()), readOnly, false)
	if err == nil && isOpen(dir) {
		tell.Warn(ctx, "every user of this node can go to %s, and has there what the guest's user of the same number has: to prevent that, mount it on a folder that lies in one with mode 0700, such as /root/guest", dir)
	}
	return m, err
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

// MountOn mounts the one filesystem of a disk, or its guest's root and what that has beside it,
// on a folder that the caller has looked at. The loop devices last as long as the mounts. live says
// that the caller knows, and has told, that a guest uses the disk.
func MountOn(ctx context.Context, s *session.Session, path string, fsck Fsck, dir string, readOnly, live bool) (mounted Mounted, err error) {
	disk, usedBy, err := openToMount(ctx, s, path, fsck, readOnly)
	if err != nil {
		return mounted, err
	}
	if usedBy != "" && !live {
		live = true
		tell.Warn(ctx, "%s is in use (%s): what is seen is some moments old, and may look damaged", path, usedBy)
	}
	_, root, err := disk.Root()
	if err != nil {
		return mounted, err
	}
	m := &mounter{disk: disk, path: path, readOnly: readOnly, live: live, parts: map[int]*Part{}}
	defer m.leave()
	part, err := m.part(ctx, root)
	if err != nil {
		return mounted, err
	}
	if err := m.mount(ctx, part, dir, ""); err != nil {
		return mounted, err
	}
	mounted.Beside, err = m.mountBeside(ctx, part, dir)
	if err != nil {
		tell.Warn(ctx, "what is mounted is the guest's root alone: %v", err)
	}
	mounted.Devices = []string{part.Device}
	for _, p := range m.parts {
		if p != part {
			mounted.Devices = append(mounted.Devices, p.Device)
		}
	}
	return mounted, nil
}

// mounter mounts what is on a disk for its admin.
type mounter struct {
	disk           *Disk
	path           string
	readOnly, live bool
	parts          map[int]*Part // that are attached, by their numbers
}

// leave leaves the loop devices to what is mounted of them.
func (m *mounter) leave() {
	for _, p := range m.parts {
		p.loop.Leave()
	}
}

// part attaches a partition, or the whole disk, and sees to it that what is on it can be mounted.
func (m *mounter) part(ctx context.Context, p partition.Partition) (*Part, error) {
	if known := m.parts[p.Number]; known != nil {
		return known, nil
	}
	part, err := attach(ctx, m.disk.File(), p, m.disk.fsck, m.readOnly)
	if err != nil {
		return nil, err
	}
	part.name = m.path
	if err := m.prepare(ctx, part); err != nil {
		return nil, errors.Join(err, part.loop.Leave())
	}
	m.parts[p.Number] = part
	return part, nil
}

func (m *mounter) prepare(ctx context.Context, part *Part) error {
	t, err := part.Type()
	if err != nil {
		return err
	}
	if _, err := part.claimed(t); err != nil {
		return err
	}
	if !m.readOnly {
		if err := filesystem.Repair(ctx, part.Device, t); err != nil {
			return err
		}
	}
	if m.live && m.disk.fsck == Full {
		return errors.New("GUEST_FSCK=full: it isn't mounted: what a guest uses can't be checked; shut it down first")
	}
	return part.checkInFull(ctx, t)
}

func (m *mounter) mount(ctx context.Context, part *Part, dir, subvolume string) error {
	t, err := part.Type()
	if err != nil {
		return err
	}
	options := filesystem.MountOptions{Untrusted: true, ReadOnly: m.readOnly, NoReplay: m.readOnly && m.live, Subvolume: subvolume}
	err = filesystem.MountWith(ctx, part.Device, dir, t, options)
	if m.readOnly && errors.Is(err, filesystem.ErrNeedsReplay) {
		tell.Warn(ctx, "%s was not unmounted cleanly, and its log is not replayed: what is seen may be old or damaged", m.path)
		options.NoReplay = true
		err = filesystem.MountWith(ctx, part.Device, dir, t, options)
	}
	return err
}

// mountBeside mounts what the guest has beside its root, which is mounted on dir, where it
// belongs there: one that can't be is named, so that the others can be looked at.
func (m *mounter) mountBeside(ctx context.Context, root *Part, dir string) (n int, err error) {
	if strings.HasPrefix(dir, "/proc/self/fd/") { // that is what lies below the mount
		if dir, err = os.Readlink(dir); err != nil {
			return 0, err
		}
	}
	top, err := openMounted(dir, root.Device)
	if err != nil {
		return 0, err
	}
	defer top.Close()
	list, err := m.disk.apartOf(ctx, root, fmt.Sprintf("/proc/self/fd/%d", top.Fd()))
	for _, a := range list {
		if err := m.mountApart(ctx, top, a); err != nil {
			tell.Warn(ctx, "the guest's %v isn't mounted: %v", a, err)
			continue
		}
		n++
	}
	return n, err
}

func (m *mounter) mountApart(ctx context.Context, top *os.File, a apart) error {
	at, err := placeIn(top, a.folder)
	if err != nil {
		return err
	}
	defer at.Close()
	part, err := m.part(ctx, a.part)
	if err != nil {
		return err
	}
	return m.mount(ctx, part, fmt.Sprintf("/proc/self/fd/%d", at.Fd()), a.subvolume)
}

// openMounted opens the folder on which the filesystem of a device was mounted, if it is still
// there.
func openMounted(dir, device string) (*os.File, error) {
	folder, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	source, err := filesystem.SourceOf(folder)
	if err == nil && source != device {
		err = fmt.Errorf("somebody has mounted %s on %s meanwhile: try again", source, dir)
	}
	if err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return folder, nil
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
	s.Over(d.Node(), d.Path)
	return &Disk{d, s, fsck}, "", nil
}
