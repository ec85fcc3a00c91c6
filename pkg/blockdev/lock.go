package blockdev

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/lock"
	"instance-debootstrap/pkg/tell"
)

// takeLock takes the lock that keeps two runs of ours off one disk. The file
// says who has it.
func (d *Disk) takeLock(dir string) (err error) {
	d.lock, err = d.lockFile(dir, ".lock", unix.LOCK_EX)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return inUseByRun(d.Path, d.holder(dir, ".lock"))
	}
	if err == nil {
		sign(d.lock, d.proc)
	}
	return err
}

func inUseByRun(disk, holder string) error {
	return fmt.Errorf("disk %s is in use: another run of instance-debootstrap works on it%s; wait for its end, or umount what it has mounted", disk, holder)
}

// sign writes into a lock's file who has it: only a text for others to read, and a lock
// without it still locks. proc is the node's /proc, as of a Disk.
func sign(lock *lock.File, proc *os.Root) {
	pid := strconv.Itoa(os.Getpid())
	if proc != nil { // where this process has another number
		pid, _ = proc.Readlink("self")
	}
	if err := lock.Truncate(0); err == nil {
		_, _ = lock.WriteAt([]byte(fmt.Sprintf("pid %s, since %s\n", pid, time.Now().Format(time.DateTime))), 0)
	}
}

// holder is what the holder of a lock has written into its file, in brackets; "" is
// nothing.
func (d *Disk) holder(dir, suffix string) string {
	return holder(filepath.Join(dir, d.lockName(suffix)))
}

func holder(path string) string {
	text, _ := os.ReadFile(path)
	who, _, whole := strings.Cut(string(text[:min(len(text), 100)]), "\n")
	if !whole {
		return ""
	}
	return " (" + who + ")"
}

func (d *Disk) lockName(suffix string) string { return "disk-" + d.key() + suffix }

// lockFile takes a lock of the disk's (flock), or fails with EWOULDBLOCK.
func (d *Disk) lockFile(dir, suffix string, how int) (*lock.File, error) {
	f, err := lock.Try(filepath.Join(dir, d.lockName(suffix)), how)
	if err != nil {
		return nil, fmt.Errorf("disk %s: %w", d.Path, err)
	}
	return f, nil
}

// LockPlace takes the lock of a disk that isn't this node's, by where it is. Those who only
// read the disk share it; the last of them that came is whom the file names.
func LockPlace(disk, place, dir string, readOnly bool, hostProc *os.Root) (*lock.File, error) {
	how := unix.LOCK_EX
	if readOnly {
		how = unix.LOCK_SH
	}
	path := filepath.Join(dir, fmt.Sprintf("disk-name-%x.lock", sha256.Sum256([]byte(place))))
	f, err := lock.Try(path, how)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, inUseByRun(disk, holder(path))
	}
	if err != nil {
		return nil, fmt.Errorf("disk %s: %w", disk, err)
	}
	sign(f, hostProc)
	return f, nil
}

func (d *Disk) worksOnIt(dir string) string {
	return "another run of instance-debootstrap works on it" + d.holder(dir, ".lock")
}

// runOfOurs is the run that has the lock of a disk in use; "" is none.
func (d *Disk) runOfOurs(dir string) string {
	lock, err := d.lockFile(dir, ".lock", unix.LOCK_SH)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return d.worksOnIt(dir)
	}
	if err == nil {
		lock.Close()
	}
	return ""
}

// lookTime is how long one who looks at a disk waits for another, who takes less.
const lookTime = 20 * time.Second

// takeLooksLock keeps those off who work on the disk, and waits for another who looks at
// it: what that one attaches would seem to use it. The text says who has it, "" is that it
// is taken.
func (d *Disk) takeLooksLock(ctx context.Context, dir string) (usedBy string) {
	var err error
	if d.lock, err = d.lockFile(dir, ".lock", unix.LOCK_SH); err != nil {
		return d.worksOnIt(dir)
	}
	var wait tell.Wait
	for end := time.Now().Add(lookTime); ; time.Sleep(20 * time.Millisecond) {
		d.looking, err = d.lockFile(dir, ".look", unix.LOCK_EX)
		if err == nil {
			sign(d.lock, d.proc)
			sign(d.looking, d.proc)
			return ""
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err.Error()
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return "another run of instance-debootstrap looks at it" + d.holder(dir, ".look")
		}
		wait.For(ctx, "another run of instance-debootstrap%s, which looks at %s", d.holder(dir, ".look"), d.Path)
	}
}
