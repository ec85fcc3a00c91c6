package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// DataExtents calls each with the parts of a disk, in bytes and in order, that
// may hold something else than zeros: what a file has besides its holes
// (lseek(2), SEEK_DATA), and all of a disk that knows no holes.
func DataExtents(f *os.File, sizeBytes int64, each func(offset, n int64) error) error {
	fd := int(f.Fd())
	for at := int64(0); at < sizeBytes; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // a hole up to the end
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ESPIPE) {
			return each(at, sizeBytes-at)
		}
		if err != nil {
			return fmt.Errorf("look for data in %s: %w", f.Name(), err)
		}
		if data >= sizeBytes {
			return nil
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("look for holes in %s: %w", f.Name(), err)
		}
		hole = min(hole, sizeBytes)
		if err := each(data, hole-data); err != nil {
			return err
		}
		at = hole
	}
	return nil
}

// IsEmpty reports whether the disk is a file that has no data at all, as a new one.
// A device, and a file on a filesystem that knows no holes, never is; nor is what FUSE serves: a
// server may have old data where it says that nothing is stored (NBD_STATE_HOLE without
// NBD_STATE_ZERO).
func (d *Disk) IsEmpty() bool {
	if !d.IsFile || isServed(d.file) {
		return false
	}
	_, err := unix.Seek(int(d.file.Fd()), 0, unix.SEEK_DATA)
	return errors.Is(err, unix.ENXIO) // lseek(2): a hole up to the end
}

// ZeroRange makes n bytes at offset read as zero: a hole in a file, the kernel's
// BLKZEROOUT on a device, written zeros elsewhere. The caller syncs.
func ZeroRange(f *os.File, offset, n int64) error {
	err := punch(f, offset, n)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("zero %d bytes at %d of %s: %w", n, offset, f.Name(), err)
	}
	if onRange(f, unix.BLKZEROOUT, offset, n) == nil {
		return nil
	}
	zeros := make([]byte, 1<<20)
	for end := offset + n; offset < end; {
		wrote, err := f.WriteAt(zeros[:min(int64(len(zeros)), end-offset)], offset)
		if err != nil {
			return fmt.Errorf("zero %s: %w", f.Name(), err)
		}
		offset += int64(wrote)
	}
	return nil
}

// punch makes a hole in a file.
func punch(f *os.File, offset, n int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, n)
}

// onRange is a request to a device for a part of it (linux/fs.h).
func onRange(f *os.File, request uintptr, offset, n int64) error {
	span := [2]uint64{uint64(offset), uint64(n)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&span)))
	if errno != 0 {
		return errno
	}
	return nil
}

// Discard gives up what a part of the disk holds, in bytes: a file's blocks, or
// those of a device that takes discards, so that thin volumes and sparse files get
// their space back and a guest finds nothing of an earlier one's. It is not for what
// is known to be written anew: room that is given up has to be found again. A disk
// that can't keeps what it has. zero is whether the part reads as zero now: a file
// does, and of a device it isn't said.
func (d *Disk) Discard(ctx context.Context, offset, n int64) (zero bool) {
	var err error
	if d.IsFile {
		err = punch(d.file, offset, n)
	} else {
		err = onRange(d.file, unix.BLKDISCARD, offset, n)
	}
	if err != nil {
		zerolog.Ctx(ctx).Debug().Err(err).Msgf("discard %d bytes of %s", n, d.Path)
	}
	return err == nil && d.IsFile
}
