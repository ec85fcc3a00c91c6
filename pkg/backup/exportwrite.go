package backup

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/tell"
	"instance-debootstrap/pkg/transport"
)

// What blocks are read in, and what of them is looked at for being zero.
const (
	pieceBytes = 1 << 20
	holeBytes  = 32 << 10
)

// content is what a backup has, and how much room that takes in the stream.
type content struct {
	manifest transport.Manifest
	before   int64 // bytes of the disk that come before the body
	body     body
}

// body is one of the forms in which a disk is saved.
type body interface {
	bytes(context.Context) (int64, error)
	write(context.Context, *transport.Writer) error
}

// nothing is the body of swap: the manifest says it all.
type nothing struct{}

func (nothing) bytes(context.Context) (int64, error)           { return 0, nil }
func (nothing) write(context.Context, *transport.Writer) error { return nil }

// allBlocks is all of a disk that isn't zero.
type allBlocks struct{ *guestdisk.Disk }

// bytes predicts at most as much as there is.
func (a allBlocks) bytes(context.Context) (n int64, err error) {
	err = blockdev.DataExtents(a.File(), a.SizeBytes, func(_, size int64) error {
		n += size + (size/pieceBytes+1)*transport.MemberBytes(0)
		return nil
	})
	return n, err
}

func (a allBlocks) write(ctx context.Context, w *transport.Writer) error {
	return readBlocks(ctx, a.File(), 0, a.SizeBytes, w.Block)
}

// files are those below a mounted filesystem.
type files struct {
	dir, onLoss string
	ahead       *transport.Ahead
}

func (f files) bytes(ctx context.Context) (int64, error) { return transport.PackedBytes(ctx, f.dir) }

func (f files) write(ctx context.Context, w *transport.Writer) error {
	return transport.Through(func(pipe *os.File) error {
		return transport.OrLoss(ctx, f.onLoss, "the backup", transport.Pack(ctx, f.dir, pipe))
	}, func(pipe *os.File) error { return w.Tree(f.ahead.Of(pipe)) })
}

// patience is how long the stream's writer has for its own end; tools get 3 s.
const patience = 4 * time.Second

// patiently writes the backup. A reader that is there but doesn't read holds
// write(2) for ever: when the run is to end, it is not waited for.
func patiently(ctx context.Context, write func() error) error {
	written := make(chan error, 1)
	go func() { written <- write() }()
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-written:
		return cmp.Or(err, context.Cause(ctx))
	case <-time.After(patience):
		return context.Cause(ctx)
	}
}

// writeOurs writes a stream of our own format: the manifest, what lies before a
// partition with the filesystem (the boot record, the gap, and the partitions that
// firmware starts from), and the body.
func (e *export) writeOurs(ctx context.Context, disk *os.File, c content) error {
	if err := e.tellSize(ctx, disk, c); err != nil {
		return err
	}
	amount := &tell.Amount{What: "wrote"}
	out := bufio.NewWriterSize(amount.Writer(ctx, e.out), transport.WriteBytes)
	transport.Widen(e.out)
	w, err := transport.NewWriter(out, c.manifest)
	if err != nil {
		return blameReader(err)
	}
	if err = readBlocks(ctx, disk, 0, c.before, w.Block); err == nil {
		err = c.body.write(ctx, w)
	}
	if err == nil {
		err = cmp.Or(w.Close(), out.Flush())
	}
	if err != nil {
		return blameReader(err)
	}
	tell.Info(ctx, "wrote a backup of %d bytes: %s", w.Written(), describe(c.manifest))
	return nil
}

// tellSize predicts the stream's length: exactly for files and for used blocks;
// of other disks at most as much.
func (e *export) tellSize(ctx context.Context, disk *os.File, c content) error {
	if e.size == nil {
		return nil
	}
	n, err := transport.ManifestBytes(c.manifest)
	if err != nil {
		return err
	}
	n += transport.EndBytes
	err = readBlocks(ctx, disk, 0, c.before, func(_ int64, data []byte) error {
		n += transport.MemberBytes(int64(len(data)))
		return nil
	})
	if err != nil {
		return err
	}
	body, err := c.body.bytes(ctx)
	if err != nil {
		return err
	}
	e.putSize(ctx, n+body)
	return nil
}

// putSize writes the predicted length to EXP_SIZE_FD. It is for Ganeti's
// progress only: that nobody reads it is no reason to fail.
func (e *export) putSize(ctx context.Context, n int64) {
	if e.size == nil {
		return
	}
	if _, err := fmt.Fprintf(e.size, "%d\n", n); err != nil {
		tell.Warn(ctx, "tell the backup's size to EXP_SIZE_FD: %v", err)
	}
	e.size.Close()
}

// blameReader says in plain words that the other end of the pipe is gone.
func blameReader(err error) error {
	if errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("the reader of the backup went away before the end: %w", err)
	}
	return err
}

// readBlocks hands n bytes of a disk at offset to each, in pieces of at most 1 MiB: what
// the file has of them and isn't zero. n is a multiple of 512; a file's last, incomplete
// sector is left out.
func readBlocks(ctx context.Context, f *os.File, offset, n int64, each func(offset int64, data []byte) error) error {
	const sector = partition.SectorSize
	buf := make([]byte, pieceBytes)
	end := offset + n&^(sector-1)
	return blockdev.DataExtents(f, end, func(at, n int64) error {
		to := min((at+n+sector-1)&^(sector-1), end)
		for at = max(at, offset) &^ (sector - 1); at < to; {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			piece := buf[:min(to-at, pieceBytes)]
			if got, err := f.ReadAt(piece, at); got < len(piece) {
				return fmt.Errorf("read %d bytes at %d of the disk: got only %d: %w", len(piece), at, got, err)
			}
			if err := eachRun(at, piece, each); err != nil {
				return err
			}
			at += int64(len(piece))
		}
		return nil
	})
}

var zeros = make([]byte, holeBytes)

// eachRun hands over the runs of a piece that aren't zero.
func eachRun(at int64, piece []byte, each func(offset int64, data []byte) error) error {
	for start := 0; start < len(piece); {
		end := start
		for end < len(piece) {
			next := min(end+holeBytes, len(piece))
			if bytes.Equal(piece[end:next], zeros[:next-end]) {
				break
			}
			end = next
		}
		if end > start {
			if err := each(at+int64(start), piece[start:end]); err != nil {
				return err
			}
		}
		start = min(end+holeBytes, len(piece))
	}
	return nil
}
