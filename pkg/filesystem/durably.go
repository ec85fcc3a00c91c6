package filesystem

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// WriteDurably puts a file that only its owner may read in the place of the one of that name, whole
// and durable, or leaves that. Whoever is killed meanwhile leaves nothing, or a file that the next
// one to write in that folder removes.
func WriteDurably(path string, content []byte) error {
	dir := filepath.Dir(path)
	removeBegun(dir)
	f, temp, err := openBegun(dir)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync()); err == nil && temp == "" {
		if err = linkUnnamed(f, path); errors.Is(err, unix.EEXIST) {
			temp = begunName(dir)
			err = linkUnnamed(f, temp)
		}
	}
	if err == nil && temp != "" {
		err = os.Rename(temp, path)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		if temp != "" {
			os.Remove(temp)
		}
		return err
	}
	return SyncFolder(dir)
}

// begun is how the names of files begin that WriteDurably is at work on.
const begun = ".durably-"

func begunName(dir string) string { return filepath.Join(dir, begun+rand.Text()) }

// openUnnamed opens a file that has no name yet (open(2): O_TMPFILE).
var openUnnamed = func(dir string) (*os.File, error) {
	return os.OpenFile(dir, os.O_WRONLY|unix.O_TMPFILE, 0o600)
}

// takeLock takes a file's lock, if nobody has it. NFS wants the file open for writing (flock(2)).
var takeLock = func(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// openBegun opens a new file, and holds a lock of it as long as it is open. It has a name where the
// filesystem knows no other files, such as NFS. Where that knows no locks either, nobody can take
// the file for one that was left.
func openBegun(dir string) (f *os.File, name string, err error) {
	f, err = openUnnamed(dir)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		name = begunName(dir)
		f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, "", err
	}
	err = takeLock(f)
	if name == "" || !errors.Is(err, unix.EWOULDBLOCK) && isNamed(f, name) {
		return f, name, nil // an unnamed file's lock is nobody else's
	}
	// Another run came between, and has taken it for one that was left.
	f.Close()
	return openBegun(dir)
}

func isNamed(f *os.File, name string) bool {
	there, err := os.Lstat(name)
	mine, err2 := f.Stat()
	return err == nil && err2 == nil && os.SameFile(there, mine)
}

// removeBegun removes what runs that were killed have left: nobody holds its lock.
func removeBegun(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), begun) {
			continue
		}
		name := filepath.Join(dir, e.Name())
		f, err := os.OpenFile(name, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if takeLock(f) == nil && isNamed(f, name) {
			os.Remove(name)
		}
		f.Close()
	}
}

// linkUnnamed names a file that has no name, as open(2) shows.
func linkUnnamed(f *os.File, path string) error {
	err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.PathError{Op: "link", Path: path, Err: err}
	}
	return nil
}
