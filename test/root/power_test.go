//go:build root

package root

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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
	disk    int   // whose it is, of several; a flush of nobody's is -1
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

// flushes are the numbers of the entries before which all that went to their disk is durable.
func (r *recording) flushes() (at []int) {
	for i, e := range r.entries {
		if e.flags&(logFlush|logFUA) != 0 && e.disk >= 0 {
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
	r.add(disk, r.entries[:n])
	return disk
}

// add puts entries on a disk.
func (r *recording) add(disk string, entries []logEntry) {
	r.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	must(r, err)
	defer f.Close()
	for _, e := range entries {
		r.apply(f, e, 0, e.n)
	}
}

// tear puts on a disk what may be there of entries that are not durable: each whole, or not at
// all, or only up to a sector of 512 or 4096 bytes.
func (r *recording) tear(disk string, entries []logEntry, random *rand.Rand) {
	r.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	must(r, err)
	defer f.Close()
	keep := 0.1 + 0.8*random.Float64() // most, or few
	for _, e := range entries {
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
	at, pending := 0, []logEntry{} // those before at that aren't durable
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
			r.tear(disk, slices.Concat(pending, r.entries[at:to]), random)
			look(powerCut{disk, fmt.Sprintf("after flush %d of %d and some of the entries %d to %d (seed %d)", i, len(ends)-1, at, to, seed), at, false})
			must(r, os.Remove(disk))
			between++
		}
		if i == len(ends)-1 {
			break
		}
		pending = append(pending, r.entries[at:end]...)
		r.add(durable, slices.DeleteFunc(slices.Clone(pending), func(e logEntry) bool { return e.disk != r.entries[end].disk }))
		pending = slices.DeleteFunc(pending, func(e logEntry) bool { return e.disk == r.entries[end].disk })
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

// cleanBut is clean for a test that has loop devices of its own, one of them over this file.
func (l *lab) cleanBut(devices []string, file string) {
	l.Helper()
	disk := l.disk
	defer func() { l.disk = disk }()
	l.disk = file
	var left []string
	for range 100 {
		left = slices.DeleteFunc(l.leftovers(), func(s string) bool {
			fields := strings.Fields(s)
			return strings.HasPrefix(s, "loop device ") && slices.Contains(devices, fields[2])
		})
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
