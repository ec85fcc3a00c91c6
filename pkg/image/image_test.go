package image

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const mib = 1 << 20

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// noise returns n bytes, none of them zero.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(1 + r.IntN(255))
	}
	return b
}

// used is what the sealed filesystem of these tests uses; in zeros it has none
// but zeros, and in the rest noise.
var (
	used  = []Range{{0, 4096}, {8192, 3*mib + 4096}, {5 * mib, 2 * mib}, {15*mib + 4096, mib - 4096}}
	zeros = []Range{{mib, mib / 2}, {6 * mib, mib}}
)

const sizeBytes = 16 * mib

// sealed makes an image file and returns its path and the filesystem as it must
// become on a disk of zeros.
func sealed(t *testing.T) (path string, want []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "image")
	content := noise(sizeBytes)
	for _, z := range zeros {
		clear(content[z.Offset : z.Offset+z.Bytes])
	}
	must(t, os.WriteFile(path, content, 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, Seal(context.Background(), f, List{Tree: "tree", SizeBytes: sizeBytes, Journal: 4096}, used))
	want = make([]byte, sizeBytes)
	for _, u := range used {
		copy(want[u.Offset:u.Offset+u.Bytes], content[u.Offset:])
	}
	return path, want
}

func open(t *testing.T, path string) *Image {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	m, err := Open(f)
	must(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

// garbageDisk is a file full of 0xee.
func garbageDisk(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "disk"))
	must(t, err)
	t.Cleanup(func() { f.Close() })
	_, err = f.Write(bytes.Repeat([]byte{0xee}, sizeBytes+2*mib))
	must(t, err)
	return f
}

func TestACopyHasAllThatIsInUseAndTouchesNothingElse(t *testing.T) {
	path, want := sealed(t)
	m := open(t, path)
	if m.Tree != "tree" || m.Journal != 4096 || m.SizeBytes != sizeBytes {
		t.Errorf("the list says %+v", m.List)
	}
	for name, dir := range map[string]string{"direct": t.TempDir(), "through the page cache": "/dev/shm"} {
		t.Run(name, func(t *testing.T) {
			if dir == "/dev/shm" {
				dir, _ = os.MkdirTemp(dir, "image-test-")
				t.Cleanup(func() { os.RemoveAll(dir) })
			}
			for _, offset := range []int64{mib, 512 * 63} {
				disk := garbageDisk(t, dir)
				must(t, m.CopyTo(context.Background(), disk, offset))
				got, err := os.ReadFile(disk.Name())
				must(t, err)
				expect := bytes.Repeat([]byte{0xee}, len(got))
				for _, u := range used {
					copy(expect[offset+u.Offset:offset+u.Offset+u.Bytes], want[u.Offset:])
				}
				if !bytes.Equal(got, expect) {
					t.Errorf("at offset %d the disk is not what it should be", offset)
				}
			}
		})
	}
}

func TestASealedFileHasNothingButWhatIsInUse(t *testing.T) {
	path, want := sealed(t)
	got, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(got[:sizeBytes], want) {
		t.Error("the image has something beside what is in use")
	}
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	if most := int64(8 * mib); st.Blocks*512 > most {
		t.Errorf("the image takes %d KiB", st.Blocks/2)
	}
}

// TestAnyDamageIsFound flips and cuts everywhere: a copy either fails or is right.
func TestAnyDamageIsFound(t *testing.T) {
	path, _ := sealed(t)
	whole, err := os.ReadFile(path)
	must(t, err)
	disk := garbageDisk(t, t.TempDir())
	try := func(what string, b []byte) {
		t.Helper()
		damaged := filepath.Join(t.TempDir(), "damaged")
		must(t, os.WriteFile(damaged, b, 0o600))
		f, err := os.Open(damaged)
		must(t, err)
		defer f.Close()
		m, err := Open(f)
		if err == nil {
			err = m.CopyTo(context.Background(), disk, 0)
			if verr := m.Verify(context.Background()); (err == nil) != (verr == nil) {
				t.Errorf("%s: CopyTo says %v, Verify %v", what, err, verr)
			}
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	flip := func(at int) []byte {
		b := bytes.Clone(whole)
		b[at] ^= 0x10
		return b
	}
	for _, u := range used[:1] {
		try("first byte", flip(int(u.Offset)))
	}
	for _, at := range []int{8192 + mib - 1, 3 * mib, 5*mib + 12345, 7*mib - mib - 1, sizeBytes - 1, sizeBytes + 5, sizeBytes + 300, len(whole) - 17, len(whole) - 16, len(whole) - 6, len(whole) - 1} {
		try("a flipped bit", flip(at))
	}
	for _, n := range []int{0, 5, 4096, sizeBytes, len(whole) - 1} {
		try("a cut", whole[:n])
	}
	try("more at its end", append(bytes.Clone(whole), 0))
}

func TestACopyEndsWithItsContext(t *testing.T) {
	path, _ := sealed(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("no longer wanted")
	cancel(why)
	if err := open(t, path).CopyTo(ctx, garbageDisk(t, t.TempDir()), 0); !errors.Is(err, why) {
		t.Errorf("CopyTo: %v", err)
	}
}

func TestADiskThatTakesNoMoreFailsTheCopy(t *testing.T) {
	path, _ := sealed(t)
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	must(t, err)
	defer full.Close()
	if err := open(t, path).CopyTo(context.Background(), full, 0); err == nil {
		t.Error("a full disk was no error")
	}
}

// TestAListThatLeadsOutOfTheImageIsRefused seals what no Seal would.
func TestAListThatLeadsOutOfTheImageIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*List){
		"zeros behind its end":   func(l *List) { l.Zero = []Range{{sizeBytes - 4096, 8192}} },
		"zeros before its start": func(l *List) { l.Zero = []Range{{-4096, 4096}} },
		"zeros without end":      func(l *List) { l.Zero = []Range{{4096, 1<<63 - 1}} },
		"data behind its end":    func(l *List) { l.Data = []Piece{{sizeBytes - 4096, 8192, 0}} },
		"data before its start":  func(l *List) { l.Data = []Piece{{-4096, 4096, 0}} },
		"a piece too large":      func(l *List) { l.Data = []Piece{{0, pieceBytes + 1, 0}} },
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "image"))
			must(t, err)
			defer f.Close()
			l := List{SizeBytes: sizeBytes, Data: []Piece{{0, 4096, 0}}}
			spoil(&l)
			must(t, f.Truncate(sizeBytes))
			must(t, Seal(context.Background(), f, l, nil))
			if _, err := Open(f); !errors.Is(err, ErrDamaged) {
				t.Errorf("Open: %v", err)
			}
		})
	}
}

func TestAnImageThatBecomesShorterWhileItIsCopiedIsDamaged(t *testing.T) {
	path, _ := sealed(t)
	m := open(t, path)
	must(t, os.Truncate(path, 5*mib))
	if err := m.CopyTo(context.Background(), garbageDisk(t, t.TempDir()), 0); !errors.Is(err, ErrDamaged) {
		t.Errorf("the copy says %v", err)
	}
}

// TestUnusedIsAllThatACopyDoesNotWrite fills what is unused with a mark of its own.
func TestUnusedIsAllThatACopyDoesNotWrite(t *testing.T) {
	path, want := sealed(t)
	m := open(t, path)
	disk := garbageDisk(t, t.TempDir())
	const partitionBytes = sizeBytes + mib
	for _, u := range m.Unused(partitionBytes) {
		_, err := disk.WriteAt(make([]byte, u.Bytes), u.Offset)
		must(t, err)
	}
	must(t, m.CopyTo(context.Background(), disk, 0))
	got, err := os.ReadFile(disk.Name())
	must(t, err)
	if !bytes.Equal(got[:sizeBytes], want) {
		t.Error("something of the disk is left in the filesystem")
	}
	if rest := got[sizeBytes:partitionBytes]; !bytes.Equal(rest, make([]byte, len(rest))) {
		t.Error("something of the disk is left behind the filesystem")
	}
	if rest := got[partitionBytes:]; !bytes.Equal(rest, bytes.Repeat([]byte{0xee}, len(rest))) {
		t.Error("what is behind the partition was changed")
	}
}
