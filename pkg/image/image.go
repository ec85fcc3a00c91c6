// Package image keeps filesystem images that are sealed: a sparse file with a
// list, behind the filesystem's end, of the parts that a copy needs, each with
// its checksum. A copy of those onto a disk is the whole filesystem.
//
// The list is the truth, not the file's holes: a copy of an image that lost
// them is as good.
package image

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"golang.org/x/sys/unix"
)

// formatNumber goes up when older programs couldn't read the file any more.
const formatNumber = 1

// blockBytes is what all positions and lengths are multiples of.
const blockBytes = 4096

// pieceBytes is the most that one piece holds: the unit of reads and writes.
const pieceBytes = 1 << 20

// listLimit is the longest list that is read, in bytes: that of 16 GiB of
// scattered blocks of 64 KiB.
const listLimit = 16 << 20

// A sealed file ends with the list and this footer, all numbers little-endian:
// its magic, the list's length and its CRC-32C.
const (
	magic       = "idbimage"
	footerBytes = 16
)

// ErrDamaged is what all errors wrap that mean that the file isn't what was
// sealed. Such an image has to go.
var ErrDamaged = errors.New("the image is damaged")

// checksum is the CRC-32C.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// Range is a part of the filesystem, in bytes.
type Range struct{ Offset, Bytes int64 }

// Piece is a part of the filesystem with data.
type Piece struct {
	Offset int64  `json:"at"`
	Bytes  int64  `json:"n"`
	CRC    uint32 `json:"crc"` // CRC-32C
}

// List is what is known of a sealed image.
type List struct {
	Format    int     `json:"format"`
	Tree      string  `json:"tree"`       // digest of the tree that it was filled with
	TreeSeen  string  `json:"tree_seen"`  // SHA-256 of all of the tar, as it was read to fill it
	SizeBytes int64   `json:"size_bytes"` // of the filesystem
	Journal   int64   `json:"journal"`    // where the journal's superblock is, in bytes; 0 is nowhere
	Data      []Piece `json:"data"`
	Zero      []Range `json:"zero"` // in use, and nothing but zeros: on a disk they must be zeros, too
	MadeBy    string  `json:"made_by"`
}

// Unused are the parts of a partition of so many bytes that a copy doesn't write:
// what is no data.
func (l *List) Unused(partitionBytes int64) (parts []Range) {
	next := int64(0)
	for _, p := range append(l.Data[:len(l.Data):len(l.Data)], Piece{Offset: partitionBytes}) {
		if p.Offset > next {
			parts = append(parts, Range{next, p.Offset - next})
		}
		next = p.Offset + p.Bytes
	}
	return parts
}

// Image is a sealed image that is open for reading.
type Image struct {
	List
	File *os.File
}

// Seal makes an image of a file that holds a clean filesystem: of used, its parts
// in use, those that are holes or nothing but zeros go on the list of zeros, all
// else of the file becomes holes where it can, and the list is written behind the
// filesystem. The file is not synced.
func Seal(ctx context.Context, f *os.File, l List, used []Range) error {
	l.Format = formatNumber
	if err := punchBetween(f, used, l.SizeBytes); err != nil {
		return fmt.Errorf("seal the image: %w", err)
	}
	buf := make([]byte, pieceBytes)
	for _, u := range used {
		if err := l.add(ctx, f, u, buf); err != nil {
			return fmt.Errorf("seal the image: %w", err)
		}
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	footer := make([]byte, footerBytes)
	copy(footer, magic)
	binary.LittleEndian.PutUint32(footer[8:], uint32(len(raw)))
	binary.LittleEndian.PutUint32(footer[12:], checksum(raw))
	if err := f.Truncate(l.SizeBytes); err != nil {
		return err
	}
	_, err = f.WriteAt(append(raw, footer...), l.SizeBytes)
	return err
}

// add puts a range that is in use on the lists.
func (l *List) add(ctx context.Context, f *os.File, u Range, buf []byte) error {
	if u.Offset%blockBytes != 0 || u.Bytes%blockBytes != 0 || u.Offset+u.Bytes > l.SizeBytes {
		return fmt.Errorf("%d bytes at %d aren't whole blocks of a filesystem of %d bytes", u.Bytes, u.Offset, l.SizeBytes)
	}
	for end := u.Offset + u.Bytes; u.Offset < end; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := buf[:min(end-u.Offset, pieceBytes)]
		if _, err := f.ReadAt(b, u.Offset); err != nil {
			return fmt.Errorf("read %d bytes at %d: %w", len(b), u.Offset, err)
		}
		l.sort(b, u.Offset)
		u.Offset += int64(len(b))
	}
	return nil
}

// sort puts a buffer's runs of zero blocks, from 16 on, on the list of zeros and
// the rest on that of data.
func (l *List) sort(b []byte, offset int64) {
	const zeroRun = 16 * blockBytes
	data := 0 // where the data begin that aren't on a list yet
	for at := 0; at < len(b); {
		end := at
		for end < len(b) && isZero(b[end:end+blockBytes]) {
			end += blockBytes
		}
		if end-at >= zeroRun || end-at == len(b) {
			l.addData(b[data:at], offset+int64(data))
			l.addZero(Range{offset + int64(at), int64(end - at)})
			data = end
		}
		at = max(end, at+blockBytes)
	}
	l.addData(b[data:], offset+int64(data))
}

func (l *List) addData(b []byte, offset int64) {
	if len(b) > 0 {
		l.Data = append(l.Data, Piece{offset, int64(len(b)), checksum(b)})
	}
}

func (l *List) addZero(r Range) {
	if n := len(l.Zero); n > 0 && l.Zero[n-1].Offset+l.Zero[n-1].Bytes == r.Offset {
		l.Zero[n-1].Bytes += r.Bytes
		return
	}
	l.Zero = append(l.Zero, r)
}

// isZero tells whether a block is all zeros.
func isZero(b []byte) bool {
	for i := 0; i < len(b); i += 8 {
		if binary.NativeEndian.Uint64(b[i:]) != 0 {
			return false
		}
	}
	return true
}

// punchBetween makes holes of what isn't in use. A filesystem that knows no
// holes keeps it.
func punchBetween(f *os.File, used []Range, sizeBytes int64) error {
	next := int64(0)
	for _, u := range append(used, Range{sizeBytes, 0}) {
		if u.Offset < next {
			return fmt.Errorf("the range at %d is out of order", u.Offset)
		}
		if u.Offset > next {
			err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, next, u.Offset-next)
			if err != nil && !unsupported(err) {
				return fmt.Errorf("punch a hole of %d bytes at %d: %w", u.Offset-next, next, err)
			}
		}
		next = u.Offset + u.Bytes
	}
	return nil
}

func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTTY)
}

// Open reads the list of a sealed file; the image owns the file then, unless
// there is an error.
func Open(f *os.File) (*Image, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	m := &Image{File: f}
	if err := m.readList(st.Size()); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", f.Name(), ErrDamaged, err)
	}
	return m, nil
}

func (m *Image) readList(fileBytes int64) error {
	footer := make([]byte, footerBytes)
	if _, err := m.File.ReadAt(footer, max(0, fileBytes-footerBytes)); err != nil {
		return err
	}
	n := int64(binary.LittleEndian.Uint32(footer[8:]))
	start := fileBytes - footerBytes - n
	if string(footer[:8]) != magic || n > listLimit || start < 0 {
		return errors.New("it does not end with a list")
	}
	raw := make([]byte, n)
	if _, err := m.File.ReadAt(raw, start); err != nil {
		return err
	}
	if checksum(raw) != binary.LittleEndian.Uint32(footer[12:]) {
		return errors.New("its list has another checksum")
	}
	if err := json.Unmarshal(raw, &m.List); err != nil {
		return err
	}
	if m.Format != formatNumber || m.SizeBytes != start || len(m.Data) == 0 {
		return fmt.Errorf("its list is of format %d for %d bytes", m.Format, m.SizeBytes)
	}
	next := int64(0)
	for _, p := range m.Data { // several are written at a time
		if p.Offset < next || p.Bytes <= 0 || p.Bytes > pieceBytes || p.Offset > m.SizeBytes-p.Bytes || (p.Offset|p.Bytes)%blockBytes != 0 {
			return fmt.Errorf("its list has %d bytes at %d, behind byte %d", p.Bytes, p.Offset, next)
		}
		next = p.Offset + p.Bytes
	}
	for _, z := range m.Zero {
		if z.Offset < 0 || z.Bytes <= 0 || z.Offset > m.SizeBytes-z.Bytes {
			return fmt.Errorf("its list has %d zeros at %d", z.Bytes, z.Offset)
		}
	}
	return nil
}

// Close closes the file.
func (m *Image) Close() error { return m.File.Close() }

// check holds a piece against its checksum.
func (m *Image) check(p Piece, b []byte) error {
	if checksum(b) != p.CRC {
		return fmt.Errorf("%s: %w: its checksum is wrong at byte %d", m.File.Name(), ErrDamaged, p.Offset)
	}
	return nil
}

// Verify reads all pieces.
func (m *Image) Verify(ctx context.Context) error { return m.verify(ctx, 1) }

// samples is how many pieces Sample reads.
const samples = 16

// Sample reads some of the pieces, evenly spread.
func (m *Image) Sample(ctx context.Context) error { return m.verify(ctx, max(1, len(m.Data)/samples)) }

func (m *Image) verify(ctx context.Context, step int) error {
	for i := 0; i < len(m.Data); i += step {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p := m.Data[i]
		if err := m.mapped(p.Offset, p.Bytes, func(b []byte) error { return m.check(p, b) }); err != nil {
			return err
		}
	}
	return nil
}
