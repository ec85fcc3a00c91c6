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
func asImage(ctx context.Context, from source) (content, error) {
	device, m := from.part.Device, from.manifest
	fault, err := filesystem.FirstFault(ctx, device, from.fs)
	if err != nil {
		return content{}, err
	}
	if fault != "" {
		return content{}, fmt.Errorf("its blocks can't be trusted, because its %s has faults; the first: %q", from.fs, fault)
	}
	used, zeros, err := filesystem.UsedExtents(ctx, device, from.fs)
	if errors.Is(err, errors.ErrUnsupported) {
		m.Content, m.Holes = "blocks", "zero" // whatever isn't zero, then
		return content{m, 0, allBlocks{from.disk}}, nil
	}
	if err != nil {
		return content{}, err
	}
	start, sizeBytes := from.root.Offset(), from.root.SizeBytes()
	holes, err := holesOf(from.disk.File(), start, sizeBytes)
	if err != nil {
		return content{}, err
	}
	m.Content, m.Holes = "blocks", "unused"
	parts := divide(used, append(zeros, holes...), start)
	for p := range parts {
		if p.zero {
			m.Format = transport.FormatFor(true)
			break
		}
	}
	return content{m, start, usedBlocks{from.disk.File(), parts}}, nil
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

// usedBlocks is an image of a filesystem, as its parts on the disk.
type usedBlocks struct {
	disk  *os.File
	parts iter.Seq[part]
}

func (u usedBlocks) bytes(context.Context) (n int64, err error) {
	for p := range u.parts {
		if p.zero {
			n += transport.ZeroBytes()
		} else {
			n += transport.MemberBytes(p.bytes)
		}
	}
	return n, nil
}

// readAhead is how many parts are read while others are being written.
const readAhead = 3

// write writes the parts, and reads the next ones meanwhile.
func (u usedBlocks) write(ctx context.Context, w *transport.Writer) error {
	ctx, stop := context.WithCancelCause(ctx)
	free := make(chan []byte, readAhead)
	for range readAhead {
		free <- make([]byte, pieceBytes)
	}
	parts := u.read(ctx, stop, free)
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

// read reads the parts into memory that is free, until all are read, stop is
// told of a failure, or the context ends.
func (u usedBlocks) read(ctx context.Context, stop context.CancelCauseFunc, free <-chan []byte) <-chan readPart {
	read := make(chan readPart, readAhead)
	go func() {
		defer close(read)
		for p := range u.parts {
			var data []byte
			if !p.zero {
				select {
				case <-ctx.Done():
					return
				case data = <-free:
				}
				data = data[:p.bytes]
				if n, err := u.disk.ReadAt(data, p.offset); n < len(data) {
					stop(fmt.Errorf("read %d bytes at %d of the disk: got only %d: %w", p.bytes, p.offset, n, err))
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
