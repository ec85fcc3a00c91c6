package transport

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// What is gathered for the digest, and how many of these there are at most.
const (
	digestPieceBytes = 256 << 10
	digestPieces     = 4
)

// digest is the SHA-256 of what is written to it, made beside the reading and
// writing, which take as long. Nothing has to be ended: who drops one half-way
// leaves no goroutine.
type digest struct {
	sum    hash.Hash
	piece  []byte        // being filled
	made   int           // pieces that exist
	free   chan []byte   // those that have been added up
	before chan struct{} // closed when the last piece handed over has been added up
}

func newDigest() *digest {
	return &digest{sum: sha256.New(), free: make(chan []byte, digestPieces)}
}

// Write never fails.
func (d *digest) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := copy(d.room(), rest)
		d.took(n)
		rest = rest[n:]
	}
	return len(p), nil
}

// room returns memory to read into what is to be digested, instead of writing it.
// It is never empty. What was put there, and took was told of, stays until the next
// call of room or Write.
func (d *digest) room() []byte {
	if d.piece == nil {
		d.piece = d.next()
	}
	return d.piece[len(d.piece):cap(d.piece)]
}

// took digests the first n bytes of room.
func (d *digest) took(n int) {
	d.piece = d.piece[:len(d.piece)+n]
	if len(d.piece) == cap(d.piece) {
		d.add()
	}
}

// next returns an empty piece, and waits for one when all are in use.
func (d *digest) next() []byte {
	select {
	case piece := <-d.free:
		return piece
	default:
	}
	if d.made == digestPieces {
		return <-d.free
	}
	d.made++
	return make([]byte, 0, digestPieceBytes)
}

// add has the current piece added up, after those before it.
func (d *digest) add() {
	piece, before, done := d.piece, d.before, make(chan struct{})
	d.piece, d.before = nil, done
	go func() {
		if before != nil {
			<-before
		}
		d.sum.Write(piece)
		d.free <- piece[:0]
		close(done)
	}()
}

// hex returns the digest of all that was written so far, in hexadecimal digits.
func (d *digest) hex() string {
	if d.piece != nil {
		d.add()
	}
	if d.before != nil {
		<-d.before
	}
	return hex.EncodeToString(d.sum.Sum(nil))
}

// feed reads a file to its end, digests it and writes it to a pipe, until that is read
// no more.
func (d *digest) feed(ctx context.Context, in io.Reader, to *os.File) error {
	for gone := false; ; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		piece := d.room()
		n, err := in.Read(piece)
		if n > 0 {
			if !gone {
				_, err := to.Write(piece[:n])
				if gone = errors.Is(err, unix.EPIPE); err != nil && !gone {
					return err
				}
			}
			d.took(n)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
