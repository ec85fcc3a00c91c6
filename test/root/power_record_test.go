//go:build root

package root

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// storage runs qemu-storage-daemon with these arguments and exports of nodes as files of their
// names, until stop is called.
func (l *lab) storage(dir string, nodes []string, args ...string) (disks []string, stop func()) {
	l.Helper()
	for _, node := range nodes {
		disk := filepath.Join(dir, node)
		must(l, os.WriteFile(disk, nil, 0o600))
		args = append(args, "--export", fmt.Sprintf("type=fuse,id=%s,node-name=%[1]s,writable=on,mountpoint=%s", node, disk))
		disks = append(disks, disk)
	}
	stop = l.storageDaemon(func() bool {
		return !slices.ContainsFunc(disks, func(disk string) bool {
			st, err := os.Stat(disk)
			return err != nil || st.Size() == 0
		})
	}, args...)
	return disks, stop
}

// storageDaemon runs it, and returns when it is ready.
func (l *lab) storageDaemon(isReady func() bool, args ...string) (stop func()) {
	l.Helper()
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
		if isReady() {
			return stop
		}
		select {
		case <-ended:
			l.Fatalf("qemu-storage-daemon: %s", said.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	l.Fatalf("no export: %s", said.String())
	return nil
}

// record has do work on a disk that begins as base, and returns what it wrote. do may be
// called again: QEMU up to 10.2 at least mixes up the data of writes that its FUSE export gets at
// the same time. A loop device hands them on one by one, but for those of another control
// group.
func (l *lab) record(base string, do func(disk string)) *recording {
	l.Helper()
	st, err := os.Stat(base)
	must(l, err)
	return l.recordDisks(base, []int64{st.Size()}, func(disks []string) { do(disks[0]) })
}

// recordDisks is record of several disks that lie side by side in base, of so many bytes. Each has
// a cache of its own, which a flush of another doesn't empty.
func (l *lab) recordDisks(base string, sizes []int64, do func(disks []string)) *recording {
	l.Helper()
	for range 4 {
		if r := l.recordOnce(base, sizes, do); r != nil {
			return r
		}
	}
	l.Fatal("the record is not what was written, four times")
	return nil
}

// recordOnce returns nil where a replay of the whole record isn't what is on the disks.
func (l *lab) recordOnce(base string, sizes []int64, do func(disks []string)) *recording {
	l.Helper()
	dir := l.powerDir()
	r := &recording{lab: l, dir: dir, base: filepath.Join(dir, "base")}
	work, log := filepath.Join(dir, "work"), filepath.Join(dir, "log")
	l.sparse(base, r.base)
	if len(sizes) > 1 {
		must(l, os.Truncate(r.base, sideLogs+int64(len(sizes))*sideLog))
	}
	l.sparse(r.base, work)
	must(l, os.WriteFile(log, nil, 0o600))
	must(l, os.Truncate(log, 64<<30)) // sparse
	recorder := []string{
		"--blockdev", "driver=file,node-name=data,discard=unmap,detect-zeroes=off,filename=" + work,
		"--blockdev", "driver=file,node-name=log,filename=" + log,
		"--blockdev", "driver=blklogwrites,node-name=top,file=data,log=log,log-sector-size=512",
	}
	disks, stop := l.exported(dir, sizes, recorder)
	l.onDevices(disks, func(devices []string) {
		do(devices)
		for _, dev := range devices {
			l.rewriteEnd(dev)
		}
	})
	stop()
	r.read(log)
	end := r.at(len(r.entries))
	same := sumOf(l, end) == sumOf(l, work)
	must(l, errors.Join(os.Remove(end), os.Remove(work)))
	if !same {
		return nil
	}
	if len(sizes) > 1 {
		r.divide(sizes)
	}
	r.ended = len(r.entries)
	at := int64(0)
	for _, size := range sizes {
		at += size
		r.ended = min(r.ended, r.lastAt(at-4096))
	}
	return r
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

// lastAt is the number of the last entry that writes at an offset.
func (r *recording) lastAt(offset int64) int {
	r.Helper()
	for i := len(r.entries) - 1; i >= 0; i-- {
		if e := r.entries[i]; e.n > 0 && e.at == offset {
			return i
		}
	}
	r.Fatal("the end isn't in the record")
	return 0
}

// Several disks are parts of the recorded one, each with a record of its own, which lies on the
// recorded disk, too: sideLog bytes for each, from sideLogs on. By what is written there it is
// known whose a flush was.
const (
	sideLogs = 2 << 30
	sideLog  = 512 << 20
)

// exported runs the recorder, and returns the disks as files.
func (l *lab) exported(dir string, sizes []int64, recorder []string) (disks []string, stop func()) {
	l.Helper()
	if len(sizes) == 1 {
		return l.storage(dir, []string{"top"}, recorder...)
	}
	// Two nodes of one daemon may not have the same one below them, to write to.
	socket := filepath.Join(dir, "socket")
	stopRecorder := l.storageDaemon(func() bool {
		_, err := os.Stat(socket)
		return err == nil
	}, append(recorder, "--nbd-server", "addr.type=unix,max-connections=0,addr.path="+socket, "--export", "type=nbd,id=top,name=top,node-name=top,writable=on")...)
	var args, nodes []string
	part := func(node string, at, size int64) {
		args = append(args, "--blockdev", fmt.Sprintf("driver=nbd,node-name=%s-nbd,export=top,server.type=unix,server.path=%s", node, socket),
			"--blockdev", fmt.Sprintf("driver=raw,node-name=%s,file=%[1]s-nbd,offset=%d,size=%d", node, at, size))
	}
	at := int64(0)
	for i, size := range sizes {
		node := fmt.Sprintf("disk%d", i)
		part(node+"-part", at, size)
		part(node+"-log", sideLogs+int64(i)*sideLog, sideLog)
		args = append(args, "--blockdev", fmt.Sprintf("driver=blklogwrites,node-name=%s,file=%[1]s-part,log=%[1]s-log,log-sector-size=512", node))
		nodes, at = append(nodes, node), at+size
	}
	disks, stopDisks := l.storage(dir, nodes, args...)
	return disks, func() { stopDisks(); stopRecorder() }
}

// divide says whose each entry is, and leaves out the disks' own records. When a disk was flushed,
// its record gets an entry that says so; its next flush is of the record itself.
func (r *recording) divide(sizes []int64) {
	r.Helper()
	head, kept, flush := make([]byte, logSector), []logEntry{}, -1
	for _, e := range r.entries {
		switch {
		case e.n == 0 && e.flags&logFlush != 0:
			e.disk = -1
			flush = len(kept)
		case e.at >= sideLogs:
			_, err := r.log.ReadAt(head, e.content)
			must(r, err)
			if e.n == logSector && binary.LittleEndian.Uint64(head) != logMagic && binary.LittleEndian.Uint64(head[16:]) == logFlush && flush >= 0 {
				kept[flush].disk, flush = int((e.at-sideLogs)/sideLog), -1
			}
			continue
		default:
			at := int64(0)
			for e.disk = range sizes {
				if at += sizes[e.disk]; e.at < at {
					break
				}
			}
		}
		kept = append(kept, e)
	}
	r.entries = kept
}
