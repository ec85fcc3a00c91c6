package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
)

var errBusy = errors.New("another run works on this guest; wait for its end")

// guestLock is the lock on a guest's name. Its file is gone when it is released; names of
// guests that never were would fill the folder otherwise.
type guestLock struct{ file *os.File }

const lockPrefix, lockSuffix = "vm-", ".lock"

// lockGuest takes the lock on a guest's name; wait says whether to wait for it.
func lockGuest(guest string, wait bool) (*guestLock, error) {
	if err := session.OwnFolder(paths.LockDir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(paths.LockDir, lockPrefix+guest+lockSuffix)
	for try := 0; ; try++ {
		lock, err := tryLock(path)
		if lock != nil || err != nil {
			return lock, err
		}
		if !wait || try > 600 {
			return nil, fmt.Errorf("guest %s: %w", guest, errBusy)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// tryLock takes the lock that a file is; nil is that another has it. The file that is
// locked may be one that was released, and removed, since it was opened: then the one that
// has its name now counts.
func tryLock(path string) (*guestLock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, nil
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		locked, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if now, err := os.Lstat(path); err == nil && os.SameFile(locked, now) {
			return &guestLock{f}, nil
		}
		f.Close()
	}
}

// release removes the lock's file while the lock is held, and then gives it up.
func (l *guestLock) release() error {
	var err error
	mine, statErr := l.file.Stat()
	now, nowErr := os.Lstat(l.file.Name())
	if statErr == nil && nowErr == nil && os.SameFile(mine, now) { // else somebody has emptied /run
		err = os.Remove(l.file.Name())
	}
	return errors.Join(err, l.file.Close())
}

// sweepLocks removes the files of locks that killed runs have left.
func sweepLocks() {
	files, _ := filepath.Glob(filepath.Join(paths.LockDir, lockPrefix+"*"+lockSuffix))
	for _, file := range files {
		guest := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), lockPrefix), lockSuffix)
		if lock, err := lockGuest(guest, false); err == nil {
			lock.release()
		}
	}
}
