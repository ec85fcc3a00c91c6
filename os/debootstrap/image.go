package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/image"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
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
func (j *Job) canImage(context.Context) (bool, string) {
	return unless(filesystem.HasImages(j.fstype()), "there are images of ext2, ext3 and ext4 only")
}

// hasImage tells whether there is one for this disk; a plan takes it for granted.
func (j *Job) hasImage(ctx context.Context) (bool, string) {
	if j.disk == nil {
		return j.canImage(ctx)
	}
	return unless(j.image != nil, "there is no image for this disk")
}

func (j *Job) mustFill(ctx context.Context) (bool, string) {
	has, _ := j.hasImage(ctx)
	return unless(!has, "the image is filled")
}

// findImage opens the image for this disk, or makes it first.
func (j *Job) findImage(ctx context.Context) error {
	if j.tree == nil {
		return nil
	}
	layout, err := j.layout()
	if err != nil {
		return err
	}
	_, sectors := layout.Root()
	spec, ok := filesystem.ImageFor(j.fstype(), j.Settings.Suite, sectors*partition.SectorSize, j.tree.ContentBytes, j.tree.Inodes)
	if !ok {
		return nil
	}
	m, err := j.store().Image(ctx, j.tree, spec.Kind(), func(ctx context.Context, out *os.File) error {
		return j.makeImage(ctx, spec, out)
	})
	switch {
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case errors.Is(err, cache.ErrNoEntry):
		return nil
	case err != nil:
		warn(ctx, "no filesystem image, the tree is unpacked instead: %v", err)
		return nil
	}
	j.image = &rootImage{m, spec}
	j.session.Defer("close "+m.File.Name(), func(context.Context) error { return m.Close() })
	return nil
}

// makeImage makes the filesystem in the file, fills it from the tree and seals it.
func (j *Job) makeImage(ctx context.Context, spec filesystem.Image, out *os.File) (err error) {
	info(ctx, "making a filesystem image of the tree: %s, %d MiB", spec.Type, spec.SizeBytes>>20)
	if err := j.roomForImage(); err != nil {
		return err
	}
	mark := j.session.Mark()
	defer func() { err = errors.Join(err, j.undoTo(ctx, mark)) }()
	if err := out.Truncate(spec.SizeBytes); err != nil {
		return err
	}
	l, err := j.attach(ctx, out, false)
	if err != nil {
		return err
	}
	if err := spec.Make(ctx, l.Path); err != nil {
		return err
	}
	l.Unlock()
	mounted := j.session.Mark()
	dir, err := j.mount(ctx, "image", func(dir string) error { return filesystem.Mount(ctx, l.Path, dir, spec.Type) })
	if err == nil {
		err = j.unpackTree(ctx, dir)
	}
	if err := errors.Join(err, j.undoTo(ctx, mounted)); err != nil {
		return err
	}
	if err := filesystem.RepairForeign(ctx, l.Path, spec.Type); err != nil {
		return err
	}
	needed, journal, err := filesystem.ImageExtents(ctx, l.Path, spec.Type)
	if err := errors.Join(err, j.undoTo(ctx, mark)); err != nil {
		return err
	}
	used := make([]image.Range, len(needed))
	for i, e := range needed {
		used[i] = image.Range(e)
	}
	list := image.List{Tree: j.tree.Digest, TreeSeen: j.tree.Seen, SizeBytes: spec.SizeBytes, Journal: journal, MadeBy: paths.Version}
	return image.Seal(ctx, out, list, used)
}

// roomForImage says why the cache folder has no room for the image.
func (j *Job) roomForImage() error {
	free, err := freeBytes(j.Settings.CacheDir)
	if err != nil {
		return err
	}
	need := j.tree.ContentBytes/8*9 + 64<<20
	if free < need {
		return fmt.Errorf("%s has %d MiB left, and %d MiB are needed", j.Settings.CacheDir, free>>20, need>>20)
	}
	return nil
}

// copyImage writes the image to the root's place on the disk, before the loop
// device is there. A damaged one is removed, and the tree unpacked instead.
func (j *Job) copyImage(ctx context.Context) error {
	start, sectors := j.table.Root()
	const sector = partition.SectorSize
	if !j.blank {
		if err := j.erase(ctx, start*sector, sectors*sector); err != nil {
			return err
		}
	}
	if j.Settings.Reflink {
		err := j.image.CloneTo(j.disk.File(), start*sector)
		if err == nil {
			info(ctx, "the disk shares the image's blocks")
			j.tree.Seen = "" // nobody has read them
			return nil
		}
		zerolog.Ctx(ctx).Debug().Err(err).Msg("the image is copied")
	}
	err := j.image.CopyTo(ctx, j.disk.File(), start*sector)
	j.tree.Seen = j.image.TreeSeen
	if errors.Is(err, image.ErrDamaged) {
		warn(ctx, "%v: it is removed, and the tree unpacked instead", err)
		err = j.tree.RemoveImage(j.image.Image)
		j.image, j.blank = nil, false
	}
	return err
}

// erase gives up what the image won't overwrite of a part of the disk, and removes
// every old signature there.
func (j *Job) erase(ctx context.Context, offset, n int64) error {
	for _, u := range j.image.Unused(n) {
		j.disk.Discard(ctx, offset+u.Offset, u.Bytes)
	}
	return filesystem.WipeRange(j.disk.File(), offset, n)
}

// unpackTree extracts the cached tree.
func (j *Job) unpackTree(ctx context.Context, dir string) error {
	defer filesystem.WriteEarly(dir)()
	return j.orLoss(ctx, "the guest", j.tree.Unpack(ctx, dir))
}
