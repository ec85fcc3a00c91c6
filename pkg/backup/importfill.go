package backup

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/transport"
)

// clear erases the old signatures, and puts a loop device over the place of the
// filesystem alone: what the backup has for other partitions, the kernel is not shown.
// The table comes last: until then nothing leads to a guest that isn't whole.
func (r *restore) clear(ctx context.Context, at place) (*guestdisk.Part, error) {
	wasEmpty, err := r.disk.touch(ctx, at.layout.Partitions)
	if err != nil {
		return nil, err
	}
	part, err := r.disk.Attach(ctx, at.root, false)
	if err != nil || wasEmpty {
		return part, err
	}
	return part, filesystem.Wipe(ctx, part.Device)
}

// makeFilesystem makes the filesystem and mounts it for what comes from a guest.
func (r *restore) makeFilesystem(ctx context.Context, part *guestdisk.Part, spec filesystem.Spec) (newFS, error) {
	spec.Device = part.Device
	uuid, err := filesystem.Make(ctx, spec)
	if err != nil {
		return newFS{}, err
	}
	r.session.Defer("sync "+part.Device, func(context.Context) error { return filesystem.SyncDevice(part.Device) })
	tree, err := part.Mount(ctx, spec.Type)
	return newFS{tree, uuid}, err
}

// fill reads the stream, or an image that was made of it, to its end into the mounted
// filesystem.
func (r *restore) fill(ctx context.Context, at place, dir string, image *spool) error {
	bootArea := func(offset int64, data []byte) error { return r.writeBootArea(at, offset, data) }
	switch {
	case image != nil:
		return r.unpack(ctx, dir, func(files io.Writer, short *transport.Shortcuts) error {
			return r.readSpool(ctx, image, bootArea, files, short)
		})
	case r.stream.Kind == transport.Dump:
		return r.restoreDump(ctx, dir)
	}
	err := r.unpack(ctx, dir, func(files io.Writer, short *transport.Shortcuts) error {
		err := r.stream.Walk(transport.Sink{Block: bootArea, Files: files, Shortcuts: short})
		return transport.OrLoss(ctx, r.set.MetadataLoss, "the new disk", err)
	})
	return cmp.Or(err, r.stream.Close())
}

// unpack has GNU tar put into the filesystem what source writes.
func (r *restore) unpack(ctx context.Context, dir string, source func(files io.Writer, short *transport.Shortcuts) error) error {
	defer filesystem.WriteEarly(dir)()
	short := transport.NewShortcuts(dir)
	err, terr := transport.Piped(func(files *os.File) error {
		buffered := bufio.NewWriterSize(files, transport.WriteBytes)
		return cmp.Or(source(buffered, short), buffered.Flush())
	}, func(pipe *os.File) error {
		return transport.OrLoss(ctx, r.set.MetadataLoss, "the new disk", transport.Unpack(ctx, pipe, dir))
	})
	terr = cmp.Or(terr, short.Remove())
	if err == nil || errors.Is(err, unix.EPIPE) { // tar left first: it says why
		err = cmp.Or(terr, err)
	}
	return r.blameSize(dir, err)
}

// blameSize adds what is to be done about a disk that ran full.
func (r *restore) blameSize(dir string, err error) error {
	var st unix.Statfs_t
	if err == nil || unix.Statfs(dir, &st) != nil || int64(st.Bavail)*int64(st.Bsize) > 1<<20 && (st.Files == 0 || st.Ffree > 16) {
		return err
	}
	return fmt.Errorf("%w; disk %s (%d MiB) is too small for the backup: give the instance a larger one", err, r.disk.Path, r.disk.SizeBytes>>20)
}

// writeBootArea puts back what lay before the filesystem's partition, but for
// the partition table, which is this disk's own.
func (r *restore) writeBootArea(at place, offset int64, data []byte) error {
	const sector = partition.SectorSize
	end := offset + int64(len(data))
	if end > at.root.StartSector*sector {
		return fmt.Errorf("the backup has blocks at %d, inside or after the filesystem whose files it has: copy it anew, or export it anew", offset)
	}
	for _, free := range at.layout.OutsideTable() {
		from, to := max(free.Start, offset), min(free.End, end)
		if from >= to {
			continue
		}
		if _, err := r.disk.File().WriteAt(data[from-offset:to-offset], from); err != nil {
			return err
		}
	}
	return nil
}
