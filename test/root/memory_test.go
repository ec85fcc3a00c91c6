//go:build root && slow

package root

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// peakLimit is the most memory that a process of the program may have had, in
// KiB.
const peakLimit = 64 << 10

// peak watches the program's processes until the returned function is called,
// which gives the largest VmHWM that the kernel said of one (proc_pid_status(5)),
// in KiB.
func peak() (end func() int) {
	stop, done, most := make(chan bool), make(chan bool), 0
	go func() {
		defer close(done)
		for {
			pids, _ := filepath.Glob("/proc/[0-9]*/exe")
			for _, exe := range pids {
				if to, err := os.Readlink(exe); err != nil || to != program {
					continue
				}
				status, _ := os.ReadFile(filepath.Dir(exe) + "/status")
				if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
					kib := 0
					fmt.Sscan(rest, &kib)
					most = max(most, kib)
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() int { close(stop); <-done; return most }
}

// manyFiles writes a tar of a million empty files, and of what makes it a root
// filesystem.
func manyFiles(w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<20)
	t := tar.NewWriter(out)
	for _, name := range []string{"./etc/", "./usr/"} {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}); err != nil {
			return err
		}
	}
	for dir := range 1000 {
		name := fmt.Sprintf("./many/%03d", dir)
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}); err != nil {
			return err
		}
		for file := range 1000 {
			if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%s/%03d", name, file), Mode: 0o644}); err != nil {
				return err
			}
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return out.Flush()
}

func TestMemoryStaysSmallWithAMillionFilesAndOnATebibyte(t *testing.T) {
	l := newMoveLab(t, 1<<20) // MiB: a sparse disk of 1 TiB
	l.disks(l.disk)
	r, w := io.Pipe()
	go func() { w.CloseWithError(manyFiles(w)) }()
	end := peak()
	l.imports(r, 0, l.disk)
	if kib := end(); kib == 0 || kib > peakLimit {
		t.Errorf("import of a million files: %d KiB", kib)
	} else {
		t.Logf("import of a million files: %d KiB", kib)
	}
	for _, format := range []string{"tar", "image"} {
		l.env["EXPORT_FORMAT"] = format
		end = peak()
		count := &counter{}
		if log, _, exit := l.exportTo(count, 0, l.disk); exit != 0 {
			t.Fatalf("export as %s: exit status %d\n%s", format, exit, log)
		}
		if kib := end(); kib == 0 || kib > peakLimit {
			t.Errorf("export as %s of a million files, %d MiB: %d KiB", format, count.n>>20, kib)
		} else {
			t.Logf("export as %s of a million files, %d MiB: %d KiB", format, count.n>>20, kib)
		}
		if count.n < 256<<20 {
			t.Errorf("export as %s: only %d bytes", format, count.n)
		}
	}
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
