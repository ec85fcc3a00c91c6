// Package guestdisk works on a disk that a guest has written, or is to be given what some
// guest wrote. Nothing on it is trusted: the kernel is shown one partition and never a
// table, and what is mounted has no devices, set-user-ID and programs.
//
// A claimed Disk has an attached Part, and that a mounted Tree. Each is released by the
// undo stack of the session, in reverse order.
package guestdisk

import (
	"context"
	"errors"
	"fmt"
	"os"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
)

// Fsck is GUEST_FSCK: how a filesystem is checked before it is mounted.
type Fsck string

// Full is to look at all of it; otherwise, it is checked as the guest's own boot would.
const Full Fsck = "full"

// Disk is a disk that is claimed.
type Disk struct {
	*blockdev.Disk
	session *session.Session
	fsck    Fsck
}

// Claim opens a disk for writing, and for this run alone.
func Claim(s *session.Session, path string, fsck Fsck) (*Disk, error) {
	d, err := blockdev.Open(path, paths.LockDir, s.HostProc)
	if err != nil {
		return nil, err
	}
	s.Defer("release "+path, d.Release)
	s.Over(d.Node(), d.Path)
	return &Disk{d, s, fsck}, nil
}

// Of is a disk that the run has claimed already.
func Of(s *session.Session, d *blockdev.Disk, fsck Fsck) *Disk { return &Disk{d, s, fsck} }

// ClaimForReading opens a disk to be read: for writing, where that can be done, since a
// journal may need it.
func ClaimForReading(s *session.Session, path string, fsck Fsck) (*Disk, error) {
	d, err := blockdev.OpenAny(path, paths.LockDir, s.HostProc)
	return reading(s, d, path, fsck), err
}

// Look opens a disk of which no byte is changed, also while something uses it: usedBy
// says what.
func Look(ctx context.Context, s *session.Session, path string, fsck Fsck) (_ *Disk, usedBy string, err error) {
	d, usedBy, err := blockdev.OpenToLook(ctx, path, paths.LockDir, s.HostProc)
	return reading(s, d, path, fsck), usedBy, err
}

func reading(s *session.Session, d *blockdev.Disk, path string, fsck Fsck) *Disk {
	if d == nil {
		return nil
	}
	s.Defer("release "+path, d.Release)
	s.Over(d.Node(), d.Path)
	return &Disk{d, s, fsck}
}

// Root returns the partition that holds the disk's filesystem, or its guest's root, when the
// disk's layout is one of ours. The error says why it isn't.
func (d *Disk) Root() (layout partition.Layout, root partition.Partition, err error) {
	return rootOf(d.File(), d.SizeBytes)
}

// Part is a partition of a disk, or the whole disk, with a loop device over it.
type Part struct {
	Device string // of the node

	session  *session.Session
	loop     *blockdev.Loop
	name     string // of the disk, for messages
	fsck     Fsck
	readOnly bool            // not a byte of it can be written
	found    filesystem.Info // on it when it was attached
	unread   error           // why that isn't known
}

// Attach puts a loop device over a partition. No table on the disk is ever shown to the
// kernel.
func (d *Disk) Attach(ctx context.Context, p partition.Partition, readOnly bool) (*Part, error) {
	part, err := AttachFile(ctx, d.session, d.File(), p, d.fsck, readOnly)
	if err == nil {
		part.name = d.Path
		d.session.Over(part.Device, d.Path)
	}
	return part, err
}

// AttachFile puts a loop device over a partition of an open disk, or of its image.
func AttachFile(ctx context.Context, s *session.Session, f *os.File, p partition.Partition, fsck Fsck, readOnly bool) (*Part, error) {
	part, err := attach(ctx, f, p, fsck, readOnly)
	if err != nil {
		return nil, err
	}
	part.session = s
	s.Defer("detach "+part.Device, func(ctx context.Context) error {
		if readOnly {
			return part.loop.Detach(ctx)
		}
		return errors.Join(part.loop.Sync(), part.loop.Detach(ctx))
	})
	return part, nil
}

// attach lets systemd-udevd at the loop device only if there is nothing, a filesystem or
// swap on it: of a guest's physical volume or part of an array, the node's own LVM or md
// would take what it is told by udev for theirs, and activate it.
func attach(ctx context.Context, f *os.File, p partition.Partition, fsck Fsck, readOnly bool) (*Part, error) {
	l, err := blockdev.AttachWindow(ctx, f, p.Offset(), p.SizeBytes(), readOnly)
	if err != nil {
		return nil, err
	}
	found, unread := filesystem.Probe(ctx, l.Path)
	if unread == nil && (found.Type == "" || found.Type == "swap" || found.Usage == "filesystem") {
		l.Unlock()
	}
	return &Part{Device: l.Path, loop: l, name: f.Name(), fsck: fsck, readOnly: readOnly, found: found, unread: unread}, nil
}

// ForReading is the part for who only reads what is mounted.
func (p Part) ForReading() *Part {
	p.readOnly = true
	return &p
}

// AttachRoot attaches the root filesystem for writing. remedy says what to do about a disk
// of which we don't know where that is.
func (d *Disk) AttachRoot(ctx context.Context, remedy string) (*Part, error) {
	_, root, err := d.Root()
	if err != nil {
		return nil, noRoot(d.Path, err, remedy)
	}
	return d.Attach(ctx, root, false)
}

func noRoot(disk string, why error, remedy string) error {
	return fmt.Errorf("disk %s: %w: %s", disk, why, remedy)
}

// UUID is that of the filesystem that was on it when it was attached; "" is none.
func (p *Part) UUID() string { return p.found.UUID }

// Type returns the type of the filesystem that was on it when it was attached, by our own
// probe: one of those that we make.
func (p *Part) Type() (filesystem.Type, error) {
	if p.unread != nil {
		return "", p.unread
	}
	return mountable(p.name, p.found)
}

// mountable returns the type of a filesystem of those that we make, and refuses others.
func mountable(disk string, found filesystem.Info) (filesystem.Type, error) {
	t, err := filesystem.ParseType(found.Type)
	if err != nil {
		return "", fmt.Errorf("disk %s holds %s, and only ext2, ext3, ext4, xfs and btrfs are mounted", disk, found)
	}
	return t, nil
}

// Grow makes the filesystem, which has been checked, as large as its partition.
func (p *Part) Grow(ctx context.Context, t filesystem.Type) error {
	return p.onFolder(func(dir string) error { return filesystem.Grow(ctx, p.Device, t, dir) })
}

// onFolder gives a job an empty folder to mount on.
func (p *Part) onFolder(job func(dir string) error) error {
	dir, err := os.MkdirTemp(p.session.WorkDir, "grow-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	return job(dir)
}

// Tree is a filesystem that is mounted.
type Tree struct {
	Dir  string
	Type filesystem.Type
	*Part
	beside []string      // the guest's folders on which more of it is mounted
	parts  map[int]*Part // those that are attached, by their numbers
}

// MountRepaired mounts the filesystem for writing, after what its guest's own boot would
// check.
func (p *Part) MountRepaired(ctx context.Context) (*Tree, error) {
	t, err := p.Type()
	if err != nil {
		return nil, err
	}
	if err := filesystem.Repair(ctx, p.Device, t); err != nil {
		return nil, err
	}
	return p.Mount(ctx, t)
}

// Mount mounts the filesystem, for writing if the part is.
func (p *Part) Mount(ctx context.Context, t filesystem.Type) (*Tree, error) {
	s := p.session
	if err := p.checkInFull(ctx, t); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.WorkDir, "guest-")
	if err != nil {
		return nil, err
	}
	s.Defer("remove "+dir, func(context.Context) error { return os.Remove(dir) })
	if err := p.mountOn(ctx, dir, dir, t, ""); err != nil {
		return nil, err
	}
	return &Tree{Dir: dir, Type: t, Part: p}, nil
}

// mountOn mounts the filesystem, or a subvolume of it, on a folder, dir, which may be reached by
// another name.
func (p *Part) mountOn(ctx context.Context, by, dir string, t filesystem.Type, subvolume string) error {
	options := filesystem.MountOptions{Untrusted: true, ReadOnly: p.readOnly, Subvolume: subvolume}
	if err := filesystem.MountWith(ctx, p.Device, by, t, options); err != nil {
		return err
	}
	top, err := os.Open(dir)
	if err != nil {
		return errors.Join(err, filesystem.Unmount(dir))
	}
	unmount := filesystem.Unmounting(dir)
	p.session.Defer("unmount "+dir, func(context.Context) error {
		if p.readOnly {
			return errors.Join(top.Close(), unmount(dir))
		}
		return errors.Join(filesystem.SyncTree(top), unmount(dir))
	})
	return nil
}

// checkInFull is GUEST_FSCK=full, before the node's kernel mounts what a guest wrote.
func (p *Part) checkInFull(ctx context.Context, t filesystem.Type) error {
	if p.fsck != Full {
		return nil
	}
	if err := filesystem.CheckInFull(ctx, p.Device, t, p.readOnly); err != nil {
		return fmt.Errorf("GUEST_FSCK=full: it isn't mounted: %w", err)
	}
	return nil
}
