package cache

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/restic/chunker"
)

// A tar that another node has in an older version is brought to it in parts, of which only those
// are sent that it doesn't have. Where a part ends is decided by its content, so that what
// stays the same in two tars is the same parts, wherever it lies.

// part is a piece of a tar.
type part struct {
	sum   [sha256.Size]byte
	bytes uint32
}

// The parts' sizes in bytes. A tree has a header of 512 bytes for each file, in which the time
// may have changed: parts of 16 KiB on average hold few of them, and their list takes 0.2 % of
// the tar.
const (
	minPart     = 4 << 10
	maxPart     = 128 << 10
	partBits    = 14
	partsCutter = chunker.Pol(0x2daf370167c627) // irreducible; another one gives other parts
)

// cut reads to the end, and hands on each part with its content.
func cut(ctx context.Context, r io.Reader, each func(p part, content []byte) error) error {
	c := chunker.NewWithBoundaries(r, partsCutter, minPart, maxPart)
	c.SetAverageBits(partBits)
	buf := make([]byte, maxPart)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		piece, err := c.Next(buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(part{sha256.Sum256(piece.Data), uint32(piece.Length)}, piece.Data); err != nil {
			return err
		}
	}
}

// What is sent is in frames: their length, and then so many bytes.

// maxFrame bounds a frame in bytes: the parts of a tar of 16 GiB take 36 MiB.
const maxFrame = 64 << 20

func writeFrame(w io.Writer, content []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(content))), content...))
	return err
}

func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a piece of %d bytes is announced by another program, or another version of this one: install this version there", n)
	}
	content := make([]byte, n)
	_, err := io.ReadFull(r, content)
	return content, err
}

// packParts is a list of parts as it is sent.
func packParts(list []part) []byte {
	out := make([]byte, 0, len(list)*(sha256.Size+4))
	for _, p := range list {
		out = binary.BigEndian.AppendUint32(append(out, p.sum[:]...), p.bytes)
	}
	return out
}

// unpackParts is that list again. Together they must have the tar's size.
func unpackParts(raw []byte, size int64) (list []part, err error) {
	const each = sha256.Size + 4
	var total int64
	for ; len(raw) >= each; raw = raw[each:] {
		p := part{bytes: binary.BigEndian.Uint32(raw[sha256.Size:])}
		copy(p.sum[:], raw)
		if p.bytes == 0 || p.bytes > maxPart {
			return nil, fmt.Errorf("it has a part of %d bytes: install the same version on both nodes", p.bytes)
		}
		list, total = append(list, p), total+int64(p.bytes)
	}
	if len(raw) != 0 || total != size {
		return nil, fmt.Errorf("its parts have %d bytes, and not %d: install the same version on both nodes", total, size)
	}
	return list, nil
}
