package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

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
func (r *restore) planBlocks() (place, error) {
	fs := r.stream.Manifest.Filesystem
	if fs == nil {
		return place{}, nil
	}
	at, err := r.planLayout(r.stream.Manifest.Disk, *fs)
	if err != nil {
		return at, err
	}
	return at, filesystem.Tools(at.spec.Type)
}

// writeBlocks writes the stream's blocks to the disk, and returns how many bytes a raw
// image had.
func (r *restore) writeBlocks(ctx context.Context, partitions []partition.Partition) (rawBytes int64, err error) {
	m := r.stream.Manifest
	out := blockdev.NewWriter(ctx, r.disk.File())
	defer out.Finish()
	w := &blockWriter{ctx: ctx, disk: r.disk, f: r.disk.File(), to: out, sizeBytes: r.disk.SizeBytes}
	w.start = func() (blank bool, err error) {
		if _, err := r.disk.touch(ctx, partitions); err != nil {
			return false, err
		}
		blank = r.disk.Discard(ctx, 0, r.disk.SizeBytes)
		if m.Holes == "unused" || blank {
			return blank, nil
		}
		return true, blockdev.ZeroRange(r.disk.File(), 0, r.disk.SizeBytes) // what no block covers
	}
	if r.stream.Kind == transport.Raw {
		rawBytes, err = w.copyRaw(r.stream.Bytes())
	} else {
		if m.Disk.SizeBytes > r.disk.SizeBytes {
			w.refuse = fmt.Errorf("disk %s is too small: it has %d MiB, and the backup is of a disk of %d MiB with unknown content, which can't be made smaller",
				r.disk.Path, r.disk.SizeBytes>>20, m.Disk.SizeBytes>>20)
		}
		err = r.stream.Walk(transport.Sink{Block: w.write, Zero: w.zeros})
	}
	if err = cmp.Or(err, r.stream.Close(), out.Finish()); err != nil {
		if w.refuse == nil { // what was on the disk is no instance any more
			r.disk.spoil(partitions)
		}
		return 0, err
	}
	return rawBytes, w.finish()
}

// blockWriter writes a disk block by block, its head last.
type blockWriter struct {
	ctx       context.Context
	disk      *target
	f         *os.File    // the disk, or a file in its place
	to        io.WriterAt // f, or what writes to it
	sizeBytes int64
	start     func() (blank bool, err error) // erases what is on it
	refuse    error                          // instead of the first block
	mostBytes int64                          // that may be written, 0 is any number

	begun   bool
	blank   bool // all of it reads as zero but for what was written
	head    []byte
	written int64
}

// begin erases what is there, and gives up the space that it has.
func (w *blockWriter) begin() (err error) {
	if w.begun {
		return nil
	}
	if w.refuse != nil {
		return w.refuse
	}
	w.begun = true
	w.head = make([]byte, min(headBytes, w.sizeBytes))
	w.blank, err = w.start()
	return err
}

func (w *blockWriter) write(offset int64, data []byte) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	if offset < 0 || offset > w.sizeBytes-int64(len(data)) {
		return fmt.Errorf("disk %s (%d MiB) is too small for the backup, which has data at byte %d", w.disk.Path, w.sizeBytes>>20, offset)
	}
	if w.written += int64(len(data)); w.mostBytes > 0 && w.written > w.mostBytes {
		return fmt.Errorf("disk %s (%d MiB) is too small: the image has more than %d MiB of data", w.disk.Path, w.disk.SizeBytes>>20, w.mostBytes>>20)
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
		return fmt.Errorf("disk %s (%d MiB) is too small for the backup, which has zeros at byte %d", w.disk.Path, w.sizeBytes>>20, offset)
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
		if werr := eachRun(at, buf[:whole], w.write); werr != nil {
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
func (r *restore) fitBlocks(ctx context.Context, at place) (place, error) {
	found, err := r.probeBlocks(ctx, at.root)
	if err != nil {
		return at, err
	}
	if at.spec.Type, err = filesystem.ParseType(found.Type); err != nil {
		return at, fmt.Errorf("the backup's blocks hold %s, but its manifest says %s: copy it anew, or export it anew", found, r.stream.Manifest.Filesystem.Type)
	}
	return at, r.partitionBlocks(ctx, at)
}

// fitRaw does the same to a raw image, as far as it can be taken apart: whatever else it
// is, it is left as it is, its table too, and nothing is described.
func (r *restore) fitRaw(ctx context.Context, rawBytes int64) (place, error) {
	leave := func(format string, args ...any) (place, error) {
		tell.Info(ctx, "the image is left as it is: "+format, args...)
		return place{}, nil
	}
	layout, root, err := r.disk.Root()
	for _, p := range layout.Partitions {
		if end := (p.StartSector + p.Sectors) * partition.SectorSize; end > rawBytes {
			return place{}, fmt.Errorf("the image is cut off: it has %d bytes, and its partition %d ends at %d: copy it anew, whole", rawBytes, p.Number, end)
		}
	}
	if several, ferr := r.fitSeveral(ctx); several {
		return place{}, ferr
	}
	if err != nil {
		return leave("%v", err)
	}
	at, err := r.planLayout(describeDisk(r.req.IODisk, layout.SizeBytes, layout), transport.Filesystem{})
	if err != nil {
		return leave("%v", err)
	}
	found, err := r.probeBlocks(ctx, root)
	if err != nil {
		return at, err
	}
	if at.spec.Type, err = filesystem.ParseType(found.Type); err != nil {
		return leave("it holds %s", found)
	}
	start := at.root.Offset()
	claim, err := filesystem.ReadClaim(r.disk.File(), start, at.spec.Type)
	switch {
	case err != nil:
		return at, err
	case claim.Devices > 1:
		return leave("its %s is on %d disks", at.spec.Type, claim.Devices)
	case claim.SizeBytes > rawBytes-start:
		return at, fmt.Errorf("the image is cut off: it has %d bytes, and its %s of %d begins at %d: copy it anew, whole", rawBytes, at.spec.Type, claim.SizeBytes, start)
	}
	at.spec.UUID = r.ids.of(found.UUID)
	return at, r.partitionBlocks(ctx, at)
}

// fitSeveral does the same to a disk with several filesystems of ours, whose last partition
// grows; several tells whether it is one. What can't grow is left as it is.
func (r *restore) fitSeveral(ctx context.Context) (several bool, err error) {
	layout, err := partition.Read(r.disk.File(), r.disk.SizeBytes)
	if err != nil || len(layout.Partitions) == 0 {
		return false, nil // of unknown content
	}
	if _, err := layout.RootPartition(); err == nil {
		return false, nil
	}
	if _, err := layout.Growing(); err != nil {
		return false, nil
	}
	growth, err := r.disk.LookToGrow(ctx, false)
	switch {
	case context.Cause(ctx) != nil:
		return true, err
	case err != nil:
		tell.Info(ctx, "%v", err)
		return true, r.disk.detach(ctx)
	case growth.Fits():
		return true, r.disk.detach(ctx)
	}
	did, err := growth.Apply(ctx)
	if err != nil {
		return true, err
	}
	tell.Info(ctx, "%s", did)
	return true, r.disk.detach(ctx)
}

// probeBlocks says what the blocks of a partition hold, whatever table there is.
func (r *restore) probeBlocks(ctx context.Context, p partition.Partition) (filesystem.Info, error) {
	return filesystem.ProbeAt(ctx, r.disk.Node(), p.Offset(), p.SizeBytes())
}

// partitionBlocks writes the table over the blocks, and fits the filesystem to it.
func (r *restore) partitionBlocks(ctx context.Context, at place) error {
	if err := r.disk.writeTable(at.layout); err != nil {
		return err
	}
	part, err := r.disk.Attach(ctx, at.root, false)
	if err != nil {
		return err
	}
	return r.growBlocks(ctx, part, at)
}

// growBlocks checks the filesystem, and makes it as large as its partition, but for an
// ext* that is, which e2fsck has found right. Of the others only growing them, mounted,
// tells that they can be mounted.
func (r *restore) growBlocks(ctx context.Context, part *guestdisk.Part, at place) error {
	t := at.spec.Type
	err := filesystem.RepairForeign(ctx, part.Device, t)
	if err != nil {
		return err
	}
	isFull := false
	if t.IsExt() {
		claim, cerr := filesystem.ReadClaim(r.disk.File(), at.root.Offset(), t)
		const largestBlock = 64 << 10
		err, isFull = cerr, claim.SizeBytes > at.root.SizeBytes()-largestBlock
	}
	if err == nil && !isFull {
		err = part.Grow(ctx, t)
	}
	return cmp.Or(err, r.disk.detach(ctx))
}

// renewBlocks gives the filesystem of an image its new UUID, and writes it into
// the guest's files.
func (r *restore) renewBlocks(ctx context.Context, at place) error {
	part, err := r.disk.Attach(ctx, at.root, false)
	if err != nil {
		return err
	}
	if err := filesystem.Adopt(ctx, part.Device, at.spec.Type, at.spec.UUID); err != nil {
		return err
	}
	if !r.req.IsRoot() {
		return nil
	}
	tree, err := part.Mount(ctx, at.spec.Type)
	if err != nil {
		return err
	}
	if _, _, err := r.adjustGuest(ctx, at, newFS{tree, at.spec.UUID}); err != nil {
		return err
	}
	return r.disk.detach(ctx)
}
