package transport

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"unicode"
)

const (
	someUUID  = "0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10"
	diskBytes = 64 << 20
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shell runs a script in dir and returns what it printed on stdout.
func shell(t testing.TB, dir, script string) string {
	t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = dir
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, said.String())
	}
	return out.String()
}

func filesManifest() Manifest {
	return Manifest{
		Format: FormatNumber, Tool: "test", Content: "files", Role: "root", BootLoader: "grub-bios",
		Disk: Disk{SizeBytes: diskBytes, Style: "msdos", ID: "0badf00d", Partitions: []Partition{
			{Number: 1, StartSector: 2048, Sectors: diskBytes/512 - 2048, Type: "83", UUID: "0badf00d-01", Bootable: true},
		}},
		Filesystem: &Filesystem{Type: "ext4", UUID: someUUID, Label: "root disk", Partition: 1, SizeBytes: diskBytes - 1<<20, UsedBytes: 4096, Inodes: 3, Suite: "trixie"},
		Siblings:   []Sibling{{Index: 0, Type: "ext4", UUID: someUUID, Moves: true}, {Index: 1, Type: "swap", UUID: someUUID}},
	}
}

func blocksManifest() Manifest {
	return Manifest{
		Format: FormatNumber, Tool: "test", Content: "blocks", Role: "data", Holes: "zero",
		Disk: Disk{Index: 1, SizeBytes: diskBytes, Style: "unknown"},
	}
}

func swapManifest() Manifest {
	return Manifest{
		Format: FormatNumber, Tool: "test", Content: "swap", Role: "swap",
		Disk:       Disk{SizeBytes: diskBytes, Style: "none"},
		Filesystem: &Filesystem{Type: "swap", UUID: someUUID, SizeBytes: diskBytes},
	}
}

// block is bytes of a disk.
type block struct {
	offset int64
	data   string
}

// zeroRun are bytes of a disk that are zero.
type zeroRun struct{ offset, n int64 }

// sectors are n sectors that no two offsets have alike.
func sectors(offset int64, n int) block {
	return block{offset, strings.Repeat(string(rune('a'+offset/512%26))+"bytes of the disk\x00\xff", n*512)[:n*512]}
}

// stream writes one of ours; files is a tar, or "" for none.
func stream(t testing.TB, m Manifest, blocks []block, files string, zeros ...zeroRun) string {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, m)
	must(t, err)
	for _, b := range blocks {
		for ; len(zeros) > 0 && zeros[0].offset < b.offset; zeros = zeros[1:] {
			must(t, w.Zero(zeros[0].offset, zeros[0].n))
		}
		must(t, w.Block(b.offset, []byte(b.data)))
	}
	for _, z := range zeros {
		must(t, w.Zero(z.offset, z.n))
	}
	if m.Content == "files" {
		must(t, w.Tree(strings.NewReader(files)))
	}
	must(t, w.Close())
	if w.Written() != int64(out.Len()) {
		t.Errorf("Written says %d, and %d bytes came", w.Written(), out.Len())
	}
	return out.String()
}

// joined are the blocks, whatever parts they came in: the longest that there can be.
func joined(parts []block) (blocks []block) {
	for _, p := range parts {
		if last := len(blocks) - 1; last >= 0 && blocks[last].offset+int64(len(blocks[last].data)) == p.offset {
			n := min(len(p.data), MaxBlock-len(blocks[last].data))
			blocks[last].data += p.data[:n]
			p.offset, p.data = p.offset+int64(n), p.data[n:]
		}
		if p.data != "" {
			blocks = append(blocks, p)
		}
	}
	return blocks
}

// found is what Walk gives back.
type found struct {
	kind   Kind
	blocks []block // joined
	zeros  []zeroRun
	files  bytes.Buffer
}

// walkStream opens a stream, and reads it to its end.
func walkStream(in io.Reader) (*Stream, *found, error) {
	s, err := Open(context.Background(), in)
	if err != nil {
		return nil, nil, err
	}
	got := &found{kind: s.Kind}
	err = s.Walk(Sink{
		Block: func(offset int64, data []byte) error {
			got.blocks = append(got.blocks, block{offset, string(data)})
			return nil
		},
		Zero: func(offset, n int64) error {
			got.zeros = append(got.zeros, zeroRun{offset, n})
			return nil
		},
		Files: &got.files,
	})
	got.blocks = joined(got.blocks)
	return s, got, errors.Join(err, s.Close())
}

// entry is one member of a tar.
type entry struct {
	head tar.Header
	data string
}

func file(name, data string) entry { return entry{tar.Header{Name: name}, data} }

// tarOf writes a tar with Go's archive/tar.
func tarOf(t testing.TB, entries ...entry) string {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		e.head.Size, e.head.Mode = int64(len(e.data)), 0o644
		if e.head.Typeflag == 0 {
			e.head.Typeflag = tar.TypeReg
		}
		must(t, w.WriteHeader(&e.head))
		_, err := io.WriteString(w, e.data)
		must(t, err)
	}
	must(t, w.Close())
	return out.String()
}

// readTar is archive/tar's view of a stream: names and contents.
func readTar(in io.Reader) (entries []entry, err error) {
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return entries, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return entries, err
		}
		entries = append(entries, entry{*h, string(data)})
	}
}

// tree is a small tar of files with all that a header can say of them.
func tree(t testing.TB) string {
	long := "./" + strings.Repeat("a-folder-with-a-long-name/", 12)
	return tarOf(t,
		entry{tar.Header{Name: "./", Typeflag: tar.TypeDir}, ""},
		file("./hello", "hello\n"),
		file("./empty", ""),
		file("./record", strings.Repeat("r", 512)),
		file("./"+strings.Repeat("x", 120), "prefix\n"),
		file(long+"file", "a pax header has its name\n"),
		entry{tar.Header{Name: "./noted", PAXRecords: map[string]string{"SCHILY.xattr.user.note": "line\nand = sign"}}, "noted\n"},
		entry{tar.Header{Name: "./link", Linkname: "hello", Typeflag: tar.TypeSymlink}, ""},
		entry{tar.Header{Name: "./hard", Linkname: "./hello", Typeflag: tar.TypeLink}, ""},
		entry{tar.Header{Name: "./null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, ""},
		entry{tar.Header{Name: "./pipe", Typeflag: tar.TypeFifo}, ""},
		file("./.instance-debootstrap/sha256", "the guest's own\n"),
	)
}

// printable reports whether a text can be shown on a line of a log.
func printable(s string) bool {
	return !strings.ContainsFunc(s, unicode.IsControl)
}

func linkHead(name string) tar.Header {
	return tar.Header{Name: name, Linkname: "x", Typeflag: tar.TypeSymlink}
}
