package blockdev

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// NoUnnamedFiles reports whether err is what open(2) gives where unnamed files are
// not supported (NFS, some FUSE filesystems).
func NoUnnamedFiles(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL)
}

// UnnamedFile makes a file in dir that is gone when it is closed. Where the
// filesystem has no unnamed files its name is removed at once.
func UnnamedFile(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err == nil || !NoUnnamedFiles(err) {
		return f, err
	}
	if f, err = os.CreateTemp(dir, "scratch-*.tmp"); err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}
