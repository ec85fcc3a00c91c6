package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/tell"
)

// writers is how many writes are in flight, each of at most requestBytes: enough for
// a disk that answers in milliseconds.
const (
	writers      = 4
	requestBytes = 2 << 20
)

// CopyTo writes the image's filesystem to a disk from offset on, past the page
// cache where the disk allows it (O_DIRECT; not tmpfs, nor some NFS). It doesn't
// sync. Nobody else may have the disk open through another page cache. All
// data are held against their checksums on the way: after ErrDamaged, as after any
// other error, what is on the disk is part of a filesystem at most.
//
// What the image doesn't use keeps what it had on the disk.
func (m *Image) CopyTo(ctx context.Context, disk *os.File, offset int64) error {
	for _, z := range m.Zero {
		if err := blockdev.ZeroRange(disk, offset+z.Offset, z.Bytes); err != nil {
			return err
		}
	}
	if err := m.reserve(disk, offset); err != nil {
		return err
	}
	direct, err := blockdev.OpenDirect(disk, os.O_RDWR)
	if err == nil {
		err = errors.Join(m.copyData(ctx, direct, offset), direct.Close())
	}
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	zerolog.Ctx(ctx).Debug().Msg("the disk refuses direct writes: through the page cache")
	return m.copyData(ctx, disk, offset)
}

// CloneTo has a disk that is a file share all of the image's blocks, from offset
// on (ioctl FICLONERANGE): nothing is written, nor synced, and what the
// image doesn't use become holes. The error of a disk that can't, on another
// filesystem or one without reflinks, is for the caller to go on with CopyTo.
//
// The data aren't read: Sample is what is known of them.
func (m *Image) CloneTo(disk *os.File, offset int64) error {
	r := unix.FileCloneRange{Src_fd: int64(m.File.Fd()), Src_length: uint64(m.SizeBytes), Dest_offset: uint64(offset)}
	if err := unix.IoctlFileCloneRange(int(disk.Fd()), &r); err != nil {
		return fmt.Errorf("share the blocks of %s: %w", m.File.Name(), err)
	}
	return nil
}

// copyData writes all pieces, several at a time.
func (m *Image) copyData(ctx context.Context, to *os.File, offset int64) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	requests := make(chan []Piece)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for r := range requests {
				if err := m.copyPieces(to, offset, r); err != nil {
					stop(err)
				}
			}
		})
	}
	amount := &tell.Amount{What: "copied", TotalBytes: total(m.Data)}
	for left := m.Data; len(left) > 0 && ctx.Err() == nil; {
		n := neighbours(left, requestBytes)
		requests <- left[:n]
		amount.Add(ctx, total(left[:n]))
		left = left[n:]
	}
	close(requests)
	wg.Wait()
	return context.Cause(ctx)
}

// total is how many bytes pieces have.
func total(pieces []Piece) (n int64) {
	for _, p := range pieces {
		n += p.Bytes
	}
	return n
}

// neighbours is how many of the first pieces follow each other without a gap, and
// have no more bytes than that together.
func neighbours(p []Piece, most int64) int {
	n, size := 1, p[0].Bytes
	for n < len(p) && p[n-1].Offset+p[n-1].Bytes == p[n].Offset && size+p[n].Bytes <= most {
		size += p[n].Bytes
		n++
	}
	return n
}

// reserve has a disk that is a file find room for the data in few large parts, and
// tells when there is none, before anything is written.
func (m *Image) reserve(disk *os.File, offset int64) error {
	for left := m.Data; len(left) > 0; {
		n := neighbours(left, m.SizeBytes)
		start, end := left[0].Offset, left[n-1].Offset+left[n-1].Bytes
		err := unix.Fallocate(int(disk.Fd()), unix.FALLOC_FL_KEEP_SIZE, offset+start, end-start)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
				return fmt.Errorf("no room for the tree's %d MiB where the disk's file lies: %w", total(m.Data)>>20, err)
			}
			return nil // a device, or a filesystem that has no such call
		}
		left = left[n:]
	}
	return nil
}

// copyPieces writes neighbours from the image's pages in the page cache: a buffer
// between would cost as much as all the rest.
func (m *Image) copyPieces(to *os.File, offset int64, pieces []Piece) error {
	first, last := pieces[0], pieces[len(pieces)-1]
	return m.mapped(first.Offset, last.Offset+last.Bytes-first.Offset, func(b []byte) error {
		for _, p := range pieces {
			if err := m.check(p, b[p.Offset-first.Offset:][:p.Bytes]); err != nil {
				return err
			}
		}
		if _, err := to.WriteAt(b, offset+first.Offset); errors.Is(err, unix.EFAULT) {
			return m.unreadable(first.Offset) // the kernel's way to say what SIGBUS says
		} else if err != nil {
			return fmt.Errorf("write %d bytes at %d of the disk: %w", len(b), offset+first.Offset, err)
		}
		return nil
	})
}

func (m *Image) unreadable(offset int64) error {
	return fmt.Errorf("%s: %w: it can't be read near byte %d", m.File.Name(), ErrDamaged, offset)
}

// mapped hands over n bytes of the file, mapped. That the file has become shorter,
// or that its disk can't be read, is told by SIGBUS then: it becomes an error.
// (MAP_PRIVATE, which FUSE allows for all files, MAP_SHARED not.)
func (m *Image) mapped(offset, n int64, use func([]byte) error) (err error) {
	skip := offset % int64(os.Getpagesize())
	b, err := unix.Mmap(int(m.File.Fd()), offset-skip, int(skip+n), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("map %d bytes at %d of %s: %w", n, offset, m.File.Name(), err)
	}
	defer unix.Munmap(b)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // runtime/debug.SetPanicOnFault
			err = m.unreadable(offset)
		default:
			panic(r)
		}
	}()
	return use(b[skip:])
}
