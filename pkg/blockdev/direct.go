package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// How much goes to the disk in one request, and how many requests are in flight.
const (
	requestBytes = 2 << 20
	requests     = 4
	directLeast  = 64 << 10 // smaller ones the kernel puts together better than we would
)

// directBytes is what place, length and memory of a direct request are multiples of:
// a disk's sectors, and pages, of which others may be written through the page cache.
var directBytes = int64(max(4096, os.Getpagesize()))

// OpenDirect opens an open disk once more, past the page cache; mode is as in
// os.OpenFile. The error of a filesystem that can't, such as tmpfs, is EINVAL
// (open(2)).
//
// It is also that of FUSE, which cuts a large direct write into several at once: QEMU's
// daemon (block/export/fuse.c, 10.2 and before) reads the second over the bytes of the first
// while that waits for its server. Through the page cache they come one by one.
func OpenDirect(disk *os.File, mode int) (*os.File, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(disk.Fd()), &st); err == nil && st.Type == unix.FUSE_SUPER_MAGIC {
		return nil, &os.PathError{Op: "open past the page cache", Path: disk.Name(), Err: unix.EINVAL}
	}
	return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", disk.Fd()), mode|unix.O_DIRECT, 0)
}

// Writer writes to a disk past the page cache (O_DIRECT), where the disk allows
// it, with several requests in flight. Runs of bytes that follow each other become
// one request. Nobody else may write to the disk meanwhile.
//
// What was written is on its way only: Finish waits for it, and has the error of
// any of it.
type Writer struct {
	disk, direct *os.File // direct is nil where the disk can't

	request []byte // being filled, for the disk at offset
	offset  int64
	made    int // requests' memory that exists
	free    chan []byte
	failed  atomic.Pointer[error] // the first error
}

// NewWriter returns a writer to an open disk.
func NewWriter(ctx context.Context, disk *os.File) *Writer {
	w := &Writer{disk: disk, free: make(chan []byte, requests)}
	var err error
	w.direct, err = OpenDirect(disk, os.O_WRONLY)
	if err != nil {
		zerolog.Ctx(ctx).Debug().Err(err).Msg("the disk refuses direct writes: through the page cache")
	}
	return w
}

// WriteAt takes a copy of data for the disk at offset. An error may be that of an
// earlier call.
func (w *Writer) WriteAt(data []byte, offset int64) (int, error) {
	for rest := data; len(rest) > 0; {
		if w.request != nil && offset != w.offset+int64(len(w.request)) {
			w.send()
		}
		if w.request == nil {
			w.request, w.offset = w.next(), offset
		}
		// Requests end at multiples of their size: within a run they are all aligned.
		n := min(int64(len(rest)), requestBytes-offset%requestBytes)
		w.request, rest, offset = append(w.request, rest[:n]...), rest[n:], offset+n
		if offset%requestBytes == 0 {
			w.send()
		}
	}
	return len(data), w.failure()
}

// next returns memory for a request, and waits for some when all is in use.
func (w *Writer) next() []byte {
	if w.made == requests {
		return <-w.free
	}
	select {
	case b := <-w.free:
		return b
	default:
		w.made++
		return alignedBytes(requestBytes)[:0]
	}
}

// send has the request written.
func (w *Writer) send() {
	request, offset := w.request, w.offset
	w.request = nil
	go func() {
		if err := w.write(request, offset); err != nil {
			err = fmt.Errorf("write %d bytes at %d of the disk: %w", len(request), offset, err)
			w.failed.CompareAndSwap(nil, &err)
		}
		w.free <- request[:0]
	}()
}

func (w *Writer) write(request []byte, offset int64) error {
	aligned := offset%directBytes == 0 && int64(len(request))%directBytes == 0
	if w.direct != nil && aligned && len(request) >= directLeast {
		_, err := w.direct.WriteAt(request, offset)
		if !errors.Is(err, unix.EINVAL) { // larger sectors than 4096 bytes
			return err
		}
	}
	_, err := w.disk.WriteAt(request, offset)
	return err
}

func (w *Writer) failure() error {
	if err := w.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Finish waits for all requests. It syncs nothing, and can be called again.
func (w *Writer) Finish() error {
	if w.request != nil {
		w.send()
	}
	for ; w.made > 0; w.made-- {
		<-w.free
	}
	if w.direct != nil {
		w.direct.Close()
		w.direct = nil
	}
	return w.failure()
}

// alignedBytes returns n bytes whose address is a multiple of directBytes.
func alignedBytes(n int64) []byte {
	b := make([]byte, n+directBytes)
	skip := directBytes - int64(uintptr(unsafe.Pointer(&b[0])))%directBytes
	return b[skip : skip+n : skip+n]
}
