package cache

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"instance-debootstrap/pkg/dpkg"
)

// Show returns what is known of the one entry whose key begins with the text, and the
// packages in its tree. A name cache-SUITE-ARCH.tar is an admin's own.
func (s Store) Show(ctx context.Context, key string) (Listing, []dpkg.Package, error) {
	list, err := s.List()
	if err != nil {
		return Listing{}, nil, err
	}
	at := slices.IndexFunc(list, func(l Listing) bool { return path.Base(l.Path) == key })
	if at < 0 {
		n, err := s.find(key)
		if err != nil {
			return Listing{}, nil, err
		}
		if at = slices.IndexFunc(list, func(l Listing) bool { return l.Path == n.tar }); at < 0 {
			return Listing{}, nil, fmt.Errorf("cache entry %s is new at this moment: try again", n.tar)
		}
	}
	packages, err := s.packagesOf(ctx, list[at].Path)
	return list[at], packages, err
}

// packagesOf reads the packages of a tree from its tar.
func (s Store) packagesOf(ctx context.Context, name string) ([]dpkg.Package, error) {
	if err := s.checkFile(ctx, name); err != nil {
		return nil, err
	}
	f, err := openShared(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		switch {
		case err == io.EOF:
			return nil, fmt.Errorf("cache entry %s has no %s", name, dpkg.StatusFile)
		case err != nil && !errors.Is(err, tar.ErrInsecurePath):
			return nil, fmt.Errorf("cache entry %s: %w", name, err)
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case path.Clean("/"+h.Name) != dpkg.StatusFile || h.Typeflag != tar.TypeReg:
			continue
		case h.Size > dpkg.MaxStatus:
			return nil, fmt.Errorf("cache entry %s: its %s has %d bytes, more than %d", name, dpkg.StatusFile, h.Size, dpkg.MaxStatus)
		}
		status, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("cache entry %s: %w", name, err)
		}
		return dpkg.Parse(status)
	}
}
