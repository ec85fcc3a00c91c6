package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/transport"
)

// spool is an image of a disk that is larger than this one, unpacked beside it.
type spool struct {
	file   *os.File
	before int64           // bytes before its filesystem
	tree   *guestdisk.Tree // that, for reading
}

// openScratch makes an unnamed sparse file for the image.
func (r *restore) openScratch() (*os.File, error) {
	imageBytes := r.stream.Manifest.Disk.SizeBytes
	f, err := blockdev.UnnamedFile(r.set.CacheDir)
	if err != nil {
		return nil, fmt.Errorf("the backup is an image of %d MiB, and disk %s has %d MiB: to take the files out of it, a scratch file in %s is needed: %w",
			imageBytes>>20, r.disk.Path, r.disk.SizeBytes>>20, r.set.CacheDir, err)
	}
	r.session.Defer("drop the scratch file", func(context.Context) error { return f.Close() })
	return f, f.Truncate(imageBytes)
}

// fillScratch writes the image there and mounts it, read-only. A stream may lie
// about its length: it doesn't fill the node's own disk for more than the guest's
// could take.
func (r *restore) fillScratch(ctx context.Context, f *os.File) (*spool, error) {
	m := r.stream.Manifest
	isBlank := func() (bool, error) { return true, nil }
	w := &blockWriter{ctx: ctx, disk: r.disk, f: f, to: f, sizeBytes: m.Disk.SizeBytes, start: isBlank, mostBytes: 2 * r.disk.SizeBytes}
	notZero := func(offset int64, data []byte) error { return eachRun(offset, data, w.write) }
	err := cmp.Or(r.stream.Walk(transport.Sink{Block: notZero, Zero: w.zeros}), r.stream.Close())
	if err == nil {
		err = w.finish()
	}
	if errors.Is(err, unix.ENOSPC) {
		err = fmt.Errorf("the scratch file in %s, for an image of %d MiB that is to become smaller: %w: make room there, or give the instance a disk of %[2]d MiB",
			r.set.CacheDir, m.Disk.SizeBytes>>20, err)
	}
	if err != nil {
		return nil, err
	}
	root, err := layoutOf(m.Disk).RootPartition()
	if err != nil {
		return nil, fmt.Errorf("the backup's manifest describes a disk layout that isn't one of ours: %w", err)
	}
	part, err := guestdisk.AttachFile(ctx, r.session, f, root, guestdisk.Fsck(r.set.GuestFsck), false)
	if err != nil {
		return nil, err
	}
	t := filesystem.Type(m.Filesystem.Type)
	if err := filesystem.RepairForeign(ctx, part.Device, t); err != nil {
		return nil, err
	}
	tree, err := part.ForReading().Mount(ctx, t)
	return &spool{f, root.Offset(), tree}, err
}

// readSpool hands over what the stream would have had as files.
func (r *restore) readSpool(ctx context.Context, s *spool, bootArea func(offset int64, data []byte) error, files io.Writer, short *transport.Shortcuts) error {
	if err := readBlocks(ctx, s.file, 0, s.before, bootArea); err != nil {
		return err
	}
	found, err := transport.Survey(ctx, s.tree.Dir)
	if err == nil && found.Unfit != "" {
		err = fmt.Errorf("the backup is an image of a disk of %d MiB, and its file %s: it can only be restored as an image, so give the instance a disk of that size", r.stream.Manifest.Disk.SizeBytes>>20, found.Unfit)
	}
	if err != nil {
		return err
	}
	pack := func(out io.Writer) error {
		return transport.OrLoss(ctx, r.set.MetadataLoss, "the new disk", transport.Pack(ctx, s.tree.Dir, out))
	}
	if !found.Deep {
		return pack(files)
	}
	return transport.Through(func(pipe *os.File) error { return pack(pipe) }, func(pipe *os.File) error {
		return transport.Shorten(pipe, files, short)
	})
}
