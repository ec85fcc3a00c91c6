package transport

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// The names of our own members.
const (
	ownFolder    = ".instance-debootstrap/"
	manifestName = ownFolder + "manifest.json"
	diskFolder   = ownFolder + "disk/"
	zeroFolder   = ownFolder + "zero/"
	digestName   = ownFolder + "sha256"
)

// MaxBlock is the most bytes of a disk that one member holds.
const MaxBlock = 4 << 20

// zeroBytes is the length of a member that stands for zeros: 16 hex digits and a
// newline.
const zeroBytes = 17

// digestBytes is the length of the last member: 64 hex digits and a newline.
const digestBytes = 2*sha256.Size + 1

// EndBytes is what a stream takes after its last block or file.
const EndBytes int64 = 2*recordBytes + 2*recordBytes

// MemberBytes returns what a member of ours with n bytes takes in the stream.
func MemberBytes(n int64) int64 { return recordBytes + padded(n) }

// ZeroBytes is what a part of the disk that is zero takes in the stream.
func ZeroBytes() int64 { return MemberBytes(zeroBytes) }

// ManifestBytes returns what the manifest takes in the stream.
func ManifestBytes(m Manifest) (int64, error) {
	b, err := m.Encode()
	return MemberBytes(int64(len(b))), err
}

// Writer writes a stream. Its methods are called in the stream's order: blocks,
// files, Close.
type Writer struct {
	w     io.Writer
	sum   *digest
	n     int64
	next  int64 // where the next block may begin
	limit int64 // the disk's size
	err   error
}

// NewWriter begins a stream with its manifest.
func NewWriter(w io.Writer, m Manifest) (*Writer, error) {
	b, err := m.Encode()
	if err != nil {
		return nil, err
	}
	wr := &Writer{w: w, sum: newDigest(), limit: m.Disk.SizeBytes}
	wr.member(manifestName, b)
	return wr, wr.fail()
}

// Write passes on what it is given, and counts and digests it.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.w.Write(p)
	w.n += int64(n)
	w.sum.Write(p[:n])
	w.err = err
	return n, err
}

var zeroRecord [recordBytes]byte

func (w *Writer) member(name string, data []byte) {
	w.Write(header(name, int64(len(data))))
	w.Write(data)
	w.Write(zeroRecord[:padded(int64(len(data)))-int64(len(data))])
}

func (w *Writer) fail() error {
	if w.err != nil {
		return fmt.Errorf("write the backup: %w", w.err)
	}
	return nil
}

// Block writes bytes of the disk that belong at offset.
func (w *Writer) Block(offset int64, data []byte) error {
	if err := checkBlock(offset, int64(len(data)), w.next, w.limit); err != nil {
		return err
	}
	w.next = offset + int64(len(data))
	w.member(fmt.Sprintf("%s%016x", diskFolder, offset), data)
	return w.fail()
}

// Zero says that n bytes of the disk at offset are zero.
func (w *Writer) Zero(offset, n int64) error {
	if err := checkPlace(offset, n, w.next, w.limit); err != nil {
		return err
	}
	w.next = offset + n
	w.member(fmt.Sprintf("%s%016x", zeroFolder, offset), fmt.Appendf(nil, "%016x\n", n))
	return w.fail()
}

// Tree copies the members of a tar by GNU tar as they come, but for its end of
// archive. It reads the tar to its end; io.ErrUnexpectedEOF is a tar without one.
func (w *Writer) Tree(tar io.Reader) error {
	t := newWalker(tar)
	for {
		m, err := t.next()
		if errors.Is(err, io.EOF) {
			return t.drainZeros()
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(m.raw); err != nil {
			return w.fail()
		}
		if _, err := io.CopyBuffer(w, onlyReader{t.data(m)}, t.buf); err != nil {
			return errors.Join(w.fail(), err)
		}
		w.Write(zeroRecord[:padded(m.size)-m.size])
	}
}

// Close writes the digest and the end of the stream.
func (w *Writer) Close() error {
	w.member(digestName, []byte(w.sum.hex()+"\n"))
	w.Write(zeroRecord[:])
	w.Write(zeroRecord[:])
	return w.fail()
}

// Written returns how many bytes the stream has so far.
func (w *Writer) Written() int64 { return w.n }

// checkBlock and checkPlace hold a block, and a part of the disk that is zero,
// against the rules that both sides keep to.
func checkBlock(offset, n, next, limit int64) error {
	if n > MaxBlock {
		return fmt.Errorf("a block of %d bytes at %d: blocks have at most %d bytes", n, offset, MaxBlock)
	}
	return checkPlace(offset, n, next, limit)
}

func checkPlace(offset, n, next, limit int64) error {
	if n <= 0 || offset%recordBytes != 0 || n%recordBytes != 0 || offset < next || offset > limit-n {
		return fmt.Errorf("a block of %d bytes at %d: blocks are whole sectors, in order, and on the disk of %d bytes", n, offset, limit)
	}
	return nil
}

type onlyReader struct{ io.Reader }
