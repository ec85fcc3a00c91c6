package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FreeBytes is what is free on the filesystem of a folder, without what it keeps for root.
func FreeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return int64(st.Bavail) * int64(st.Bsize), err
}

// IsFull tells whether the filesystem of a folder takes no more, of bytes or of files. btrfs has
// no number of files.
func IsFull(dir string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return err == nil && (int64(st.Bavail)*int64(st.Bsize) < 1<<20 || st.Files > 0 && st.Ffree == 0)
}

// NearestFolder is the folder, or what is there of the path to it: it is made at
// its first use.
func NearestFolder(dir string) string {
	for dir != "/" {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

// WriteDurably puts a file that only its owner may read in the place of the one of that name, whole
// and durable, or leaves that. Whoever is killed meanwhile leaves nothing, but for an instant where
// there is one of that name, and on a filesystem without unnamed files: that has the name with
// .new, until the next write.
func WriteDurably(path string, content []byte) error {
	temp := path + ".new"
	f, err := os.OpenFile(filepath.Dir(path), os.O_WRONLY|unix.O_TMPFILE, 0o600)
	unnamed := err == nil
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		f, err = os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync())
	switch {
	case err != nil:
	case unnamed:
		if err = linkUnnamed(f, path); errors.Is(err, unix.EEXIST) {
			os.Remove(temp) // of a run that was killed
			if err = linkUnnamed(f, temp); err == nil {
				err = os.Rename(temp, path)
			}
		}
	default:
		err = os.Rename(temp, path)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(temp)
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

// linkUnnamed names a file that has no name, as open(2) shows.
func linkUnnamed(f *os.File, path string) error {
	err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.PathError{Op: "link", Path: path, Err: err}
	}
	return nil
}

// SyncFolder makes the names in a folder durable.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
