package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// NewImage is a file in the making, a disk image or another: it has no name until it is
// complete, so that a run that is killed leaves nothing.
type NewImage struct {
	// WorkPath reaches the file meanwhile, for this process and its children.
	WorkPath string

	path  string
	file  *os.File
	named bool // has a name of its own from the start, WorkPath
}

// MakeImage makes an unnamed sparse file of sizeBytes in path's folder. Where
// the filesystem has no unnamed files the image is called path.part until it is
// published, or closed.
func MakeImage(path string, sizeBytes int64) (*NewImage, error) {
	f, err := os.OpenFile(filepath.Dir(path), os.O_RDWR|unix.O_TMPFILE, 0o600)
	img := &NewImage{path: path, file: f}
	if err == nil {
		img.WorkPath = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
	} else if NoUnnamedFiles(err) {
		img.WorkPath, img.named = path+".part", true
		img.file, err = os.OpenFile(img.WorkPath, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	if err := img.file.Truncate(sizeBytes); err != nil {
		return nil, errors.Join(fmt.Errorf("make %s: size %d bytes: %w", path, sizeBytes, err), img.Close())
	}
	return img, nil
}

// File is the open file.
func (m *NewImage) File() *os.File { return m.file }

// Publish gives the finished file its name, which must be free, durably.
func (m *NewImage) Publish() error {
	err := m.file.Sync()
	if err == nil && !m.named {
		err = unix.Linkat(unix.AT_FDCWD, m.WorkPath, unix.AT_FDCWD, m.path, unix.AT_SYMLINK_FOLLOW)
	} else if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, m.WorkPath, unix.AT_FDCWD, m.path, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", m.path, err)
	}
	m.file.Close()
	m.file = nil
	dir, err := os.Open(filepath.Dir(m.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Close drops an image that was not published.
func (m *NewImage) Close() error {
	if m.file == nil {
		return nil
	}
	m.file.Close()
	if m.named {
		return os.Remove(m.WorkPath)
	}
	return nil
}
