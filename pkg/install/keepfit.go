package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/kept"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// takesKept looks whether the new guest can have what is held, before the old one is gone.
func (c Choice) takesKept(ctx context.Context, s *session.Session, h *kept.Held, disk *blockdev.Disk, tree *cache.Entry) error {
	if err := c.fitsWithKept(ctx, h, disk, tree); err != nil {
		return err
	}
	if err := c.canPlaceKept(ctx, h, tree); err != nil {
		return err
	}
	for _, t := range c.typesOfKept(h) {
		if err := c.tryKept(ctx, s, h, t); err != nil {
			return err
		}
	}
	return nil
}

// fitsWithKept looks whether the disk has room for the tree and what is held: small files take
// more of a disk than of a tar.
func (c Choice) fitsWithKept(ctx context.Context, h *kept.Held, disk *blockdev.Disk, tree *cache.Entry) error {
	var tars []string
	if tree != nil {
		tars = append(tars, tree.Path)
	}
	room, read, err := roomOfKept(ctx, h)
	if err != nil {
		return err
	}
	if read != "" {
		tars = append(tars, read)
	}
	swap := c.swapFileRoom()
	layout, err := c.layout(disk.SizeBytes)
	if err == nil {
		err = c.fits(ctx, disk, tree, cache.Room{Bytes: room.Bytes + swap.Bytes, Inodes: room.Inodes + swap.Inodes})
	}
	if err == nil {
		err = c.foldersFit(ctx, layout, tars...)
	}
	if err != nil {
		return fmt.Errorf("with what REINSTALL_KEEP keeps: %w", err)
	}
	return nil
}

// roomOfKept is what the files take on a disk, and the tar that tells more of it; "" is one that
// we don't read, and GNU tar does: a guest's users can make it.
func roomOfKept(ctx context.Context, h *kept.Held) (room cache.Room, tar string, err error) {
	files, err := h.Open()
	if err != nil {
		return room, "", err
	}
	defer files.Close()
	if room, err = cache.RoomOf(ctx, files); err != nil {
		return cache.Room{Bytes: h.Bytes}, "", context.Cause(ctx)
	}
	return room, files.Name(), nil
}

// canPlaceKept refuses a path that the new tree has a link on the way to.
func (c Choice) canPlaceKept(ctx context.Context, h *kept.Held, tree *cache.Entry) error {
	if tree == nil {
		return nil
	}
	blocked, err := cache.InTheWay(ctx, tree.Path, h.Paths, true)
	faults := []error{err}
	for _, path := range h.Paths {
		if by := blocked[path]; by != "" {
			faults = append(faults, fmt.Errorf("REINSTALL_KEEP: %s can't be put back: %s is a link, or no folder, in the new guest's tree (%s): leave it out", path, by, tree.Path))
		}
	}
	return errors.Join(faults...)
}

// typesOfKept are the types of the filesystems that what is held comes onto.
func (c Choice) typesOfKept(h *kept.Held) []filesystem.Type {
	types := []filesystem.Type{c.fstype()}
	for _, l := range c.folders() {
		concerns := func(path string) bool {
			return strings.HasPrefix(path+"/", l.Folder+"/") || strings.HasPrefix(l.Folder+"/", path+"/")
		}
		if t := filesystem.Type(l.Filesystem); !slices.Contains(types, t) && slices.ContainsFunc(h.Paths, concerns) {
			types = append(types, t)
		}
	}
	return types
}

// tryBytes is the size of a filesystem that any filesystem's files fit on, of which a tar has so
// many: a file without content takes an inode, for which ext has 16 KiB, and 1.5 KiB of a tar.
func tryBytes(bytes int64) int64 { return 1<<30 + 16*bytes }

// tryOverhead is what such a filesystem takes itself.
const tryOverhead = 128 << 20

// tryKept unpacks what is held onto a filesystem of a type, as the suite has it, that is dropped
// after it: types differ in what they take, of attributes, of links, of a file's size.
func (c Choice) tryKept(ctx context.Context, s *session.Session, h *kept.Held, t filesystem.Type) (err error) {
	room, _, err := roomOfKept(ctx, h)
	if err != nil {
		return err
	}
	noRoom := func(need int64) error {
		free, err := filesystem.FreeBytes(h.Dir)
		if err == nil && free < need {
			err = fmt.Errorf("%s are free in %s, and to try whether %s takes what REINSTALL_KEEP keeps takes %s more: free some space there, or name less", tell.MiB(free), kept.Folder(), t, tell.MiB(room.Bytes+tryOverhead))
		}
		return err
	}
	if err := noRoom(room.Bytes + tryOverhead); err != nil {
		return err
	}
	mark := s.Mark()
	defer func() { err = errors.Join(err, s.UndoTo(ctx, mark)) }()
	dir, err := c.mountTry(ctx, s, h, t)
	if err != nil {
		return err
	}
	err = h.Try(ctx, dir, c.Settings.MetadataLoss)
	switch {
	case context.Cause(ctx) != nil: // that is no word of the filesystem's
		return err
	case errors.Is(err, kept.ErrDamaged):
		return fmt.Errorf("the files that are held in %s: %w", h.Dir, err)
	case err != nil:
		if full := noRoom(nearlyFull); full != nil { // by others, meanwhile
			return full
		}
		return fmt.Errorf("the new guest's %s doesn't take what is held of the old one: %w; name less in REINSTALL_KEEP, or choose another filesystem", t, err)
	}
	return nil
}

// mountTry makes the filesystem in an unnamed file, and mounts it.
func (c Choice) mountTry(ctx context.Context, s *session.Session, h *kept.Held, t filesystem.Type) (dir string, err error) {
	f, err := blockdev.UnnamedFile(h.Dir)
	if err != nil {
		return "", err
	}
	s.Defer("drop the scratch file", func(context.Context) error { return f.Close() })
	if err := f.Truncate(tryBytes(h.Bytes)); err != nil {
		return "", err
	}
	l, err := blockdev.Attach(ctx, f, false)
	if err != nil {
		return "", err
	}
	s.Defer("detach "+l.Path, l.Detach) // unsynced
	if _, err := filesystem.Make(ctx, filesystem.Spec{Type: t, Device: l.Path, Suite: c.Settings.Suite}); err != nil {
		return "", err
	}
	l.Unlock()
	return mount(s, nil, scratchName, func(dir string) error { return filesystem.Mount(ctx, l.Path, dir, t) })
}
