//go:build root

package transport

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// inMemory tells how many of a file's bytes the kernel has read, by fincore(1).
func inMemory(t *testing.T, name string) int {
	t.Helper()
	out, err := exec.Command("fincore", "--bytes", "--noheadings", "--output", "RES", name).Output()
	must(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	must(t, err)
	return n
}

func TestFilesAreReadBeforeTarComesToThemButNotAllOfThem(t *testing.T) {
	const size, count = 2 << 20, 80
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	run("truncate", "-s", "400M", image)
	run("mke2fs", "-q", "-t", "ext4", image)
	run("mount", "-o", "loop", image, dir)
	defer func() { run("umount", dir) }() // nothing is open there any longer
	file := func(i int) string { return filepath.Join(dir, fmt.Sprint("folder", i/40), fmt.Sprintf("%02d", i)) }
	for i := range count {
		must(t, os.MkdirAll(filepath.Dir(file(i)), 0o755))
		must(t, os.WriteFile(file(i), bytes.Repeat([]byte{byte(i)}, size), 0o644))
	}
	run("umount", dir)
	run("mount", "-o", "loop,ro", image, dir)

	a := ReadAhead(t.Context(), dir)
	defer a.Stop()
	// The kernel may leave some of it out, or drop it again, where memory is scarce.
	wait := func(first, end int) {
		t.Helper()
		most := (end - first) * size / 4 * 3
		for range 300 {
			read := 0
			for i := first; i < end; i++ {
				read += inMemory(t, file(i))
			}
			if read >= most {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Fatalf("most of the files %d to %d isn't read", first, end-1)
	}
	wait(0, aheadBytes/size)
	time.Sleep(300 * time.Millisecond)
	if n := inMemory(t, file(count-1)); n > 0 {
		t.Errorf("%d bytes of the last file are read before there is anything of the tar", n)
	}
	_, err := io.Copy(io.Discard, a.Of(io.LimitReader(zeros{}, count*size)))
	must(t, err)
	wait(count-8, count)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
