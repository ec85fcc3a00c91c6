package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"instance-debootstrap/pkg/filesystem"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// use opens the keyed entry and checks it; the key's lock is held. An entry that
// was changed is adopted, a damaged one set aside: then, as when there is none,
// the error is fs.ErrNotExist.
func (s Store) use(ctx context.Context, n names, in Inputs) (*Entry, error) {
	if err := errors.Join(s.checkFile(ctx, n.tar), s.checkFile(ctx, n.sidecar)); err != nil {
		return nil, err
	}
	f, err := openShared(ctx, n.tar)
	if err != nil {
		return nil, err
	}
	m, err := s.check(ctx, n, in, f)
	if err == nil {
		e := &Entry{Path: n.tar, File: f, Key: n.key, SHA256: m.SHA256, Digest: m.SHA256, ContentBytes: m.ContentBytes, Inodes: m.Inodes, Made: m.Made, Source: SourceHit}
		if m.Edited {
			e.Source = SourceEdited
		}
		return e, nil
	}
	f.Close()
	if ctx.Err() != nil || errors.Is(err, errChanging) {
		return nil, fmt.Errorf("cache entry %s: %w", n.tar, err)
	}
	zerolog.Ctx(ctx).Warn().Err(err).Msgf("cache entry %s is damaged: set aside as %s", n.tar, n.corrupt)
	if err := os.Rename(n.tar, n.corrupt); err != nil {
		return nil, fmt.Errorf("set damaged cache entry aside: %w", err)
	}
	os.Remove(n.sidecar) // or the next run finds it without its tar
	return nil, &fs.PathError{Op: "use", Path: n.tar, Err: fs.ErrNotExist}
}

// check returns what is known of the open entry: its sidecar where its size and
// time are as published, else what reading it through tells.
func (s Store) check(ctx context.Context, n names, in Inputs, f *os.File) (sidecar, error) {
	st, err := f.Stat()
	if err != nil {
		return sidecar{}, err
	}
	m, err := readSidecar(n.sidecar)
	if err == nil && m.identical(st) {
		return m, m.checkChunks(f)
	}
	hadSidecar, made := err == nil, m.Made
	m, err = measure(ctx, f)
	if err != nil {
		return sidecar{}, err
	}
	log := zerolog.Ctx(ctx)
	m.Made, m.Adopted = made, !hadSidecar
	if m.Edited = hadSidecar; m.Edited {
		log.Info().Msgf("cache entry %s was edited since it was published: adopted, with %d files", n.tar, m.Inodes)
	} else {
		log.Info().Msgf("cache entry %s had no usable sidecar: read through and adopted, with %d files", n.tar, m.Inodes)
	}
	if err := s.writeSidecar(n, in, m); err != nil {
		log.Warn().Err(err).Msg("the adopted cache entry will be read through again at its next use")
	}
	return m, nil
}

// build makes the entry and publishes it: fs.ErrExist when somebody else put one
// there meanwhile.
func (s Store) build(ctx context.Context, n names, in Inputs, build builder) error {
	t, err := s.scratch(n.tar)
	if err != nil {
		return err
	}
	defer t.discard()
	made, err := build(ctx, t.f)
	if err != nil {
		return fmt.Errorf("build cache entry %s: %w", n.base, err)
	}
	// Read back from the page cache: what is hashed is what is in the file.
	m, err := measure(ctx, t.f)
	if err != nil {
		return fmt.Errorf("build cache entry %s: what was built: %w", n.base, err)
	}
	m.Made = made
	if err := t.publish(); err != nil {
		return err
	}
	zerolog.Ctx(ctx).Info().Msgf("published cache entry %s: %d files, %d MiB", n.tar, m.Inodes, m.Size>>20)
	if err := s.writeSidecar(n, in, m); err != nil {
		zerolog.Ctx(ctx).Warn().Err(err).Msg("the cache entry has no sidecar yet: its next use makes it")
	}
	return nil
}

// withRemedy says what to do about a cache folder that takes no file.
func withRemedy(err error) error {
	switch {
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: set CACHE_DIR to a folder that can be written to, or GENERATE_CACHE=no to build each guest's tree on its own disk", err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: free some space there, or set CACHE_DIR", err)
	}
	return err
}

// scratch is a file that has no name until it is published; where the
// filesystem can't do that, it has a temporary one, which the next run that
// holds the key's lock sweeps.
type scratch struct {
	f     *os.File
	final string
	temp  string // "" is a file without a name
}

func (s Store) scratch(final string) (*scratch, error) { return s.scratchAs(final, tempPath(final)) }

// scratchAs is scratch with the temporary name given.
func (s Store) scratchAs(final, temp string) (*scratch, error) {
	dir := filepath.Dir(final)
	if !s.noTmpfile {
		fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == nil {
			return &scratch{f: os.NewFile(uintptr(fd), final), final: final}, nil
		}
		// EISDIR and ENOENT: open(2), of kernels and filesystems that don't know the flag.
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("make a file in cache folder %s: %w", dir, withRemedy(err))
		}
	}
	os.Remove(temp)
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file in cache folder %s: %w", dir, withRemedy(err))
	}
	return &scratch{f: f, final: final, temp: temp}, nil
}

// publish gives the file its final name, which must be free, when its content
// is on the disk, and makes the name durable too.
func (t *scratch) publish() error {
	if err := t.f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", t.final, err)
	}
	if err := t.link(); err != nil {
		return fmt.Errorf("publish %s: %w", t.final, err)
	}
	return filesystem.SyncFolder(filepath.Dir(t.final))
}

// link gives the file its final name, which must be free.
func (t *scratch) link() error {
	if t.temp != "" {
		return renameNew(t.temp, t.final)
	}
	// The way open(2) shows to name an O_TMPFILE file.
	self := fmt.Sprintf("/proc/self/fd/%d", t.f.Fd())
	return unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, t.final, unix.AT_SYMLINK_FOLLOW)
}

// replace gives the file its final name, in the stead of the file that has it.
// temp is a name beside it for the moment between.
func (t *scratch) replace(temp string) error {
	temp = cmp.Or(t.temp, temp)
	if err := t.f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", t.final, err)
	}
	if t.temp == "" {
		os.Remove(temp)
		self := fmt.Sprintf("/proc/self/fd/%d", t.f.Fd())
		if err := unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, temp, unix.AT_SYMLINK_FOLLOW); err != nil {
			return fmt.Errorf("publish %s: %w", t.final, err)
		}
	}
	if err := os.Rename(temp, t.final); err != nil {
		os.Remove(temp)
		return fmt.Errorf("publish %s: %w", t.final, err)
	}
	return filesystem.SyncFolder(filepath.Dir(t.final))
}

// renameNew renames a file to a name that must be free.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// A filesystem without the flag (NFS): the key's lock is what keeps others out.
	if _, err := os.Lstat(to); err == nil {
		return fs.ErrExist
	}
	return os.Rename(from, to)
}

// discard closes the file; one that wasn't published is gone then.
func (t *scratch) discard() {
	t.f.Close()
	if t.temp != "" {
		os.Remove(t.temp)
	}
}
