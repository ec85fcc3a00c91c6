package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/session"
)

// NewImage is a disk image file in the making: it has no name until it is
// complete, so that a run that is killed leaves nothing.
type NewImage struct {
	// WorkPath reaches the file meanwhile, for this process and its children.
	WorkPath string

	path string
	file *os.File
}

// MakeImage makes an unnamed sparse file of sizeBytes in path's folder. Where
// the filesystem has no unnamed files the image has its name from the start
// and is removed on failure.
func MakeImage(s *session.Session, path string, sizeBytes int64) (*NewImage, error) {
	f, err := os.OpenFile(filepath.Dir(path), os.O_RDWR|unix.O_TMPFILE, 0o644)
	img := &NewImage{path: path, file: f}
	if err == nil {
		img.WorkPath = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
	} else if noTmpfile(err) {
		img.WorkPath = path
		img.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", path, err)
	}
	s.Defer("close "+path, func(context.Context) error { return img.close() })
	if err := img.file.Truncate(sizeBytes); err != nil {
		return nil, fmt.Errorf("image %s: size %d bytes: %w", path, sizeBytes, err)
	}
	return img, nil
}

// publish gives the finished image its name.
func (m *NewImage) publish() error {
	defer func() { m.file.Close(); m.file = nil }()
	if err := m.file.Sync(); err != nil {
		return err
	}
	if m.WorkPath == m.path {
		return nil
	}
	return unix.Linkat(unix.AT_FDCWD, m.WorkPath, unix.AT_FDCWD, m.path, unix.AT_SYMLINK_FOLLOW)
}

// close drops an image that was not published.
func (m *NewImage) close() error {
	if m.file == nil {
		return nil
	}
	m.file.Close()
	if m.WorkPath == m.path {
		return os.Remove(m.path)
	}
	return nil
}

// noTmpfile reports whether err is what open(2) gives where unnamed files are
// not supported (NFS, some FUSE filesystems).
func noTmpfile(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL)
}

// unnamedFile makes a file in dir that is gone when it is closed. Where the
// filesystem has no unnamed files its name is removed at once.
func unnamedFile(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err == nil || !noTmpfile(err) {
		return f, err
	}
	if f, err = os.CreateTemp(dir, "scratch-*.tmp"); err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}
