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
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/tell"
	"instance-debootstrap/pkg/transport"
)

// headBytes is the disk's beginning, where tables and superblocks are: of an
// import by blocks it is written last, so that a disk is nothing until it is whole.
const headBytes = 1 << 20

// planBlocks sees that the blocks fit on the disk. A disk of unknown content
// isn't made smaller, but it may be blank: the first block tells.
func (r *restore) planBlocks(context.Context) error {
	if r.manifest.Filesystem == nil {
		return nil
	}
	if err := r.planLayout(); err != nil {
		return err
	}
	r.names.uuid = r.ids.of(r.manifest.Filesystem.UUID)
	return filesystem.Tools(filesystem.Type(r.manifest.Filesystem.Type))
}

// writeBlocks writes the stream's blocks to the disk, and returns how many bytes a raw
// image had.
func (r *restore) writeBlocks(ctx context.Context) (rawBytes int64, err error) {
	out := blockdev.NewWriter(ctx, r.disk.File())
	defer out.Finish()
	w := &blockWriter{r: r, ctx: ctx, f: r.disk.File(), to: out, sizeBytes: r.disk.SizeBytes, zero: r.manifest.Holes != "unused"}
	if r.stream.Kind == transport.Raw {
		rawBytes, err = w.copyRaw(r.stream.Bytes())
	} else {
		if r.manifest.Disk.SizeBytes > r.disk.SizeBytes {
			w.refuse = fmt.Errorf("disk %s is too small: it has %d MiB, and the backup is of a disk of %d MiB whose content isn't known, and so can't be made smaller",
				r.disk.Path, r.disk.SizeBytes>>20, r.manifest.Disk.SizeBytes>>20)
		}
		err = r.stream.Walk(transport.Sink{Block: w.write, Zero: w.zeros})
	}
	if err = cmp.Or(err, r.stream.Close(), out.Finish()); err != nil {
		r.disk.touched = r.disk.touched || w.refuse == nil // what was on the disk is no instance any more
		return 0, err
	}
	return rawBytes, w.finish()
}

// blockWriter writes a disk block by block, its head last.
type blockWriter struct {
	r         *restore
	ctx       context.Context
	f         *os.File
	to        io.WriterAt // f, or what writes to it
	sizeBytes int64
	zero      bool  // what no block covers must read as zero
	blank     bool  // all of it reads as zero but for what was written
	refuse    error // instead of the first block
	begun     bool
	head      []byte
	mostBytes int64 // that may be written, 0 is any number
	written   int64
}

// begin erases what is on the disk, and gives up the space that it has.
func (w *blockWriter) begin() error {
	if w.begun {
		return nil
	}
	if w.refuse != nil {
		return w.refuse
	}
	w.begun = true
	w.head = make([]byte, min(headBytes, w.sizeBytes))
	if w.f != w.r.disk.File() {
		w.blank = true // a new file
		return nil
	}
	if err := w.r.disk.touch(w.ctx); err != nil {
		return err
	}
	w.blank = w.r.disk.Discard(w.ctx, 0, w.sizeBytes)
	if !w.zero || w.blank {
		return nil
	}
	w.blank = true
	return blockdev.ZeroRange(w.f, 0, w.sizeBytes)
}

func (w *blockWriter) write(offset int64, data []byte) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	if offset < 0 || offset > w.sizeBytes-int64(len(data)) {
		return fmt.Errorf("disk %s with its %d MiB is too small for the backup: it has data at byte %d", w.r.disk.Path, w.sizeBytes>>20, offset)
	}
	if w.written += int64(len(data)); w.mostBytes > 0 && w.written > w.mostBytes {
		return fmt.Errorf("disk %s with its %d MiB is too small: the image has more than %d MiB of data", w.r.disk.Path, w.r.disk.SizeBytes>>20, w.mostBytes>>20)
	}
	if offset < int64(len(w.head)) {
		n := copy(w.head[offset:], data)
		offset, data = offset+int64(n), data[n:]
	}
	if len(data) == 0 {
		return nil
	}
	_, err := w.to.WriteAt(data, offset)
	return err
}

// zeros makes a part of the disk zeros, where it isn't that already.
func (w *blockWriter) zeros(offset, n int64) error {
	if err := cmp.Or(context.Cause(w.ctx), w.begin()); err != nil {
		return err
	}
	if offset < 0 || offset > w.sizeBytes-n {
		return fmt.Errorf("disk %s with its %d MiB is too small for the backup: it is to be zero at byte %d", w.r.disk.Path, w.sizeBytes>>20, offset)
	}
	if w.blank {
		return nil
	}
	if behind := max(0, int64(len(w.head))-offset); behind < n { // the head is zeros from the start
		return blockdev.ZeroRange(w.f, offset+behind, n-behind)
	}
	return nil
}

// finish makes all durable, and the head after it.
func (w *blockWriter) finish() error {
	if w.refuse != nil && !w.begun {
		w.refuse = nil // a blank disk is blank on a smaller one, too
	}
	if err := w.begin(); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return err
	}
	if _, err := w.f.WriteAt(w.head, 0); err != nil {
		return err
	}
	return w.f.Sync()
}

// copyRaw writes a raw image, but for what is zero in it, and returns its length.
func (w *blockWriter) copyRaw(in io.Reader) (int64, error) {
	buf := make([]byte, pieceBytes)
	for at := int64(0); ; {
		n, err := io.ReadFull(in, buf)
		whole := (n + partition.SectorSize - 1) &^ (partition.SectorSize - 1)
		clear(buf[n:whole])
		if werr := eachRun(at, buf[:whole], true, w.write); werr != nil {
			return at, werr
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return at, nil
		}
		if err != nil {
			return at, err
		}
	}
}

// fitBlocks gives a disk whose layout and filesystem we know its own size: the
// table to the disk, the filesystem, which was another node's, checked in full,
// to the table.
func (r *restore) fitBlocks(ctx context.Context, rawBytes int64) error {
	if r.stream.Kind == transport.Raw {
		layout, _, err := r.disk.Root()
		for _, p := range layout.Partitions {
			if end := (p.StartSector + p.Sectors) * partition.SectorSize; end > rawBytes {
				return fmt.Errorf("the image is cut off: it has %d bytes, and its partition %d ends at %d", rawBytes, p.Number, end)
			}
		}
		if err != nil {
			tell.Info(ctx, "the image is left as it is: %v", err)
			return nil
		}
		r.manifest.Disk = describeDisk(r.req.IODisk, layout.SizeBytes, layout)
		if err := r.planLayout(); err != nil {
			tell.Info(ctx, "the image is left as it is: %v", err)
			return nil
		}
	} else if r.manifest.Filesystem == nil {
		return nil
	}
	if err := r.disk.layout.Write(r.disk.File()); err != nil {
		return err
	}
	var err error
	if r.part, err = r.disk.Attach(ctx, r.root, false); err != nil {
		return err
	}
	found, err := filesystem.Probe(ctx, r.part.Device)
	if err != nil {
		return err
	}
	t, err := filesystem.ParseType(found.Type)
	switch {
	case err == nil:
	case r.stream.Kind == transport.Raw:
		tell.Info(ctx, "the image is left as it is: it holds %s", found)
		return r.disk.detach(ctx)
	default:
		return fmt.Errorf("the backup's blocks hold %s, and its manifest says %s", found, r.manifest.Filesystem.Type)
	}
	if r.stream.Kind == transport.Raw {
		if why, err := r.checkRaw(t, rawBytes); err != nil {
			return err
		} else if why != "" {
			tell.Info(ctx, "the image is left as it is: %s", why)
			return r.disk.detach(ctx)
		}
	}
	r.spec.Type, r.rootUUID = t, found.UUID
	if r.manifest.Filesystem == nil {
		r.manifest.Filesystem = &transport.Filesystem{Type: found.Type, UUID: found.UUID, Label: found.Label}
		r.ids.learn(r.manifest)
		r.names.uuid = r.ids.of(found.UUID)
	}
	if err := filesystem.RepairForeign(ctx, r.part.Device, t); err != nil {
		return err
	}
	return cmp.Or(r.growBlocks(ctx, t), r.disk.detach(ctx))
}

// growBlocks makes the filesystem as large as its partition, but for an ext* that is,
// which e2fsck has found right. Of the others only growing them, mounted, tells that
// they can be mounted.
func (r *restore) growBlocks(ctx context.Context, t filesystem.Type) error {
	if t.IsExt() {
		claim, err := filesystem.ReadClaim(r.disk.File(), r.root.Offset(), t)
		const largestBlock = 64 << 10
		if err != nil || claim.SizeBytes > r.root.SizeBytes()-largestBlock {
			return err
		}
	}
	return r.part.Grow(ctx, t)
}

// checkRaw compares what a raw image's filesystem says of itself with the image.
// Why is a reason to leave it as it is.
func (r *restore) checkRaw(t filesystem.Type, rawBytes int64) (why string, err error) {
	start := r.root.Offset()
	claim, err := filesystem.ReadClaim(r.disk.File(), start, t)
	if err == nil && claim.Devices > 1 {
		return fmt.Sprintf("its %s is on %d disks", t, claim.Devices), nil
	}
	if err == nil && claim.SizeBytes > rawBytes-start {
		err = fmt.Errorf("the image is cut off: it has %d bytes, and its %s of %d begins at %d", rawBytes, t, claim.SizeBytes, start)
	}
	return "", err
}

func (r *restore) wantsNewIDs(context.Context) (bool, string) {
	if r.ids == nil || r.manifest.Filesystem == nil {
		return false, "IMPORT_UUID=keep, or a disk of unknown content"
	}
	return true, ""
}

// renewBlocks gives the filesystem of an image its new UUID, and writes it into
// the guest's files.
func (r *restore) renewBlocks(ctx context.Context) error {
	part, err := r.disk.Attach(ctx, r.root, false)
	if err != nil {
		return err
	}
	if err := filesystem.Adopt(ctx, part.Device, r.spec.Type, r.names.uuid); err != nil {
		return err
	}
	if !r.req.IsRoot() {
		return nil
	}
	if r.tree, err = part.Mount(ctx, r.spec.Type); err != nil {
		return err
	}
	if err := r.adjustGuest(ctx); err != nil {
		return err
	}
	return r.disk.detach(ctx)
}

// spool is an image of a disk that is larger than this one, unpacked beside it.
type spool struct {
	file *os.File
	root partition.Partition
	tree *guestdisk.Tree
	mark int // the undo stack's height before it
}

func (r *restore) isSpooled(context.Context) (bool, string) {
	return r.spool != nil, "not an image of a larger disk"
}

// openSpool makes an unnamed sparse file for the image.
func (r *restore) openSpool(context.Context) error {
	r.spool.mark = r.session.Mark()
	f, err := blockdev.UnnamedFile(r.set.CacheDir)
	if err != nil {
		return fmt.Errorf("the backup is an image of %d MiB, and disk %s has %d MiB: to take the files out of it, a scratch file in %s is needed: %w",
			r.manifest.Disk.SizeBytes>>20, r.disk.Path, r.disk.SizeBytes>>20, r.set.CacheDir, err)
	}
	r.session.Defer("drop the scratch file", func(context.Context) error { return f.Close() })
	r.spool.file = f
	return f.Truncate(r.manifest.Disk.SizeBytes)
}

// fillSpool writes the image there and mounts it, read-only. A stream may lie
// about its length: it doesn't fill the node's own disk for more than the guest's
// could take.
func (r *restore) fillSpool(ctx context.Context) error {
	s := r.spool
	w := &blockWriter{r: r, ctx: ctx, f: s.file, to: s.file, sizeBytes: r.manifest.Disk.SizeBytes, mostBytes: 2 * r.disk.SizeBytes}
	notZero := func(offset int64, data []byte) error { return eachRun(offset, data, true, w.write) }
	err := cmp.Or(r.stream.Walk(transport.Sink{Block: notZero, Zero: w.zeros}), r.stream.Close())
	if err == nil {
		err = w.finish()
	}
	if errors.Is(err, unix.ENOSPC) {
		err = fmt.Errorf("the scratch file in %s, for an image of %d MiB that is to become smaller: %w: make room there, or give the instance a disk of %[2]d MiB",
			r.set.CacheDir, r.manifest.Disk.SizeBytes>>20, err)
	}
	if err != nil {
		return err
	}
	if s.root, err = layoutOf(r.manifest.Disk).RootPartition(); err != nil {
		return fmt.Errorf("the backup's manifest describes a disk that is not a layout of ours: %w", err)
	}
	part, err := guestdisk.AttachFile(ctx, r.session, s.file, s.root, guestdisk.Fsck(r.set.GuestFsck), false)
	if err != nil {
		return err
	}
	t := filesystem.Type(r.manifest.Filesystem.Type)
	if err := filesystem.RepairForeign(ctx, part.Device, t); err != nil {
		return err
	}
	if s.tree, err = part.ForReading().Mount(ctx, t); err != nil {
		return err
	}
	r.disk.unmapped = r.session.Mark()
	return nil
}

// readSpool hands over what the stream would have had as files.
func (r *restore) readSpool(ctx context.Context, files io.Writer, short *transport.Shortcuts) error {
	s := r.spool
	if err := readBlocks(ctx, s.file, 0, s.root.Offset(), true, r.writeBootArea); err != nil {
		return err
	}
	found, err := transport.Survey(ctx, s.tree.Dir)
	if err == nil && found.Unfit != "" {
		err = fmt.Errorf("the backup is an image of a disk of %d MiB, and its file %s: only as an image can it be moved, so give the instance a disk of that size", r.manifest.Disk.SizeBytes>>20, found.Unfit)
	}
	if err != nil {
		return err
	}
	pack := func(out io.Writer) error {
		return transport.OrLoss(ctx, r.set.MetadataLoss, "the new disk", transport.Pack(ctx, s.tree.Dir, out, transport.PackOptions{}))
	}
	if !found.Deep {
		return pack(files)
	}
	in, pipe, err := transport.Pipe()
	if err != nil {
		return err
	}
	packed := make(chan error, 1)
	go func() { packed <- cmp.Or(pack(pipe), pipe.Close()) }()
	err = transport.Shorten(in, files, short)
	in.Close()
	if perr := <-packed; err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		err = cmp.Or(perr, err)
	}
	return err
}
