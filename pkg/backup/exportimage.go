package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/transport"
)

// part is a run of an image's bytes on the disk.
type part struct {
	offset, bytes int64
	zero          bool
}

// leastZero is the shortest run of zeros that is left out of an image.
const leastZero = 64 << 10

// asImage exports the used blocks of the filesystem, and what lies before it. What
// it is to have is settled here, so that its length is known before it begins. The
// filesystem is looked at in full before: which blocks and inodes are in use it alone
// says, what it leaves out would be lost without a word, and import takes no damaged one.
func (e *export) asImage(ctx context.Context) error {
	fault, err := filesystem.FirstFault(ctx, e.part.Device, e.fs)
	if err != nil {
		return err
	}
	if fault != "" {
		return fmt.Errorf("its blocks can't be relied on, since its %s has faults, first: %q", e.fs, fault)
	}
	m := &e.manifest
	used, zeros, err := filesystem.UsedExtents(ctx, e.part.Device, e.fs)
	if errors.Is(err, errors.ErrUnsupported) {
		m.Content, m.Holes = "blocks", "zero" // whatever isn't zero, then
		return nil
	}
	if err != nil {
		return err
	}
	start, sizeBytes := e.root.Offset(), e.root.SizeBytes()
	holes, err := holesOf(e.disk.File(), start, sizeBytes)
	if err != nil {
		return err
	}
	m.Content, m.Holes = "blocks", "unused"
	e.parts = divide(used, append(zeros, holes...), start)
	for p := range e.parts {
		if p.zero {
			m.Format = transport.FormatFor(true)
			break
		}
	}
	return nil
}

// holesOf returns the holes in a part of a disk that is a file, from its start, that are
// long enough to be left out.
func holesOf(f *os.File, start, sizeBytes int64) ([]filesystem.Extent, error) {
	at, holes := start, filesystem.Largest{Least: leastZero}
	hole := func(end int64) {
		if end > at {
			holes.Add(filesystem.Extent{Offset: at - start, Bytes: end - at})
		}
	}
	err := blockdev.DataExtents(f, start+sizeBytes, func(offset, n int64) error {
		hole(offset)
		at = max(at, offset+n)
		return nil
	})
	hole(start + sizeBytes)
	return holes.List, err
}

// divide cuts the used parts of a filesystem that begins at a byte of the disk into
// zeros, and data of at most pieceBytes. zeros may overlap each other, and what isn't
// in use.
func divide(used, zeros []filesystem.Extent, start int64) iter.Seq[part] {
	const block = 4096 // zeros begin and end at its multiples, so that the data do
	slices.SortFunc(zeros, func(a, b filesystem.Extent) int { return cmp.Compare(a.Offset, b.Offset) })
	return func(yield func(part) bool) {
		next := 0 // of zeros
		for _, x := range used {
			at, end := x.Offset, x.Offset+x.Bytes
			data := func(to int64) bool {
				for ; at < to; at += min(pieceBytes, to-at) {
					if !yield(part{start + at, min(pieceBytes, to-at), false}) {
						return false
					}
				}
				return true
			}
			for ; next < len(zeros) && zeros[next].Offset < end; next++ {
				z := zeros[next]
				from, to := (max(at, z.Offset)+block-1)&^(block-1), min(end, z.Offset+z.Bytes)&^(block-1)
				if to-from >= leastZero {
					if !data(from) || !yield(part{start + from, to - from, true}) {
						return
					}
					at = to
				}
				if z.Offset+z.Bytes > end {
					break // it goes on in the next
				}
			}
			if !data(end) {
				return
			}
		}
	}
}

// imageBytes is what the parts take in the stream.
func (e *export) imageBytes() (n int64) {
	for p := range e.parts {
		if p.zero {
			n += transport.ZeroBytes()
		} else {
			n += transport.MemberBytes(p.bytes)
		}
	}
	return n
}

// readAhead is how many parts are read while others are being written.
const readAhead = 3

// writeParts writes the parts, and reads the next ones meanwhile.
func (e *export) writeParts(ctx context.Context, w *transport.Writer) error {
	ctx, stop := context.WithCancelCause(ctx)
	free := make(chan []byte, readAhead)
	for range readAhead {
		free <- make([]byte, pieceBytes)
	}
	parts := e.readParts(ctx, stop, free)
	defer func() { // the disk isn't read any more when this returns
		stop(nil)
		for range parts {
		}
	}()
	for p := range parts {
		if p.zero {
			if err := w.Zero(p.offset, p.bytes); err != nil {
				return err
			}
			continue
		}
		if err := w.Block(p.offset, p.data); err != nil {
			return err
		}
		free <- p.data[:pieceBytes]
	}
	return context.Cause(ctx)
}

// readPart is a part with its data, which aren't there where it is zero.
type readPart struct {
	part
	data []byte
}

// readParts reads the parts into memory that is free, until all are read, stop is
// told of a failure, or the context ends.
func (e *export) readParts(ctx context.Context, stop context.CancelCauseFunc, free <-chan []byte) <-chan readPart {
	read, disk := make(chan readPart, readAhead), e.disk.File()
	go func() {
		defer close(read)
		for p := range e.parts {
			var data []byte
			if !p.zero {
				select {
				case <-ctx.Done():
					return
				case data = <-free:
				}
				data = data[:p.bytes]
				if n, err := disk.ReadAt(data, p.offset); n < len(data) {
					stop(fmt.Errorf("read %d bytes at %d of the disk: only %d came: %w", p.bytes, p.offset, n, err))
					return
				}
			}
			select {
			case <-ctx.Done():
				return
			case read <- readPart{p, data}:
			}
		}
	}()
	return read
}
