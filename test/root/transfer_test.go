//go:build root

package root

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// How Ganeti calls export and import: once a disk, the environment not reset
// but added to, the stream in a pipe (ganeti-os-interface(7)).

// newMoveLab is a lab whose OS definition has all five scripts.
func newMoveLab(t *testing.T, sizeMiB int64) *lab {
	t.Helper()
	l := newLab(t, sizeMiB)
	for _, verb := range []string{"export", "import"} {
		if err := os.Symlink(program, filepath.Join(base, "os", verb)); !errors.Is(err, os.ErrExist) {
			must(t, err)
		}
	}
	l.env["LC_ALL"] = "C"
	return l
}

// within has the lab report to a subtest until the returned function is called.
func (l *lab) within(t *testing.T) (end func()) {
	outer := l.T
	l.T = t
	return func() { l.T = outer }
}

// disks sets the instance's disks, index 0 first. l.disk is the root.
func (l *lab) disks(paths ...string) {
	l.Helper()
	l.env["DISK_COUNT"] = fmt.Sprint(len(paths))
	for i, path := range paths {
		st, err := os.Stat(path)
		must(l, err)
		key := fmt.Sprintf("DISK_%d_", i)
		l.env[key+"PATH"], l.env[key+"ACCESS"], l.env[key+"SIZE"] = path, "rw", fmt.Sprint(st.Size()>>20)
	}
	l.disk = paths[0]
}

// usedDisk is a disk file that has had another filesystem and other data: what
// an import leaves of these is a fault.
func (l *lab) usedDisk(sizeMiB int64) string {
	l.Helper()
	path := filepath.Join(l.TempDir(), "target-disk")
	must(l, os.WriteFile(path, bytes.Repeat([]byte("old data"), int(min(sizeMiB, 128))<<17), 0o600))
	must(l, os.Truncate(path, sizeMiB<<20))
	if sizeMiB >= 300 {
		l.tool("mke2fs", "-q", "-F", "-t", "ext4", "-L", "old", path)
	}
	return path
}

// target gives the instance a used disk of this size as its root.
func (l *lab) target(sizeMiB int64) {
	l.Helper()
	l.disks(l.usedDisk(sizeMiB))
	l.used[l.disk] = sumOf(l, l.disk)
}

// free waits until the loop devices that the test itself had over the disk are
// gone: a program that looks at all devices can hold one for a moment.
func (l *lab) free(disk string) {
	l.Helper()
	for range 500 {
		if l.tool("losetup", "-n", "-O", "NAME", "-j", disk) == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// exporting is export of one disk, ready to start but for its stdout; told
// returns what it wrote to EXP_SIZE_FD, when it has ended.
func (l *lab) exporting(index int, disk string) (cmd *exec.Cmd, told func() string) {
	l.Helper()
	l.free(disk)
	cmd = l.command("export")
	r, w, err := os.Pipe()
	must(l, err)
	stray, err := os.Open("/dev/null") // Ganeti's daemon leaves some open
	must(l, err)
	l.Cleanup(func() { stray.Close() })
	cmd.ExtraFiles = []*os.File{nil, stray, nil, stray, nil, stray, nil, nil, stray, w}
	cmd.Env = append(cmd.Env, fmt.Sprint("EXPORT_INDEX=", index), "EXPORT_DEVICE="+disk, "EXPORT_DISK_PATH="+disk, "EXP_SIZE_FD=12")
	return cmd, func() string {
		w.Close()
		b, err := io.ReadAll(r)
		must(l, err)
		r.Close()
		return string(b)
	}
}

// exportTo runs export to its end, its stdout a pipe.
func (l *lab) exportTo(out io.Writer, index int, disk string) (log, size string, exit int) {
	l.Helper()
	cmd, told := l.exporting(index, disk)
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = struct{ io.Writer }{out}, &stderr
	l.finish(cmd)
	return stderr.String(), told(), cmd.ProcessState.ExitCode()
}

// finish runs a command, for five minutes at most.
func (l *lab) finish(cmd *exec.Cmd) {
	l.Helper()
	must(l, cmd.Start())
	late := time.AfterFunc(5*time.Minute, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	cmd.Wait()
	if !late.Stop() {
		l.Fatalf("%v does not end: %v", cmd.Args, cmd.Stderr)
	}
}

// export must succeed, leave nothing, leave the disk as it was, and tell the
// stream's size. It returns the stream's file.
func (l *lab) export(index int, disk string) (stream string) {
	l.Helper()
	before := sumOf(l, disk)
	stream = filepath.Join(l.TempDir(), "stream")
	f, err := os.Create(stream)
	must(l, err)
	defer f.Close()
	log, size, exit := l.exportTo(f, index, disk)
	if exit != 0 {
		l.Fatalf("export: exit status %d\n%s", exit, log)
	}
	l.matches(log, `\n\S+ is exported from .+, in [0-9.]+ s(, with .*warning.*: .+)?\n$`)
	l.clean(0)
	if sumOf(l, disk) != before {
		l.Errorf("export changed the disk:\n%s", log)
	}
	l.toldSize(stream, size)
	return stream
}

// toldSize compares what EXP_SIZE_FD was given: the stream's length; at most so
// much of blocks that are looked at for zeros; and an estimate of a dump.
func (l *lab) toldSize(stream, size string) {
	l.Helper()
	f, err := os.Open(stream)
	must(l, err)
	defer f.Close()
	st, err := f.Stat()
	must(l, err)
	var told int64
	if n, err := fmt.Sscanf(size, "%d\n", &told); n != 1 || err != nil || !strings.HasSuffix(size, "\n") {
		l.Errorf("EXP_SIZE_FD was given %q", size)
	}
	head := make([]byte, 4096)
	_, err = f.ReadAt(head[:min(len(head), int(st.Size()))], 0)
	must(l, err)
	switch {
	case regexp.MustCompile(`"holes": *"zero"`).Match(head) && told >= st.Size(), told == st.Size():
	case l.env["EXPORT_FORMAT"] != "dump":
		l.Errorf("EXP_SIZE_FD was given %d; the stream has %d bytes", told, st.Size())
	}
}

// fed is how an import ended.
type fed struct {
	log   string
	exit  int
	bytes int64 // what it took
	err   error // of the writer: EPIPE when it left before the stream's end
	took  time.Duration
}

func (f fed) last() string {
	lines := strings.Split(strings.TrimSpace(f.log), "\n")
	return lines[len(lines)-1]
}

// importing is import of one disk, ready to start but for its stdin.
func (l *lab) importing(index int, disk string) *exec.Cmd {
	l.Helper()
	l.free(disk)
	cmd := l.command("import")
	cmd.Env = append(cmd.Env, fmt.Sprint("IMPORT_INDEX=", index), "IMPORT_DEVICE="+disk, "IMPORT_DISK_PATH="+disk)
	return cmd
}

// feed runs import with the stream in a pipe.
func (l *lab) feed(stream io.Reader, cmd *exec.Cmd) fed {
	l.Helper()
	var out bytes.Buffer
	r, w, err := os.Pipe()
	must(l, err)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, &out, &out
	var f fed
	written := make(chan struct{})
	go func() {
		defer close(written)
		f.bytes, f.err = io.Copy(w, struct{ io.Reader }{stream})
		w.Close()
	}()
	start := time.Now()
	must(l, cmd.Start())
	r.Close()
	late := time.AfterFunc(5*time.Minute, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	cmd.Wait()
	f.took = time.Since(start)
	if !late.Stop() {
		l.Fatalf("import does not end:\n%s", out.String())
	}
	<-written
	f.log, f.exit = out.String(), cmd.ProcessState.ExitCode()
	return f
}

// imports must succeed, take the whole stream, and leave nothing but the disk.
func (l *lab) imports(stream io.Reader, index int, disk string) (log string) {
	l.Helper()
	f := l.feed(stream, l.importing(index, disk))
	if f.exit != 0 {
		l.Fatalf("import: exit status %d\n%s", f.exit, f.log)
	}
	if f.err != nil {
		l.Errorf("import left before the stream's end, after %d bytes: %v\n%s", f.bytes, f.err, f.log)
	}
	l.matches(f.log, `\n\S+ is imported to .+, in [0-9.]+ s(, with .*warning.*: .+)?\n$`)
	l.clean(0)
	return f.log
}

// importFile imports the file onto the root disk.
func (l *lab) importFile(stream string) (log string) {
	l.Helper()
	f, err := os.Open(stream)
	must(l, err)
	defer f.Close()
	return l.imports(f, 0, l.disk)
}

// importFails must end with the reason last, and nothing that looks like an
// instance on the disk.
func (l *lab) importFails(stream io.Reader, want string) fed {
	l.Helper()
	f := l.feed(stream, l.importing(0, l.disk))
	l.failedWith(f, want)
	l.noInstance(f.log)
	return f
}

func (l *lab) failedWith(f fed, want string) {
	l.Helper()
	if f.exit != 1 {
		l.Errorf("import: exit status %d, not 1\n%s", f.exit, f.log)
	}
	if !regexp.MustCompile(want).MatchString(f.last()) {
		l.Errorf("the last line of the failure is %q, without %q; all of it:\n%s", f.last(), want, f.log)
	}
	l.clean(0)
}

// noInstance fails when blkid or wipefs find anything on the root disk, at its
// start or where a first partition starts: of msdos, and of gpt behind others. A disk
// for which no backup was found has to be as it was.
func (l *lab) noInstance(log string) {
	l.Helper()
	if before, used := l.used[l.disk]; used && !strings.Contains(log, "the backup is: ") {
		if sumOf(l, l.disk) != before {
			l.Errorf("the disk was written to; import said\n%s", log)
		}
		return
	}
	for _, offset := range []string{"0", "1048576", "67108864"} {
		if out, err := exec.Command("blkid", "-p", "-O", offset, l.disk).CombinedOutput(); err == nil || len(out) > 0 {
			l.Errorf("blkid finds at %s: %s %v; import said\n%s", offset, out, err, log)
		}
	}
	if out := l.tool("wipefs", "-n", l.disk); out != "" {
		l.Errorf("wipefs finds:\n%s\nimport said\n%s", out, log)
	}
}

// sumOf is the SHA-256 of a disk's blocks that aren't zero, and of where they
// are. Holes aren't read.
func sumOf(t interface {
	Helper()
	Fatal(...any)
}, disk string) [sha256.Size]byte {
	t.Helper()
	f, err := os.Open(disk)
	must(t, err)
	defer f.Close()
	sum, block, zero := sha256.New(), make([]byte, 4096), make([]byte, 4096)
	for end := int64(0); ; {
		start, err := unix.Seek(int(f.Fd()), end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return [sha256.Size]byte(sum.Sum(nil))
		}
		must(t, err)
		end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		must(t, err)
		for at := start &^ 4095; at < end; at += 4096 {
			n, err := f.ReadAt(block, at)
			if !errors.Is(err, io.EOF) {
				must(t, err)
			}
			if !bytes.Equal(block[:n], zero[:n]) {
				fmt.Fprintln(sum, at)
				sum.Write(block[:n])
			}
		}
	}
}
