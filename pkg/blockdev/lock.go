package blockdev

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// takeLock takes the lock that keeps two runs of ours off one disk. The file
// holds the holder's pid as text and stays when the lock is given up.
func (d *Disk) takeLock(dir string) (err error) {
	d.lock, err = d.lockFile(dir, ".lock", unix.LOCK_EX)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("disk %s is in use: another run of instance-debootstrap works on it; wait for its end", d.Path)
	}
	return err
}

// lockFile takes a lock of the disk's (flock), or fails with EWOULDBLOCK.
func (d *Disk) lockFile(dir, suffix string, how int) (*os.File, error) {
	f, err := lockFile(dir, "disk-"+d.key()+suffix, how)
	if err != nil {
		return nil, fmt.Errorf("disk %s: lock: %w", d.Path, err)
	}
	return f, nil
}

func lockFile(dir, name string, how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err == nil {
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// LockName takes the lock of a disk that isn't this node's, by what it is reached by. Those
// who only read the disk share it.
func LockName(dir, name string, readOnly bool) (*os.File, error) {
	how := unix.LOCK_EX
	if readOnly {
		how = unix.LOCK_SH
	}
	f, err := lockFile(dir, fmt.Sprintf("disk-name-%x.lock", sha256.Sum256([]byte(name))), how)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("it is in use: another run of instance-debootstrap works on it; wait for its end")
	}
	return f, err
}

// lookTime is how long one who looks at a disk waits for another, who takes less.
const lookTime = 20 * time.Second

// takeLooksLock keeps those off who work on the disk, and waits for another who looks at
// it: what that one attaches would seem to use it. The text says who has it, "" is that it
// is taken.
func (d *Disk) takeLooksLock(dir string) (usedBy string) {
	var err error
	if d.lock, err = d.lockFile(dir, ".lock", unix.LOCK_SH); err != nil {
		return "another run of instance-debootstrap works on it"
	}
	for end := time.Now().Add(lookTime); ; time.Sleep(20 * time.Millisecond) {
		d.looking, err = d.lockFile(dir, ".look", unix.LOCK_EX)
		if err == nil {
			return ""
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err.Error()
		}
		if time.Now().After(end) {
			return "another run of instance-debootstrap looks at it"
		}
	}
}
