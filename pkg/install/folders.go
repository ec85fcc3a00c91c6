package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/receipt"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
)

// part is a partition beside the root, for a folder or swap, or a subvolume of one, or of the
// root's.
type part struct {
	line   settings.LayoutLine
	number int
	device string // "" is a filesystem that was there, and stays as it is
	uuid   string
}

// makeParts makes the filesystems of a disk's partitions, and swap, but not the root's.
func makeParts(ctx context.Context, s *session.Session, c Choice, disk int, loop *blockdev.Loop, table partition.Layout, isBlank bool) (parts []part, err error) {
	lines, wanted := c.partsOn(disk)
	for i, want := range wanted {
		p, at := part{line: lines[i], number: want.Number}, numbered(table, want.Number)
		if isRoot(p.line) {
			continue
		}
		if p.device, err = loop.AddPartition(at.Number, at.StartSector, at.Sectors); err != nil {
			return nil, err
		}
		if !isBlank {
			if err := filesystem.Wipe(ctx, p.device); err != nil {
				return nil, err
			}
		}
		if p.line.Folder == "" {
			p.uuid, err = filesystem.MakeSwap(ctx, p.device)
		} else {
			p.uuid, err = filesystem.Make(ctx, filesystem.Spec{Type: filesystem.Type(p.line.Filesystem), Device: p.device, Suite: c.Settings.Suite})
		}
		if err == nil {
			err = c.makeSubvolumes(ctx, s, p.device, p.line)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cmp.Or(p.line.Folder, "swap"), err)
		}
		parts = append(append(parts, p), c.subvolumeParts(p)...)
	}
	return parts, nil
}

// subvolumeParts are the further subvolumes of a partition.
func (c Choice) subvolumeParts(of part) (parts []part) {
	for _, l := range c.subvolumesOf(of.line) {
		of.line = l
		parts = append(parts, of)
	}
	return parts
}

// makeSubvolumes makes all of a new btrfs, if its line names one: that is the default then.
func (c Choice) makeSubvolumes(ctx context.Context, s *session.Session, device string, line settings.LayoutLine) error {
	if line.Subvolume == "" {
		return nil
	}
	names := []string{line.Subvolume}
	for _, l := range c.subvolumesOf(line) {
		names = append(names, l.Subvolume)
	}
	dir, err := os.MkdirTemp(s.WorkDir, "subvolumes-")
	if err != nil {
		return err
	}
	return errors.Join(filesystem.MakeSubvolumes(ctx, device, dir, names), os.Remove(dir))
}

// swapUUIDs are those of the swap beside the root.
func (r rootDisk) swapUUIDs() (uuids []string) {
	for _, p := range r.parts {
		if p.line.Folder == "" {
			uuids = append(uuids, p.uuid)
		}
	}
	return uuids
}

// folderMounts are fstab's lines of the folders with filesystems of their own. Without one
// the guest isn't whole, so it doesn't start without.
func (r rootDisk) folderMounts(readOnly bool) (mounts []guest.Mount) {
	for _, p := range r.parts {
		if p.line.Folder == "" {
			continue
		}
		options, pass := filesystem.FstabOptions(filesystem.Type(p.line.Filesystem), readOnly)
		if pass == 1 {
			options, pass = "defaults", 2
		}
		options = inSubvolume(options, p.line)
		mounts = append(mounts, guest.Mount{UUID: p.uuid, Folder: p.line.Folder, Filesystem: p.line.Filesystem, Options: options, Pass: pass})
	}
	return mounts
}

// inSubvolume adds to fstab's options the subvolume that a folder is in, if any.
func inSubvolume(options string, l settings.LayoutLine) string {
	if l.Subvolume != "" {
		options += ",subvol=" + l.Subvolume
	}
	return options
}

// folderReceipts is what the receipt says of them.
func (r rootDisk) folderReceipts() (list []receipt.Filesystem) {
	for _, p := range r.parts {
		if l := p.line; l.Folder != "" {
			list = append(list, receipt.Filesystem{Folder: l.Folder, Type: l.Filesystem, UUID: p.uuid, Subvolume: l.Subvolume})
		}
	}
	return list
}

// bootPart is what has /boot; nil is that the root has it.
func (r rootDisk) bootPart() *part {
	if i := slices.IndexFunc(r.parts, func(p part) bool { return p.line.Folder == "/boot" }); i >= 0 {
		return &r.parts[i]
	}
	return nil
}

// partWith is the partition that a path lies on; nil is the root's.
func (r rootDisk) partWith(path string) (found *part) {
	for i, p := range r.parts {
		if p.line.Folder != "" && strings.HasPrefix(path, p.line.Folder+"/") && (found == nil || len(p.line.Folder) > len(found.line.Folder)) {
			found = &r.parts[i]
		}
	}
	return found
}

func (o *Order) hasFolders(context.Context) (bool, string) {
	return session.NeededIf(len(o.folders())+len(o.furtherIndexes()) > 0, "LAYOUT is not set, or has the root alone")
}

// fillFolders moves the files of the folders onto their own filesystems, those below before
// those above.
func fillFolders(ctx context.Context, s *session.Session, o *Order, r rootDisk) error {
	for _, p := range slices.Backward(r.parts) {
		if p.line.Folder == "" || p.device == "" {
			continue
		}
		if err := moveFolder(ctx, s, r, p.line.Folder, p.device, p.line.Subvolume, filesystem.Type(p.line.Filesystem)); err != nil {
			return fmt.Errorf("%s (%s:%d): %w", p.line.Folder, o.layoutPath(), p.line.Line, err)
		}
	}
	return nil
}

// moveFolder moves the files of a folder onto the filesystem of a device, or into a subvolume
// of it. On one btrfs that takes no room, where the kernel can (Linux 5.18). Until then they
// were on the root's: hooks saw one tree, and no path led out of it. A folder that is
// missing is made. What a hook has left mounted in the tree may be the node's, so it is
// unmounted before anything is removed.
func moveFolder(ctx context.Context, s *session.Session, r rootDisk, folder, device, subvolume string, t filesystem.Type) error {
	if err := errors.Join(s.EndStrays(ctx, r.target), filesystem.UnmountBelow(r.target)); err != nil {
		return err
	}
	err := guest.Edit(ctx, r.target, func(root *guest.Root) error {
		there, err := root.IsPlain(folder)
		if err != nil {
			return fmt.Errorf("%w: have it be a folder, or give the one that it leads to a filesystem", err)
		}
		if !there {
			err = root.MkdirAll(folder, 0o755)
		}
		return err
	})
	if err != nil {
		return err
	}
	mark := s.Mark()
	to, err := mountFolder(ctx, s, r, device, subvolume, t)
	if err != nil {
		return err
	}
	from := filepath.Join(r.target, folder)
	// Attributes that can't be copied are an error only where they are named.
	if err := command.Run(ctx, command.Cmd{Quiet: true, Args: []string{"cp", "--archive", "--one-file-system", "--reflink=auto", "--preserve=xattr", from + "/.", to}}); err != nil {
		if filesystem.IsFull(to) {
			err = fmt.Errorf("its filesystem is full: give it more, or have hooks put less there: %w", err)
		}
		return err
	}
	top, err := os.Open(to)
	if err = cmp.Or(err, filesystem.SyncTree(top)); err != nil { // before anything is removed
		return err
	}
	entries, err := os.ReadDir(from)
	for _, e := range entries {
		err = cmp.Or(err, os.RemoveAll(filepath.Join(from, e.Name())))
	}
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w: what is immutable or append-only (chattr) can't be moved: have the guest make it so, on its first boot", err)
	}
	return errors.Join(err, s.UndoTo(ctx, mark))
}

// mountFolder mounts the filesystem of a folder, or a subvolume, beside the root's.
func mountFolder(ctx context.Context, s *session.Session, r rootDisk, device, subvolume string, t filesystem.Type) (dir string, err error) {
	s.Defer("sync "+device, func(context.Context) error { return filesystem.SyncDevice(device) })
	return mount(s, r.loop, "folder", func(dir string) error {
		return filesystem.MountWith(ctx, device, dir, t, filesystem.MountOptions{Subvolume: subvolume})
	})
}
