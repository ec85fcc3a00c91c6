package transport

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// aheadBytes is how much is read before tar comes to it: it covers what one file's
	// reading waits for, and is small beside the memory of any node.
	aheadBytes = 64 << 20
	// aheadOfFile is how much of one file; the kernel reads ahead within a file by itself.
	aheadOfFile = 4 << 20
	// aheadEntries bounds, in bytes, how much of a folder's entries is held to be sorted, and
	// aheadDepth how deep folders are followed. What a guest has beyond is left to tar.
	aheadEntries = 256 << 10
	aheadDepth   = 32
)

// Ahead has the kernel read a tree's files before tar comes to them.
type Ahead struct {
	ctx    context.Context
	stop   context.CancelFunc
	ended  chan struct{}
	device uint64
	asked  int64        // bytes, for as much of the tar
	packed atomic.Int64 // bytes of the tar
}

// ReadAhead has the kernel read the files below dir in the order in which Pack comes to them,
// while that is at work: tar by itself waits for each file. It tells of no error, since tar
// does. Stop must be called before dir is unmounted.
func ReadAhead(ctx context.Context, dir string) *Ahead {
	a := &Ahead{ended: make(chan struct{})}
	a.ctx, a.stop = context.WithCancel(ctx)
	go func() {
		defer close(a.ended)
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		defer unix.Close(fd)
		var top unix.Stat_t
		if unix.Fstat(fd, &top) == nil {
			a.device = top.Dev
			a.folder(fd, aheadDepth)
		}
	}()
	return a
}

// Stop returns when no file is open any longer.
func (a *Ahead) Stop() {
	a.stop()
	<-a.ended
}

// Of is the tar, which tells how far it has come.
func (a *Ahead) Of(tar io.Reader) io.Reader { return packedReader{tar, a} }

type packedReader struct {
	tar io.Reader
	a   *Ahead
}

func (r packedReader) Read(p []byte) (int, error) {
	n, err := r.tar.Read(p)
	r.a.packed.Add(int64(n))
	return n, err
}

// folder returns false when there is no more to be done.
func (a *Ahead) folder(fd, depth int) bool {
	for _, e := range sortedEntries(fd) {
		const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOATIME
		if !a.goesOn() {
			return false
		}
		a.asked += 512 // its header
		isFolder := e.kind == unix.DT_DIR
		if e.kind != unix.DT_REG && (!isFolder || depth == 0) {
			continue
		}
		child, err := unix.Openat(fd, e.name, flags, 0)
		if err != nil {
			continue
		}
		ok := true
		if isFolder {
			var st unix.Stat_t
			ok = unix.Fstat(child, &st) != nil || st.Dev != a.device || a.folder(child, depth-1)
		} else {
			a.file(child)
		}
		unix.Close(child)
		if !ok {
			return false
		}
	}
	return true
}

// goesOn waits until tar is near, for each entry: a guest may have millions of empty folders,
// and Stop must not wait for those.
func (a *Ahead) goesOn() bool {
	for a.ctx.Err() == nil {
		if a.asked-a.packed.Load() <= aheadBytes {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

func (a *Ahead) file(fd int) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && st.Blocks > 0 {
		_ = unix.Fadvise(fd, 0, min(st.Size, aheadOfFile), unix.FADV_WILLNEED)
		a.asked += st.Blocks * 512
	}
}

// sortedEntries are a folder's, as tar takes them, or the first of many.
func sortedEntries(fd int) (list []dirEntry) {
	buffer := make([]byte, 32<<10)
	for held := 0; held < aheadEntries; {
		n, err := unix.Getdents(fd, buffer)
		if err != nil || n == 0 {
			break
		}
		held += n
		list = slices.AppendSeq(list, entriesIn(buffer[:n]))
	}
	slices.SortFunc(list, func(a, b dirEntry) int { return strings.Compare(a.name, b.name) })
	return list
}
