package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/lock"
	"instance-debootstrap/pkg/tell"
)

// An entry's lock is held while it is checked, adopted or built. Its text names the builder,
// while one builds.

// lock waits for the exclusive lock of an entry, and says for whom.
func (s Store) lock(ctx context.Context, base string) (*lock.File, error) {
	var wait tell.Wait
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		held, err := s.tryLock(base)
		if err != nil {
			return nil, err
		}
		if held != nil {
			if err := held.Truncate(0); err != nil {
				held.Close()
				return nil, fmt.Errorf("lock %s: %w", held.Name(), err)
			}
			return held, nil
		}
		if who := s.builderOf(base); who != "" {
			wait.For(ctx, "another run (%s) to build %s", who, base)
		} else {
			wait.For(ctx, "another run, which looks through %s", base)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for cache entry %s: %w", base, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// tryLock takes the lock of an entry if it is free; nil, nil is busy.
func (s Store) tryLock(base string) (*lock.File, error) {
	held, err := lock.Try(s.lockPath(base), unix.LOCK_EX)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	return held, err
}

func (s Store) lockPath(base string) string { return filepath.Join(s.LockDir, base+".lock") }

// announce writes the builder into the lock file, for those who wait.
func (s Store) announce(lock *lock.File) {
	who := s.Owner
	if who == "" {
		who = fmt.Sprintf("pid %d", os.Getpid())
	}
	who += ", since " + time.Now().Format("15:04:05")
	// Only a text for others to read: a lock without it still locks.
	_, _ = lock.WriteAt([]byte(who+"\n"), 0)
}

// builderOf is what the holder of an entry's lock has announced; "" is nothing.
func (s Store) builderOf(base string) string {
	text, _ := os.ReadFile(s.lockPath(base))
	who, _, _ := strings.Cut(string(text[:min(len(text), 200)]), "\n")
	return who
}

// tryFlock is flock(2) without waiting, for LOCK_EX or LOCK_SH.
func tryFlock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err != unix.EINTR {
			return err
		}
	}
}

// noFlock tells that an error of flock means a filesystem without it (some NFS).
func noFlock(err error) bool {
	return errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL)
}

// sharedWait is how long openShared waits for who removes the entry, which takes
// moments. Who holds it longer is not one of us: everybody who may read a file may
// lock it, and an admin's own tar is often everybody's to read.
const sharedWait = 5 * time.Second

// openShared opens an entry for reading and takes its shared flock, which keeps
// it from being removed for its age. A file that is being removed doesn't exist, or the one
// counts that has taken its place.
func openShared(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := openLocked(ctx, path)
		if !errors.Is(err, errRemoved) {
			return f, err
		}
	}
}

// errRemoved says that a file has lost its name since it was opened.
var errRemoved = errors.New("it was removed just now")

// openLocked is openShared for the file that has the name now. One that stays locked is used
// without the flock: what is open can't be lost.
func openLocked(ctx context.Context, path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(sharedWait); ; {
		err := tryFlock(f, unix.LOCK_SH)
		if err == nil || noFlock(err) {
			break
		}
		if time.Now().After(end) {
			zerolog.Ctx(ctx).Warn().Msgf("%s is locked by another program, and used all the same: chmod go-rwx %s keeps other users from locking it", path, path)
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("flock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("flock %s: %w", path, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && st.Nlink == 0 {
		err = errRemoved
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		f.Close()
		return nil, fmt.Errorf("cache entry %s: not a regular file", path)
	}
	return f, nil
}
