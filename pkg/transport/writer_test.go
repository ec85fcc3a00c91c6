package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// disk is some blocks of one, the last at its very end.
func disk() []block {
	return []block{sectors(0, 1), sectors(512, 3), sectors(1<<20, 8), sectors(4<<20, MaxBlock/512), sectors(diskBytes-512, 1)}
}

func TestGosTarReadsWhatIsWritten(t *testing.T) {
	m := filesManifest()
	out := stream(t, m, disk()[:2], tree(t))
	got, err := readTar(strings.NewReader(out))
	must(t, err)
	want, err := readTar(strings.NewReader(tree(t)))
	must(t, err)
	text, err := m.Encode()
	must(t, err)

	own := []entry{file(manifestName, string(text)), file(diskFolder+"0000000000000000", disk()[0].data), file(diskFolder+"0000000000000200", disk()[1].data)}
	want = slices.Concat(own, want, []entry{file(digestName, got[len(got)-1].data)})
	if len(got) != len(want) {
		t.Fatalf("%d members, want %d", len(got), len(want))
	}
	for i, e := range got {
		if e.head.Name != want[i].head.Name || e.data != want[i].data {
			t.Errorf("member %d is %q with %.40q, want %q with %.40q", i, e.head.Name, e.data, want[i].head.Name, want[i].data)
		}
		ours := i < 3 || i == len(got)-1
		if h := e.head; ours && (h.Uid != 0 || h.Uname != "root" || h.Mode != 0o600 || h.Typeflag != '0') {
			t.Errorf("%s: %+v, want a file that only root reads", h.Name, h)
		}
	}
}

func TestGNUTarListsAndUnpacksWhatIsWritten(t *testing.T) {
	dir := t.TempDir()
	out := stream(t, filesManifest(), disk(), tarOf(t, file("./hello", "hello\n"), file("./a/b", strings.Repeat("b", 5000))))
	must(t, os.WriteFile(filepath.Join(dir, "backup"), []byte(out), 0o600))

	listed := shell(t, dir, "tar --warning=all -tf backup 2>&1")
	want := []string{manifestName}
	for _, b := range disk() {
		want = append(want, fmt.Sprintf("%s%016x", diskFolder, b.offset))
	}
	want = append(want, "./hello", "./a/b", digestName)
	if listed != strings.Join(want, "\n")+"\n" {
		t.Errorf("tar -tf lists\n%s", listed)
	}

	said := shell(t, dir, `mkdir out; tar -C out -xf backup 2>&1; cat out/hello; stat -c %s out/a/b`)
	if said != "hello\n5000\n" {
		t.Errorf("tar -xf left %q", said)
	}
	for _, b := range disk() {
		data, err := os.ReadFile(fmt.Sprintf("%s/out/%s%016x", dir, diskFolder, b.offset))
		if err != nil || string(data) != b.data {
			t.Errorf("block at %d: %v, %d bytes", b.offset, err, len(data))
		}
	}
}

func TestTheDigestIsSHA256OfAllBytesBeforeIt(t *testing.T) {
	dir := t.TempDir()
	out := stream(t, filesManifest(), disk()[:2], tree(t))
	must(t, os.WriteFile(filepath.Join(dir, "backup"), []byte(out), 0o600))
	got := shell(t, dir, fmt.Sprintf(`head -c $((%d - %d)) backup | sha256sum | cut -d' ' -f1`, len(out), EndBytes))
	if want := shell(t, dir, "tar -xOf backup "+digestName); got != want {
		t.Errorf("sha256sum says %s, the stream %s", got, want)
	}
}

func TestTheStreamsLengthIsKnownBefore(t *testing.T) {
	for name, m := range manifests() {
		want, err := ManifestBytes(m)
		must(t, err)
		var blocks []block
		if m.Content != "swap" {
			blocks = disk()
		}
		for _, b := range blocks {
			want += MemberBytes(int64(len(b.data)))
		}
		files := ""
		if m.Content == "files" {
			files = tree(t)
			want += int64(len(files)) - 2*recordBytes
		}
		want += EndBytes
		if got := len(stream(t, m, blocks, files)); int64(got) != want {
			t.Errorf("%s: %d bytes, %d were said", name, got, want)
		}
	}
}

func TestALongManifestsLengthIsKnownToo(t *testing.T) {
	m := blocksManifest()
	for i := range 256 {
		m.Siblings = append(m.Siblings, Sibling{Index: i, Type: "ext4", UUID: someUUID})
		want, err := ManifestBytes(m)
		must(t, err)
		if got := len(stream(t, m, nil, "")); int64(got) != want+EndBytes {
			t.Errorf("%d siblings: %d bytes, %d were said", i+1, got, want+EndBytes)
		}
	}
}

func TestAManifestThatIsTooLongIsNotWritten(t *testing.T) {
	m := blocksManifest()
	for i := range 256 {
		m.Siblings = append(m.Siblings, Sibling{Index: i, Type: strings.Repeat("<", 128), UUID: someUUID})
	}
	var out bytes.Buffer
	if _, err := NewWriter(&out, m); err == nil || !strings.Contains(err.Error(), "more than 65536") || out.Len() > 0 {
		t.Errorf("%v, %d bytes written", err, out.Len())
	}
	if _, err := ManifestBytes(m); err == nil {
		t.Error("it has a length")
	}
}

func TestABlockThatIsNotOneIsNotWritten(t *testing.T) {
	for name, b := range map[string]block{
		"empty":               {1 << 20, ""},
		"half a sector":       {1 << 20, strings.Repeat("x", 256)},
		"off the sectors":     {1<<20 + 1, strings.Repeat("x", 512)},
		"too long":            {1 << 20, strings.Repeat("x", MaxBlock+512)},
		"before the last":     {0, strings.Repeat("x", 512)},
		"over the last":       {512, strings.Repeat("x", 1024)},
		"before the disk":     {-512, strings.Repeat("x", 512)},
		"behind the disk":     {diskBytes, strings.Repeat("x", 512)},
		"over the disk's end": {diskBytes - 512, strings.Repeat("x", 1024)},
	} {
		var out bytes.Buffer
		w, err := NewWriter(&out, blocksManifest())
		must(t, err)
		must(t, w.Block(0, make([]byte, 1024)))
		before := w.Written()
		if err := w.Block(b.offset, []byte(b.data)); err == nil || w.Written() != before {
			t.Errorf("%s: %v, %d bytes more", name, err, w.Written()-before)
		}
		must(t, w.Block(1024, make([]byte, 512)))
	}
}

func TestATreeIsCopiedAsItIsButForItsEnd(t *testing.T) {
	files := tree(t)
	var out bytes.Buffer
	w, err := NewWriter(&out, filesManifest())
	must(t, err)
	before := out.Len()
	must(t, w.Tree(strings.NewReader(files+strings.Repeat("\x00", 10<<10))))
	if got, want := out.String()[before:], files[:len(files)-2*recordBytes]; got != want {
		t.Errorf("%d bytes became %d", len(want), len(got))
	}
}

func TestATreeThatIsNoWholeTarIsAnError(t *testing.T) {
	files := tree(t)
	for name, c := range map[string]struct {
		tar  string
		want error
	}{
		"nothing":           {"", io.ErrUnexpectedEOF},
		"without its end":   {files[:len(files)-2*recordBytes], io.ErrUnexpectedEOF},
		"with half its end": {files[:len(files)-recordBytes], io.ErrUnexpectedEOF},
		"cut in a header":   {files[:700], io.ErrUnexpectedEOF},
		"cut in a file":     {files[:1030], io.ErrUnexpectedEOF},
		"followed by text":  {files + "text", nil},
		"text":              {strings.Repeat("text", 1000), nil},
	} {
		w, err := NewWriter(io.Discard, filesManifest())
		must(t, err)
		if err := w.Tree(strings.NewReader(c.tar)); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// fullAfter is a pipe or disk that takes n bytes and no more.
type fullAfter struct{ n int }

var errFull = errors.New("full")

func (f *fullAfter) Write(p []byte) (int, error) {
	if len(p) > f.n {
		n := f.n
		f.n = 0
		return n, errFull
	}
	f.n -= len(p)
	return len(p), nil
}

func TestAFailedWriteIsToldWhereverItHappens(t *testing.T) {
	files, blocks := tree(t), disk()[:2]
	whole := len(stream(t, filesManifest(), blocks, files))
	for n := 0; n < whole; n += 100 {
		w, err := NewWriter(&fullAfter{n}, filesManifest())
		if err == nil {
			err = errors.Join(w.Block(0, []byte(blocks[0].data)), w.Block(512, []byte(blocks[1].data)), w.Tree(strings.NewReader(files)), w.Close())
			if w.Written() != int64(n) {
				t.Errorf("after %d bytes: Written says %d", n, w.Written())
			}
		}
		if !errors.Is(err, errFull) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}
