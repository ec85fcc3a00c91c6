//go:build root

package root

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Power cuts: what a verb writes to its disk is recorded by qemu-storage-daemon, whose
// driver blklogwrites keeps each write and flush in order, in the format of dm-log-writes
// (Documentation/admin-guide/device-mapper/log-writes.rst of Linux). The disk is a
// loop device over a file of its FUSE export. From the record, the test makes the disk that a power cut would have
// left at any flush, or between two: then any of the writes since the last flush may be
// missing, or torn.
//
//	POWER_CUTS  how many cuts between flushes; without it a few
//	POWER_SEED  by what they are chosen; 1 without it

// logEntry is one of a record: a write, a discard or a flush.
type logEntry struct {
	at, n   int64 // bytes
	flags   uint64
	content int64 // where its data are in the log
}

const (
	logMagic   = 0x6a736677736872
	logFlush   = 1
	logFUA     = 2
	logDiscard = 4
	logSector  = 512
)

// recording is a disk whose writes are recorded.
type recording struct {
	*lab
	dir     string // on a tmpfs
	base    string // the disk before
	entries []logEntry
	ended   int // number of an entry that was written when what was recorded had ended
	log     *os.File
}

// powerDir is a folder on a tmpfs of the test's own.
func (l *lab) powerDir() string {
	l.Helper()
	dir := l.TempDir()
	l.tool("mount", "-t", "tmpfs", "-o", "size=6G,mode=700", "power", dir)
	l.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	return dir
}

// sparse copies a disk and keeps its holes.
func (l *lab) sparse(from, to string) {
	l.Helper()
	l.tool("cp", "--sparse=always", from, to)
}

// storage runs qemu-storage-daemon with these arguments and an export of the node "top"
// as the file disk, until stop is called.
func (l *lab) storage(dir string, args ...string) (disk string, stop func()) {
	l.Helper()
	disk = filepath.Join(dir, "disk")
	must(l, os.WriteFile(disk, nil, 0o600))
	args = append(args, "--export", "type=fuse,id=export,node-name=top,writable=on,mountpoint="+disk)
	cmd := exec.Command("qemu-storage-daemon", args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	must(l, cmd.Start())
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		for range 60 { // it may miss a signal: see command.Daemon.Stop
			cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
				return
			case <-time.After(time.Second):
			}
		}
		cmd.Process.Kill()
		l.Errorf("qemu-storage-daemon does not end: %s", said.String())
	}
	l.Cleanup(stop)
	for range 6000 {
		if st, err := os.Stat(disk); err == nil && st.Size() > 0 {
			return disk, stop
		}
		select {
		case <-ended:
			l.Fatalf("qemu-storage-daemon: %s", said.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	l.Fatalf("no export: %s", said.String())
	return "", nil
}

// record has do work on a disk that begins as base, and returns what it wrote. do may be
// called again: QEMU up to 10.2 at least mixes up the data of writes that its FUSE export gets at
// the same time. A loop device hands them on one by one, but for those of another control
// group.
func (l *lab) record(base string, do func(disk string)) *recording {
	l.Helper()
	for range 4 {
		if r := l.recordOnce(base, do); r != nil {
			return r
		}
	}
	l.Fatal("the record is not what was written, four times")
	return nil
}

// recordOnce returns nil where a replay of the whole record isn't what is on the disk.
func (l *lab) recordOnce(base string, do func(disk string)) *recording {
	l.Helper()
	dir := l.powerDir()
	r := &recording{lab: l, dir: dir, base: filepath.Join(dir, "base")}
	work, log := filepath.Join(dir, "work"), filepath.Join(dir, "log")
	l.sparse(base, r.base)
	l.sparse(base, work)
	must(l, os.WriteFile(log, nil, 0o600))
	must(l, os.Truncate(log, 64<<30)) // sparse
	disk, stop := l.storage(dir,
		"--blockdev", "driver=file,node-name=data,discard=unmap,detect-zeroes=off,filename="+work,
		"--blockdev", "driver=file,node-name=log,filename="+log,
		"--blockdev", "driver=blklogwrites,node-name=top,file=data,log=log,log-sector-size=512")
	l.onDevice(disk, func(dev string) { do(dev); l.rewriteEnd(dev) })
	stop()
	r.read(log)
	r.ended = r.lastAt(base)
	end := r.at(len(r.entries))
	same := sumOf(l, end) == sumOf(l, work)
	must(l, errors.Join(os.Remove(end), os.Remove(work)))
	if same {
		return r
	}
	return nil
}

// rewriteEnd writes a device's last block as it is, so that the record shows when: the
// recorder flushes when it is stopped, whoever has forgotten to.
func (l *lab) rewriteEnd(dev string) {
	l.Helper()
	f, err := os.OpenFile(dev, os.O_RDWR|unix.O_DIRECT, 0)
	must(l, err)
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	must(l, err)
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(l, err)
	_, err = f.ReadAt(page, size-4096)
	must(l, err)
	_, err = f.WriteAt(page, size-4096)
	must(l, err)
}

// lastAt is the number of the last entry that writes the last block of a disk.
func (r *recording) lastAt(disk string) int {
	r.Helper()
	st, err := os.Stat(disk)
	must(r, err)
	for i := len(r.entries) - 1; i >= 0; i-- {
		if e := r.entries[i]; e.n > 0 && e.at == st.Size()-4096 {
			return i
		}
	}
	r.Fatal("the end isn't in the record")
	return 0
}

// read reads the log's entries.
func (r *recording) read(log string) {
	r.Helper()
	var err error
	r.log, err = os.Open(log)
	must(r, err)
	r.Cleanup(func() { r.log.Close() })
	sector := make([]byte, logSector)
	next := func(at int64) []byte {
		_, err := r.log.ReadAt(sector, at)
		must(r, err)
		return sector
	}
	u64 := binary.LittleEndian.Uint64
	super := next(0)
	if u64(super) == 0 {
		return // nothing was ever written or flushed
	}
	if u64(super) != logMagic || u64(super[8:]) != 1 || binary.LittleEndian.Uint32(super[24:]) != logSector {
		r.Fatalf("not a log of writes: % x", super[:32])
	}
	n, at := u64(super[16:]), int64(logSector)
	for range n {
		head := next(at)
		e := logEntry{at: int64(u64(head)) * logSector, n: int64(u64(head[8:])) * logSector, flags: u64(head[16:]), content: at + logSector}
		at = e.content
		if e.flags&logDiscard == 0 {
			at += e.n
		}
		r.entries = append(r.entries, e)
	}
}

// flushes are the numbers of the entries before which all that went before is durable.
func (r *recording) flushes() (at []int) {
	for i, e := range r.entries {
		if e.flags&(logFlush|logFUA) != 0 {
			at = append(at, i)
		}
	}
	return at
}

// writes is how many entries write.
func (r *recording) writes() (n int) {
	for _, e := range r.entries {
		if e.n > 0 {
			n++
		}
	}
	return n
}

// apply puts bytes from to end of an entry's on a disk.
func (r *recording) apply(disk *os.File, e logEntry, from, end int64) {
	if e.flags&logDiscard == 0 {
		buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
		for at := from; at < end; at += int64(len(buf)) {
			b := buf[:min(int64(len(buf)), end-at)]
			if start, err := unix.Seek(int(r.log.Fd()), e.content+at, unix.SEEK_DATA); err != nil || start >= e.content+at+int64(len(b)) {
				clear(b)
			} else {
				_, err := r.log.ReadAt(b, e.content+at)
				must(r, err)
			}
			if bytes.Equal(b, zero[:len(b)]) {
				must(r, punch(disk, e.at+at, int64(len(b))))
				continue
			}
			_, err := disk.WriteAt(b, e.at+at)
			must(r, err)
		}
		return
	}
	must(r, punch(disk, e.at+from, end-from))
}

func punch(f *os.File, at, n int64) error {
	if n == 0 {
		return nil
	}
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, n)
}

// at makes the disk with the first n entries on it.
func (r *recording) at(n int) string {
	r.Helper()
	disk := filepath.Join(r.dir, "cut")
	r.sparse(r.base, disk)
	r.add(disk, 0, n)
	return disk
}

// add puts more entries on a disk.
func (r *recording) add(disk string, from, to int) {
	r.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	must(r, err)
	defer f.Close()
	for _, e := range r.entries[from:to] {
		r.apply(f, e, 0, e.n)
	}
}

// tear puts on a disk what may be there of the entries from one flush to a later
// moment: each whole, or not at all, or only up to a sector of 512 or 4096 bytes.
func (r *recording) tear(disk string, from, to int, random *rand.Rand) {
	r.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	must(r, err)
	defer f.Close()
	keep := 0.1 + 0.8*random.Float64() // most, or few
	for _, e := range r.entries[from:to] {
		switch p := random.Float64(); {
		case p < keep:
			r.apply(f, e, 0, e.n)
		case p < keep+(1-keep)/4 && e.n > logSector:
			unit := []int64{512, 4096}[random.IntN(2)]
			r.apply(f, e, 0, min(e.n, random.Int64N(e.n/unit+1)*unit))
		}
	}
}

// powerCut is a disk after a power cut, and how it came to it.
type powerCut struct {
	disk, how string
	entries   int  // how many entries are durable
	last      bool // the last flush before the end of what was recorded
}

// cuts calls look for each flush, and for a number of moments between two flushes that a
// seed chooses. look may change the disk.
func (r *recording) cuts(look func(powerCut)) (flushes, between int) {
	r.Helper()
	seed := attackNumber(r.T, "POWER_SEED", 1)
	most := int(attackNumber(r.T, "POWER_CUTS", 12))
	random := rand.New(rand.NewPCG(seed, 0))
	ends := append(r.flushes(), len(r.entries))
	durable := filepath.Join(r.dir, "durable")
	r.sparse(r.base, durable)
	at := 0
	choose := r.moments(ends, most, random)
	last := -1
	for _, end := range r.flushes() {
		if end < r.ended {
			last = end
		}
	}
	if last < 0 {
		r.Error("nothing was flushed at the end")
	}
	for i, end := range ends {
		for range choose[i] {
			disk := filepath.Join(r.dir, "between")
			r.sparse(durable, disk)
			to := at + 1 + random.IntN(end-at)
			r.tear(disk, at, to, random)
			look(powerCut{disk, fmt.Sprintf("after flush %d of %d and some of the entries %d to %d (seed %d)", i, len(ends)-1, at, to, seed), at, false})
			must(r, os.Remove(disk))
			between++
		}
		if i == len(ends)-1 {
			break
		}
		r.add(durable, at, end)
		at = end
		disk := filepath.Join(r.dir, "flushed")
		r.sparse(durable, disk)
		look(powerCut{disk, fmt.Sprintf("at flush %d of %d", i+1, len(ends)-1), at, end == last})
		must(r, os.Remove(disk))
		flushes++
	}
	return flushes, between
}

// moments is how many cuts lie before each of the flushes: where many writes are, many.
func (r *recording) moments(ends []int, most int, random *rand.Rand) []int {
	n := make([]int, len(ends))
	writing, at := []int{}, 0
	for i, end := range ends {
		if slices.ContainsFunc(r.entries[at:end], func(e logEntry) bool { return e.n > 0 }) {
			writing = append(writing, i)
		}
		at = end
	}
	for len(writing) > 0 && most > 0 {
		n[writing[random.IntN(len(writing))]]++
		most--
	}
	return n
}

// cleanBut is clean for a test that has a loop device of its own over this file.
func (l *lab) cleanBut(device, file string) {
	l.Helper()
	disk := l.disk
	defer func() { l.disk = disk }()
	l.disk = file
	var left []string
	for range 100 {
		left = slices.DeleteFunc(l.leftovers(), func(s string) bool { return strings.HasPrefix(s, "loop device "+device+" ") })
		if len(left) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	l.Errorf("left behind:\n%s", strings.Join(left, "\n"))
}

// TestARecordIsReadAsItWasWritten proves the reader that the other tests trust.
func TestARecordIsReadAsItWasWritten(t *testing.T) {
	l := newLab(t, 64)
	r := l.record(l.disk, func(disk string) {
		f, err := os.OpenFile(disk, os.O_RDWR, 0)
		must(t, err)
		for i, text := range []string{"one", "two", "three"} {
			_, err := f.WriteAt(bytes.Repeat([]byte(text[:1]), 4096), int64(i)<<20)
			must(t, errors.Join(err, f.Sync()))
		}
		must(t, f.Close())
	})
	if n := len(r.flushes()); n < 3 {
		t.Fatalf("%d flushes", n)
	}
	var seen []string
	flushes, _ := r.cuts(func(c powerCut) {
		f, err := os.Open(c.disk)
		must(t, err)
		defer f.Close()
		state := ""
		for i := range int64(3) {
			b := make([]byte, 1)
			f.ReadAt(b, i<<20)
			state += strings.ReplaceAll(string(b), "\x00", "-")
		}
		if strings.HasPrefix(c.how, "at ") {
			seen = append(seen, state)
		}
	})
	if got := strings.Join(slices.Compact(seen), " "); !strings.HasPrefix(got, "o-- ot- ott") || flushes < 3 {
		t.Errorf("the disk was %q at the flushes", got)
	}
}
