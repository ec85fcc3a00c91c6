package cache

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"instance-debootstrap/pkg/pattern"
)

// blockBytes is what file sizes are rounded up to: the block size of every
// filesystem that guests get.
const blockBytes = 4096

// shortLink is the longest symlink target that needs no block of its own (ext4
// keeps up to 59 bytes in the inode; xfs and btrfs keep more).
const shortLink = 59

// extent is what a tree's headers tell: the room that it takes, whether it has a
// kernel, and whether it has an /etc at the tar's top.
type extent struct {
	contentBytes, inodes int64
	kernel, etc          bool
}

// scanFile reads all headers of a tar file. It seeks over the contents, so it
// costs little.
func scanFile(ctx context.Context, f *os.File) (extent, error) {
	st, err := f.Stat()
	if err != nil {
		return extent{}, err
	}
	if err := checkEnds(f, st.Size()); err != nil {
		return extent{}, err
	}
	r := io.NewSectionReader(f, 0, st.Size())
	return scan(ctx, r, func() int64 {
		pos, _ := r.Seek(0, io.SeekCurrent) // asking a SectionReader where it is can't fail
		return pos
	})
}

// scan reads a tar stream to its end marker; pos tells how far r has been read.
func scan(ctx context.Context, r io.Reader, pos func() int64) (extent, error) {
	return scanEach(ctx, r, pos, func(member) {})
}

// member is one of a tar's, and the room that it takes.
type member struct {
	name          string
	kind          byte // as archive/tar has it
	bytes, inodes int64
}

// scanEach also tells each member.
func scanEach(ctx context.Context, r io.Reader, pos func() int64, each func(member)) (e extent, err error) {
	tr := tar.NewReader(r)
	var size, dataStart int64 // of the member before
	var before extent         // without it
	var of member
	for {
		if ctx.Err() != nil {
			return e, context.Cause(ctx)
		}
		h, err := tr.Next()
		// A sparse file takes no more than the data the tar holds for it.
		e.contentBytes += roundUp(min(size, pos()-dataStart))
		of.bytes, of.inodes = e.contentBytes-before.contentBytes, e.inodes-before.inodes
		each(of)
		before = e
		if err == io.EOF {
			break
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return e, fmt.Errorf("the tar is cut off: it ends after %d bytes, within a file", pos())
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return e, fmt.Errorf("not a readable tar after %d bytes: %w", pos(), err)
		}
		size, dataStart, of = 0, pos(), member{name: h.Name, kind: h.Typeflag}
		e.kernel = e.kernel || kernel().MatchString(h.Name) // also as another name of a file
		e.etc = e.etc || etc().MatchString(h.Name)
		switch h.Typeflag {
		case tar.TypeLink, tar.TypeXGlobalHeader:
			continue
		case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
			size = h.Size
		case tar.TypeDir:
			e.contentBytes += blockBytes
		case tar.TypeSymlink:
			if len(h.Linkname) > shortLink {
				e.contentBytes += blockBytes
			}
		}
		e.inodes++
	}
	if e.inodes == 0 {
		return e, errors.New("the tar holds no files")
	}
	return e, nil
}

// kernel is where a tree has its kernels.
var kernel = pattern.New(`^(\./)?boot/vmlinu[xz]-`)

var etc = pattern.New(`^(\./)?etc(/|$)`)

func roundUp(n int64) int64 { return (n + blockBytes - 1) / blockBytes * blockBytes }

// compressed are the first bytes of formats that tar files come in.
var compressed = []struct{ name, magic string }{
	{"gzip", "\x1f\x8b"}, {"zstd", "\x28\xb5\x2f\xfd"}, {"xz", "\xfd7zXZ\x00"}, {"bzip2", "BZh"}, {"lz4", "\x04\x22\x4d\x18"},
}

// checkEnds refuses what can't be a whole tar file: a compressed one, and one
// without the two blocks of zeros at its end (POSIX pax, "End-of-archive").
func checkEnds(f io.ReaderAt, size int64) error {
	head := make([]byte, 8)
	n, _ := f.ReadAt(head, 0)
	for _, c := range compressed {
		if bytes.HasPrefix(head[:n], []byte(c.magic)) {
			return fmt.Errorf("it is compressed with %s, a cache entry has to be a plain tar", c.name)
		}
	}
	const endMarker = 1024
	if size < endMarker || size%512 != 0 {
		return fmt.Errorf("not a whole tar: its size is %d bytes", size)
	}
	tail := make([]byte, endMarker)
	if _, err := f.ReadAt(tail, size-endMarker); err != nil {
		return fmt.Errorf("read the end of the tar: %w", err)
	}
	if !bytes.Equal(tail, make([]byte, endMarker)) {
		return errors.New("not a whole tar: its end marker is missing")
	}
	return nil
}
