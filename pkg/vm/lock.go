package vm

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/lock"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
)

var errBusy = errors.New("another run works on this guest; wait for its end")

const lockPrefix, lockSuffix = "vm-", ".lock"

// lockGuest takes the lock on a guest's name; wait says whether to wait for it.
func lockGuest(guest string, wait bool) (*lock.File, error) {
	if err := session.OwnFolder(paths.LockDir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(paths.LockDir, lockPrefix+guest+lockSuffix)
	for try := 0; ; try++ {
		held, err := lock.Try(path, unix.LOCK_EX)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return held, err
		}
		if !wait || try > 600 {
			return nil, fmt.Errorf("guest %s: %w", guest, errBusy)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// sweepLocks removes the files of locks that killed runs have left.
func sweepLocks() {
	files, _ := filepath.Glob(filepath.Join(paths.LockDir, lockPrefix+"*"+lockSuffix))
	for _, file := range files {
		guest := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), lockPrefix), lockSuffix)
		if held, err := lockGuest(guest, false); err == nil {
			held.Close()
		}
	}
}
