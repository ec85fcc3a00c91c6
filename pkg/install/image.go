package install

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/image"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
	"instance-debootstrap/pkg/transport"
)

// A root filesystem of type ext* is made once for all disks of its size class, as
// an image beside the cached tree, and copied. It only saves time: whatever goes
// wrong with it, the tree is unpacked as on any other filesystem.

// rootImage is the image that a create copies to its disk.
type rootImage struct {
	*image.Image
	spec filesystem.Image
}

// canImage tells whether this type of filesystem is copied from images.
func (o *Order) canImage(context.Context) (bool, string) {
	return session.NeededIf(filesystem.HasImages(o.fstype()), "there are images of ext2, ext3 and ext4 only")
}

// findImage opens the image for a disk of so many bytes, or makes it first; nil is that
// there is none, and that the tree is unpacked.
func findImage(ctx context.Context, s *session.Session, c Choice, diskBytes int64, tree *cache.Entry) (*rootImage, error) {
	if tree == nil {
		return nil, nil
	}
	layout, err := c.layout(diskBytes)
	if err != nil {
		return nil, err
	}
	_, sectors := layout.Root()
	spec, ok := filesystem.ImageFor(c.fstype(), c.Settings.Suite, sectors*partition.SectorSize, tree.ContentBytes, tree.Inodes)
	if !ok {
		return nil, nil
	}
	m, err := c.storeFor(s).Image(ctx, tree, spec.Kind(), func(ctx context.Context, out *os.File) error {
		return makeImage(ctx, s, c.Order, tree, spec, out)
	})
	switch {
	case context.Cause(ctx) != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, cache.ErrNoEntry):
		return nil, nil
	case err != nil:
		tell.Warn(ctx, "no filesystem image, the tree is unpacked instead: %v", err)
		return nil, nil
	}
	s.Defer("close "+m.File.Name(), func(context.Context) error { return m.Close() })
	return &rootImage{m, spec}, nil
}

// makeImage makes the filesystem in the file, fills it from the tree and seals it.
func makeImage(ctx context.Context, s *session.Session, o *Order, tree *cache.Entry, spec filesystem.Image, out *os.File) (err error) {
	tell.Info(ctx, "making a filesystem image of the tree: %s, %d MiB", spec.Type, spec.SizeBytes>>20)
	if err := roomForImage(o.Settings.CacheDir, tree); err != nil {
		return err
	}
	mark := s.Mark()
	defer func() { err = errors.Join(err, s.UndoTo(ctx, mark)) }()
	if err := out.Truncate(spec.SizeBytes); err != nil {
		return err
	}
	l, err := attach(ctx, s, out, false)
	if err != nil {
		return err
	}
	if err := spec.Make(ctx, l.Path); err != nil {
		return err
	}
	l.Unlock()
	mounted := s.Mark()
	dir, err := mount(s, nil, "image", func(dir string) error { return filesystem.Mount(ctx, l.Path, dir, spec.Type) })
	if err == nil {
		err = unpackTree(ctx, o, tree, dir)
	}
	if err := errors.Join(err, s.UndoTo(ctx, mounted)); err != nil {
		return err
	}
	if err := filesystem.RepairForeign(ctx, l.Path, spec.Type); err != nil {
		return err
	}
	needed, journal, err := filesystem.ImageExtents(ctx, l.Path, spec.Type)
	if err := errors.Join(err, s.UndoTo(ctx, mark)); err != nil {
		return err
	}
	used := make([]image.Range, len(needed))
	for i, e := range needed {
		used[i] = image.Range(e)
	}
	list := image.List{Tree: tree.Digest, TreeSeen: tree.Seen, SizeBytes: spec.SizeBytes, Journal: journal, MadeBy: paths.Version}
	return image.Seal(ctx, out, list, used)
}

// roomForImage says why the cache folder has no room for the image.
func roomForImage(cacheDir string, tree *cache.Entry) error {
	free, err := filesystem.FreeBytes(cacheDir)
	if err != nil {
		return err
	}
	need := tree.ContentBytes/8*9 + 64<<20
	if free < need {
		return fmt.Errorf("%s has %d MiB left, and %d MiB are needed", cacheDir, free>>20, need>>20)
	}
	return nil
}

// copyImage writes the image to the root's place on the disk, before the loop
// device is there. used is false where it is damaged: it is removed then, and the tree is
// to be unpacked instead, over what was written.
func copyImage(ctx context.Context, o *Order, disk *blockdev.Disk, r rootDisk, tree *cache.Entry, img *rootImage) (used bool, err error) {
	start, sectors := r.table.Root()
	const sector = partition.SectorSize
	if !r.blank {
		if err := eraseFor(ctx, img, disk, start*sector, sectors*sector); err != nil {
			return false, err
		}
	}
	if o.Settings.Reflink {
		err := img.CloneTo(disk.File(), start*sector)
		if err == nil {
			tell.Info(ctx, "the disk shares the image's blocks")
			tree.Seen = "" // nobody has read them
			return true, nil
		}
		zerolog.Ctx(ctx).Debug().Err(err).Msg("the image is copied")
	}
	err = img.CopyTo(ctx, disk.File(), start*sector)
	tree.Seen = img.TreeSeen
	if errors.Is(err, image.ErrDamaged) {
		tell.Warn(ctx, "%v: it is removed, and the tree unpacked instead", err)
		return false, tree.RemoveImage(img.Image)
	}
	if err != nil {
		return true, fmt.Errorf("disk %s: %w", disk.Path, err)
	}
	return true, nil
}

// eraseFor gives up what the image won't overwrite of a part of the disk, and removes
// every old signature there.
func eraseFor(ctx context.Context, img *rootImage, disk *blockdev.Disk, offset, n int64) error {
	for _, u := range img.Unused(n) {
		disk.Discard(ctx, offset+u.Offset, u.Bytes)
	}
	return filesystem.WipeRange(disk.File(), offset, n)
}

// unpackTree extracts the cached tree.
func unpackTree(ctx context.Context, o *Order, tree *cache.Entry, dir string) error {
	defer filesystem.WriteEarly(dir)()
	return transport.OrLoss(ctx, o.Settings.MetadataLoss, "the guest", tree.Unpack(ctx, dir))
}
