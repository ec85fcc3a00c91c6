package cache

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/transport"
)

// Pack writes the tree below dir as a tar to out; other filesystems mounted in it
// and a lost+found at its top are left out. No file is later than that time, unless it is zero.
func Pack(ctx context.Context, dir string, out *os.File, latest time.Time) error {
	if err := transport.PackAsOf(ctx, dir, out, latest, "./lost+found"); err != nil {
		return err
	}
	// The disk begins with it, while it is read back: the sync that publishes it has the errors.
	_ = unix.SyncFileRange(int(out.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	return nil
}

// Unpack extracts the entry's tar into dir and sets Seen. What tar is given is
// digested on the way: samples alone, which are compared at every use, don't see a
// single bit. A tar that isn't the one that was published is an error. Losses are
// those of transport.Unpack.
func (e *Entry) Unpack(ctx context.Context, dir string) error {
	e.Seen = ""
	if _, err := e.File.Seek(0, 0); err != nil {
		return err
	}
	seen, err := transport.UnpackDigested(ctx, e.File, dir)
	if seen == "" {
		return err
	}
	if e.SHA256 != "" && seen != e.SHA256 {
		return fmt.Errorf("cache entry %s is damaged: its sha256 is %s, and %s was published: remove it, so that it is built anew, and see to the disk that it is on", e.Path, seen, e.SHA256)
	}
	e.Seen = seen
	return err
}

// Extract copies regular files of the tar into dir, an empty folder: those for whose
// name, without "./" at its beginning, want names a path below dir; without their
// content, unless it is wanted too. A hard link has the content of the file that it is
// another name of. The tar's headers are all that is read beside.
func (e *Entry) Extract(ctx context.Context, dir string, want func(name string) (path string, content bool)) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	links, err := e.extract(ctx, root, want)
	for range maxLinksDeep {
		var further []hardLink
		for _, l := range links {
			more, ferr := e.extract(ctx, root, func(name string) (string, bool) {
				if name == l.target {
					return l.path, true
				}
				return "", false
			})
			further, err = append(further, more...), errors.Join(err, ferr)
		}
		if links = further; err != nil || len(links) == 0 {
			return err
		}
	}
	return fmt.Errorf("%s: %s is a hard link to a hard link, more than %d deep: pack the tree anew", e.Path, links[0].path, maxLinksDeep)
}

// maxLinksDeep is how many hard links may lead to a file one after the other. GNU tar
// has all of them lead to the file itself.
const maxLinksDeep = 8

// hardLink is a file, by its path, that is another name of one in the tar.
type hardLink struct{ path, target string }

// extract is Extract but for the content of hard links, which it returns.
func (e *Entry) extract(ctx context.Context, root *os.Root, want func(name string) (path string, content bool)) (links []hardLink, err error) {
	st, err := e.File.Stat()
	if err != nil {
		return nil, err
	}
	for r := tar.NewReader(io.NewSectionReader(e.File, 0, st.Size())); ctx.Err() == nil; {
		h, err := r.Next()
		if err == io.EOF {
			return links, nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return nil, err
		}
		path, content := want(strings.TrimPrefix(h.Name, "./"))
		switch {
		case path == "" || !slices.Contains([]byte{tar.TypeReg, tar.TypeLink, tar.TypeGNUSparse, tar.TypeCont}, h.Typeflag):
			continue
		case h.Typeflag == tar.TypeLink && content:
			links = append(links, hardLink{path, strings.TrimPrefix(h.Linkname, "./")})
			continue
		case !content:
			err = writeFile(root, path, strings.NewReader(""))
		default:
			err = writeFile(root, path, io.LimitReader(r, largestExtract))
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, context.Cause(ctx)
}

// writeFile makes a file and the folders above it.
func writeFile(root *os.Root, path string, content io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := root.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// largestExtract is what Extract takes of a file, in bytes.
const largestExtract = 16 << 20
