package partition

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"unsafe"
)

// gptMagic is the signature that a GPT header begins with.
var gptMagic = []byte("EFI PART")

// blockBytes is the unit of reads and writes: what O_DIRECT asks for on any disk.
const blockBytes = blockSectors * SectorSize

// ends holds the two ends of a disk, where tables live: the codecs read and
// write them in memory, in pieces of any size, and each end goes to the disk in
// one aligned write.
type ends struct {
	head, tail []byte
	tailOffset int64
}

// readEnds reads both ends of a disk: the MBR and a primary GPT, and a backup
// GPT (of 512- or 4096-byte sectors).
func readEnds(r io.ReaderAt, sizeBytes int64) (*ends, error) {
	end := sizeBytes / SectorSize * SectorSize
	e := &ends{tailOffset: (end - gptSectors*SectorSize) / blockBytes * blockBytes}
	e.head = alignedBytes(roundUp((2+gptSectors)*SectorSize, blockBytes))
	if e.tailOffset < int64(len(e.head)) {
		return nil, fmt.Errorf("a disk of %d bytes is too small for a partition table", sizeBytes)
	}
	e.tail = alignedBytes(end - e.tailOffset)
	for _, part := range []struct {
		buf    []byte
		offset int64
	}{{e.head, 0}, {e.tail, e.tailOffset}} {
		if n, err := r.ReadAt(part.buf, part.offset); n < len(part.buf) {
			return nil, fmt.Errorf("read %d bytes at %d: %w", len(part.buf), part.offset, errors.Join(err))
		}
	}
	return e, nil
}

// alignedBytes returns n zero bytes whose address is a multiple of blockBytes.
func alignedBytes(n int64) []byte {
	b := make([]byte, n+blockBytes)
	skip := blockBytes - int64(uintptr(unsafe.Pointer(&b[0]))%blockBytes)
	return b[skip : skip+n : skip+n]
}

func (e *ends) writeTo(f File) error {
	// The backup first, and durable before the other end: should the node die
	// between the two, a reader finds the old table or none, not a new one without
	// its backup. All that is in use of the other end lies in its first block.
	if _, err := f.WriteAt(e.tail, e.tailOffset); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	_, err := f.WriteAt(e.head, 0)
	return err
}

// eraseGPT blanks the GPT headers of 512- and 4096-byte sectors at both ends.
func (e *ends) eraseGPT() {
	end := int64(len(e.tail))
	last4K := (e.tailOffset+end)/4096*4096 - 4096 - e.tailOffset
	for _, header := range [][]byte{e.head[512:], e.head[4096:], e.tail[end-512:], e.tail[last4K:]} {
		if bytes.HasPrefix(header, gptMagic) {
			clear(header[:512])
		}
	}
}

// at returns the part of the buffers that an access of n bytes at offset means.
func (e *ends) at(n int, offset int64) ([]byte, error) {
	if offset >= 0 && offset <= int64(len(e.head)-n) {
		return e.head[offset:][:n], nil
	}
	if o := offset - e.tailOffset; o >= 0 && o <= int64(len(e.tail)-n) {
		return e.tail[o:][:n], nil
	}
	return nil, fmt.Errorf("%d bytes at %d are outside the places of a partition table", n, offset)
}

// ReadAt, WriteAt and the rest make ends a backend.WritableFile of go-diskfs.
func (e *ends) ReadAt(p []byte, offset int64) (int, error) {
	b, err := e.at(len(p), offset)
	return copy(p, b), err
}

// WriteAt changes the buffers only.
func (e *ends) WriteAt(p []byte, offset int64) (int, error) {
	b, err := e.at(len(p), offset)
	return copy(b, p), err
}

// Seek knows the disk's end only, which is all that the codecs ask for.
func (e *ends) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekEnd || offset != 0 {
		return 0, errors.ErrUnsupported
	}
	return e.tailOffset + int64(len(e.tail)), nil
}

// Stat is not supported: the codecs don't use it.
func (e *ends) Stat() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }

// Read is not supported: the codecs don't use it.
func (e *ends) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

// Close does nothing.
func (e *ends) Close() error { return nil }
