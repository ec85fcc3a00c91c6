package blockdev

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const diskBytes = 24 << 20

// openDisk is a file of diskBytes on the filesystem of dir.
func openDisk(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "disk"))
	if err == nil {
		t.Cleanup(func() { f.Close() })
		err = f.Truncate(diskBytes)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// runs are parts of a disk in order, some of which follow each other: of any length
// and place, or both multiples of 4096.
func runs(unit int64) (places [][2]int64) {
	r := rand.New(rand.NewPCG(1, uint64(unit)))
	for at := int64(0); ; {
		if r.IntN(3) == 0 {
			at += unit * r.Int64N(1<<20/unit)
		}
		n := unit * (1 + r.Int64N([]int64{1, 300 << 10, 3 << 20}[r.IntN(3)]/unit+1))
		if at+n > diskBytes {
			return places
		}
		places = append(places, [2]int64{at, n})
		at += n
	}
}

func TestWhatIsWrittenDirectlyIsThere(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/dev/shm"} { // of which the latter may have no direct writes
		for _, unit := range []int64{1, 512, 4096} {
			dir, err := os.MkdirTemp(dir, "direct-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			disk, want := openDisk(t, dir), make([]byte, diskBytes)
			w := NewWriter(t.Context(), disk)
			data := make([]byte, diskBytes)
			for _, p := range runs(unit) {
				for i := range data[:p[1]] {
					data[i] = byte(rand.Uint32() | 1)
				}
				copy(want[p[0]:], data[:p[1]])
				if n, err := w.WriteAt(data[:p[1]], p[0]); err != nil || int64(n) != p[1] {
					t.Fatalf("%d bytes at %d: %d, %v", p[1], p[0], n, err)
				}
				clear(data[:p[1]]) // it took a copy
			}
			if err := w.Finish(); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(disk.Name())
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("in %s, units of %d: %v, %d bytes, not what was written", dir, unit, err, len(got))
			}
			if err := w.Finish(); err != nil {
				t.Errorf("again: %v", err)
			}
		}
	}
}

func TestAFailedDirectWriteIsToldAndStaysTold(t *testing.T) {
	path := openDisk(t, t.TempDir()).Name()
	for name, where := range map[string]int64{"a small one": 4096, "a large one": 4 << 20} {
		disk, err := os.Open(path) // for reading only
		if err != nil {
			t.Fatal(err)
		}
		defer disk.Close()
		w := NewWriter(t.Context(), disk)
		w.direct.Close() // root may write to it
		for at := int64(0); at < where; at += 4096 {
			w.WriteAt(make([]byte, 4096), at)
		}
		for range 2 {
			if err := w.Finish(); err == nil || !strings.Contains(err.Error(), "of the disk") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := w.WriteAt([]byte("x"), 0); err == nil {
			t.Errorf("%s: what follows is no error", name)
		}
		w.Finish()
	}
}
