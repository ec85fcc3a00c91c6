// Package lock has the locks by which runs keep out of each other's way: flocks of files in a
// folder that nobody else may enter. The kernel frees the flock of a killed process.
package lock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// File is a lock that is held. Its file goes when it is given up: the names of all disks and
// trees that there ever were would fill the folder otherwise.
type File struct{ *os.File }

// sharedTries are how often, a millisecond apart, a shared lock is tried that another run may
// only be giving up.
const sharedTries = 100

// Try takes the lock that a file is, unix.LOCK_EX or LOCK_SH, or fails with EWOULDBLOCK. What
// was opened may have been removed when its lock was given up: then what has the name now counts.
func Try(path string, how int) (*File, error) {
	for tries := 0; ; {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		l := &File{f}
		switch err := flock(f, how); {
		case err == nil && l.hasItsName():
			return l, nil
		case err != nil && (err != unix.EWOULDBLOCK || how == unix.LOCK_EX || tries == sharedTries):
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		case err != nil:
			tries++
			time.Sleep(time.Millisecond)
		}
		f.Close()
	}
}

// flock is flock(2), which doesn't wait.
func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}

func (l *File) hasItsName() bool {
	mine, err := l.Stat()
	now, nowErr := os.Lstat(l.Name())
	return err == nil && nowErr == nil && os.SameFile(mine, now)
}

// Close gives up the lock, and removes its file unless others share it.
func (l *File) Close() error {
	var err error
	if flock(l.File, unix.LOCK_EX) == nil && l.hasItsName() { // else somebody has emptied /run
		if err = os.Remove(l.Name()); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return errors.Join(err, l.File.Close())
}
