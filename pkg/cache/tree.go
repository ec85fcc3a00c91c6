package cache

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"instance-debootstrap/pkg/transport"
)

// Pack writes the tree below dir as a tar to out; other filesystems mounted in it
// and a lost+found at its top are left out.
func Pack(ctx context.Context, dir string, out *os.File) error {
	return transport.Pack(ctx, dir, out, transport.PackOptions{Exclude: []string{"./lost+found"}})
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
// content, unless it is wanted too. The tar's headers are all that is read beside.
func (e *Entry) Extract(ctx context.Context, dir string, want func(name string) (path string, content bool)) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	st, err := e.File.Stat()
	if err != nil {
		return err
	}
	for r := tar.NewReader(io.NewSectionReader(e.File, 0, st.Size())); ctx.Err() == nil; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return err
		}
		path, content := want(strings.TrimPrefix(h.Name, "./"))
		if path == "" || h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeLink {
			continue
		}
		if err := root.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		f, err := root.Create(path)
		if err != nil {
			return err
		}
		if content {
			_, err = io.Copy(f, io.LimitReader(r, largestExtract))
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// largestExtract is what Extract takes of a file, in bytes.
const largestExtract = 16 << 20
