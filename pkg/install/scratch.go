package install

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/lock"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
)

// A tree is built on a scratch that is dropped after it: in memory, where a
// node has plenty of it, for dpkg calls fsync thousands of times; else on the
// cache folder's filesystem.

// scratchName is the scratch's folder in the session's.
const scratchName = "scratch"

// The scratch in memory may grow to a quarter of what the node has available,
// and to 4 GiB; where that is less than 1.5 GiB there is none: a tree with a
// kernel and its package files takes about 1 GiB.
const (
	memoryShare       = 4
	minMemory   int64 = 3 << 29
	maxMemory   int64 = 4 << 30
	memoryLock        = "scratch-in-memory.lock"
)

// mountMemory mounts a scratch in memory, one at a time on a node; "" is that this
// node has none to give now.
func mountMemory(s *session.Session) (dir string, err error) {
	size := min(availableMemory("/proc/meminfo", "/proc/self/cgroup", "/sys/fs/cgroup")/memoryShare, maxMemory)
	if size < minMemory {
		return "", nil
	}
	held, err := lock.Try(filepath.Join(paths.LockDir, memoryLock), unix.LOCK_EX)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return "", nil // another tree is built in memory
	}
	if err != nil {
		return "", err
	}
	s.Defer("give up the scratch's lock", func(context.Context) error { return held.Close() })
	return mount(s, nil, scratchName, func(dir string) error { return filesystem.MountMemory(dir, size) })
}

// availableMemory is MemAvailable of /proc/meminfo in bytes (proc_meminfo(5)), and
// 0 where that can't be told, or where a control group of ours has a limit.
func availableMemory(meminfo, ownGroup, groups string) int64 {
	if b, err := os.ReadFile(ownGroup); err == nil {
		_, path, _ := strings.Cut(strings.TrimSpace(string(b)), "0::")
		for dir := filepath.Join("/", path); ; dir = filepath.Dir(dir) {
			limit, err := os.ReadFile(filepath.Join(groups, dir, "memory.max"))
			if err == nil && strings.TrimSpace(string(limit)) != "max" {
				return 0
			}
			if dir == "/" {
				break
			}
		}
	}
	f, err := os.Open(meminfo)
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == "MemAvailable:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// minScratchBytes is less than any tree needs with its packages: what is refused
// at once, instead of after minutes.
const minScratchBytes = 256 << 20

// mountScratch mounts a volatile filesystem as large as the cache folder's
// free space, until the end of the build. It is an unnamed file under a loop
// device: gone with the process, however that ends.
func mountScratch(ctx context.Context, s *session.Session, cacheDir string) (string, error) {
	free, err := filesystem.FreeBytes(cacheDir)
	if err != nil {
		return "", err
	}
	if free < minScratchBytes {
		return "", fmt.Errorf("only %d MiB are free there, and a tree needs at least %d MiB: free some space, or set CACHE_DIR", free>>20, minScratchBytes>>20)
	}
	f, err := blockdev.UnnamedFile(cacheDir)
	if err != nil {
		return "", err
	}
	s.Defer("drop the scratch file", func(context.Context) error { return f.Close() })
	if err := f.Truncate(min(free&^4095, 64<<30)); err != nil {
		return "", err
	}
	l, err := attach(ctx, s, f, false)
	if err != nil {
		return "", err
	}
	if err := filesystem.MakeScratch(ctx, l.Path); err != nil {
		return "", err
	}
	l.Unlock()
	return mount(s, nil, scratchName, func(dir string) error { return filesystem.MountScratch(ctx, l.Path, dir) })
}

// nearlyFull is how little is left on a filesystem that a tool ran out of space on.
const nearlyFull = 32 << 20

// errScratchFull says that a tree doesn't fit into the scratch in memory.
var errScratchFull = errors.New("the tree is larger than the node's memory allows for")

// blameFullCache adds the likely cause to a build's failure: a tool that runs
// out of space on the scratch sees input/output errors only.
func blameFullCache(err error, scratch, cacheDir string) error {
	var st unix.Statfs_t
	if unix.Statfs(scratch, &st) == nil && st.Type == unix.TMPFS_MAGIC && int64(st.Bavail)*int64(st.Bsize) < nearlyFull {
		return fmt.Errorf("%w: %w", errScratchFull, err)
	}
	if free, ferr := filesystem.FreeBytes(cacheDir); ferr == nil && free < nearlyFull {
		return fmt.Errorf("%w; the filesystem of %s is full: free some space there, or set CACHE_DIR", err, cacheDir)
	}
	return err
}
