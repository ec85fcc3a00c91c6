package transport

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// samples are a small stream of each content.
func samples(t testing.TB) map[string]string {
	return map[string]string{
		"files":             stream(t, filesManifest(), disk()[:2], tree(t)),
		"files, all of it":  stream(t, filesManifest(), nil, tree(t)),
		"no files":          stream(t, filesManifest(), nil, tarOf(t)),
		"blocks":            stream(t, blocksManifest(), []block{sectors(0, 1), sectors(4096, 2), sectors(diskBytes-512, 1)}, ""),
		"blocks and zeros":  stream(t, blocksManifest(), []block{sectors(4096, 2)}, "", someZeros...),
		"an empty disk":     stream(t, blocksManifest(), nil, ""),
		"swap":              stream(t, swapManifest(), nil, ""),
		"a plain tar":       tree(t),
		"followed by zeros": stream(t, swapManifest(), nil, "") + strings.Repeat("\x00", 10239),
	}
}

// someZeros are before and behind a block at 4096, and up to the disk's end.
var someZeros = []zeroRun{{0, 512}, {8192, 32 << 20}, {48 << 20, 16 << 20}}

func TestZerosComeBackAndTakeNoRoom(t *testing.T) {
	whole := stream(t, blocksManifest(), []block{sectors(4096, 2)}, "", someZeros...)
	_, got, err := walkStream(strings.NewReader(whole))
	must(t, err)
	if !slices.Equal(got.zeros, someZeros) || len(got.blocks) != 1 || len(whole) > 16<<10 {
		t.Errorf("%d bytes of stream have %v, %d blocks", len(whole), got.zeros, len(got.blocks))
	}
	w, err := NewWriter(io.Discard, blocksManifest())
	must(t, err)
	before := w.Written()
	must(t, w.Zero(0, diskBytes))
	if took := w.Written() - before; took != ZeroBytes() {
		t.Errorf("zeros take %d bytes, and %d were said", took, ZeroBytes())
	}
}

func TestBlocksComeBackByteForByte(t *testing.T) {
	s, got, err := walkStream(strings.NewReader(stream(t, blocksManifest(), disk(), "")))
	must(t, err)
	if !reflect.DeepEqual(got.blocks, joined(disk())) || got.files.Len() > 0 || !reflect.DeepEqual(s.Manifest, blocksManifest()) {
		t.Errorf("%d blocks, %d bytes of files, %+v", len(got.blocks), got.files.Len(), s.Manifest)
	}
}

func TestFilesComeBackByteForByte(t *testing.T) {
	files := tree(t)
	for name, read := range map[string]func(io.Reader) io.Reader{
		"at once":        func(r io.Reader) io.Reader { return r },
		"byte for byte":  iotest.OneByteReader,
		"half by half":   iotest.HalfReader,
		"EOF with bytes": iotest.DataErrReader,
	} {
		s, got, err := walkStream(read(strings.NewReader(stream(t, filesManifest(), disk(), files))))
		must(t, err)
		if !reflect.DeepEqual(got.blocks, joined(disk())) || got.files.String() != files || !reflect.DeepEqual(s.Manifest, filesManifest()) {
			t.Errorf("%s: %d blocks, %d bytes of files, want %d", name, len(got.blocks), got.files.Len(), len(files))
		}
	}
}

func TestAPlainTarComesBackByteForByte(t *testing.T) {
	files := tree(t)
	_, got, err := walkStream(strings.NewReader(files + strings.Repeat("\x00", 9000)))
	if err != nil || got.kind != Tar || got.files.String() != files {
		t.Errorf("%v: %s with %d bytes of files, want %d", err, got.kind, got.files.Len(), len(files))
	}
}

func TestASwapAreaIsItsManifest(t *testing.T) {
	s, got, err := walkStream(strings.NewReader(stream(t, swapManifest(), nil, "")))
	if err != nil || len(got.blocks) > 0 || got.files.Len() > 0 || s.Manifest.Filesystem.UUID != someUUID {
		t.Errorf("%v: %+v", err, got)
	}
}

func TestAStreamThatIsCutOffAnywhereIsAnError(t *testing.T) {
	for name, whole := range samples(t) {
		if name == "followed by zeros" {
			continue
		}
		for n := 0; n < len(whole); n += 256 {
			for _, cut := range []int{n, n + 1, n + 255} {
				_, _, err := walkStream(strings.NewReader(whole[:cut]))
				if err == nil || cut >= recordBytes && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%s, cut off after %d of %d bytes: %v", name, cut, len(whole), err)
				}
			}
		}
	}
}

func TestAFailedReadIsTold(t *testing.T) {
	gone := errors.New("the other node is gone")
	for name, whole := range samples(t) {
		for n := 0; n < len(whole); n += 500 {
			_, _, err := walkStream(io.MultiReader(strings.NewReader(whole[:n]), iotest.ErrReader(gone)))
			if !errors.Is(err, gone) {
				t.Errorf("%s, after %d of %d bytes: %v", name, n, len(whole), err)
			}
		}
	}
}

func TestAFlippedBitAnywhereBeforeTheDigestIsAnError(t *testing.T) {
	for name, whole := range samples(t) {
		s, _, err := walkStream(strings.NewReader(whole))
		must(t, err)
		if s.Kind != Ours {
			continue
		}
		covered := len(strings.TrimRight(whole, "\x00")) - digestBytes - recordBytes
		for at := 0; at < covered; at += 5 { // coprime to the 8 bits and to a header
			b := []byte(whole)
			b[at] ^= 1 << (at % 8)
			if s, _, err := walkStream(bytes.NewReader(b)); err == nil && s.Kind == Ours {
				t.Errorf("%s: bit %d of byte %d of %d is no error", name, at%8, at, len(whole))
			}
		}
	}
}

func TestAFlippedByteInTheDataIsAnErrorOfTheDigest(t *testing.T) {
	for name, whole := range samples(t) {
		entries, err := readTar(strings.NewReader(whole))
		must(t, err)
		if entries[0].head.Name != manifestName {
			continue
		}
		for _, e := range entries[1:] {
			at := strings.Index(whole, e.data)
			if e.data == "" || at < 0 || strings.HasPrefix(e.head.Name, zeroFolder) { // a length is checked at once
				continue
			}
			for _, at := range []int{at, at + len(e.data)/2, at + len(e.data) - 1} {
				b := []byte(whole)
				b[at] ^= 0x20
				if _, _, err := walkStream(bytes.NewReader(b)); err == nil || !strings.Contains(err.Error(), "damaged: its digest is") {
					t.Errorf("%s: byte %d, of %s: %v", name, at, e.head.Name, err)
				}
			}
		}
	}
}

func TestWhatFollowsTheEndIsAnError(t *testing.T) {
	for name, whole := range samples(t) {
		for _, more := range []string{"x", strings.Repeat("\x00", 511) + "x", strings.Repeat("\x00", 3<<20) + "x", whole} {
			_, _, err := walkStream(strings.NewReader(whole + more))
			if err == nil || !strings.Contains(err.Error(), "there is data after its end") {
				t.Errorf("%s and %d bytes: %v", name, len(more), err)
			}
		}
	}
}

// ownTar is a stream of ours with a right digest, whose members are put together
// by archive/tar; the last entry may be the digest itself.
func ownTar(t testing.TB, m Manifest, entries ...entry) string {
	t.Helper()
	text, err := m.Encode()
	must(t, err)
	entries = slices.Concat([]entry{file(manifestName, string(text))}, entries)
	before := strings.TrimSuffix(tarOf(t, entries...), strings.Repeat("\x00", 2*recordBytes))
	return before + tarOf(t, file(digestName, fmt.Sprintf("%x\n", sha256.Sum256([]byte(before)))))
}

func diskEntry(offset string, n int) entry {
	return file(diskFolder+offset, strings.Repeat("x", n))
}

func zeroEntry(offset, content string) entry { return file(zeroFolder+offset, content) }

// misplaced are streams with right digests and wrong members; three are right.
func misplaced(t testing.TB) map[string]struct{ stream, want string } {
	t.Helper()
	files, blocks, swap, old := filesManifest(), blocksManifest(), swapManifest(), blocksManifest()
	old.Format = FormatFor(false)
	const first, second, last = "0000000000000000", "0000000000000200", "0000000003fffe00"
	return map[string]struct{ stream, want string }{
		"right":                   {ownTar(t, blocks, diskEntry(first, 512), diskEntry(last, 512)), ""},
		"right files":             {ownTar(t, files, diskEntry(first, 512), file("./x", "x")), ""},
		"a second manifest":       {ownTar(t, blocks, file(manifestName, "{}")), "unknown"},
		"an unknown member":       {ownTar(t, blocks, file(ownFolder+"signature", "x")), "newer version"},
		"a file among blocks":     {ownTar(t, blocks, file("./x", "x")), "in a backup of blocks"},
		"a file of swap":          {ownTar(t, swap, file("./x", "x")), "in a backup of swap"},
		"a block of swap":         {ownTar(t, swap, diskEntry(first, 512)), "not where or what"},
		"a block after files":     {ownTar(t, files, file("./x", "x"), diskEntry(first, 512)), "not where or what"},
		"blocks in disorder":      {ownTar(t, blocks, diskEntry(second, 512), diskEntry(first, 512)), "in order"},
		"a block twice":           {ownTar(t, blocks, diskEntry(first, 512), diskEntry(first, 512)), "in order"},
		"blocks that overlap":     {ownTar(t, blocks, diskEntry(first, 1024), diskEntry(second, 512)), "in order"},
		"a block behind the disk": {ownTar(t, blocks, diskEntry("0000000004000000", 512)), "on the disk"},
		"a block over the end":    {ownTar(t, blocks, diskEntry(last, 1024)), "on the disk"},
		"an enormous offset":      {ownTar(t, blocks, diskEntry("7ffffffffffffe00", 512)), "on the disk"},
		"an offset that is more":  {ownTar(t, blocks, diskEntry("fffffffffffffe00", 512)), "not where or what"},
		"a negative offset":       {ownTar(t, blocks, diskEntry("-000000000000200", 512)), "a block of"},
		"a short offset":          {ownTar(t, blocks, diskEntry("0", 512)), "not where or what"},
		"an offset of words":      {ownTar(t, blocks, diskEntry("000000000000zero", 512)), "not where or what"},
		"a block at an odd byte":  {ownTar(t, blocks, diskEntry("0000000000000001", 512)), "whole sectors"},
		"an empty block":          {ownTar(t, blocks, diskEntry(first, 0)), "whole sectors"},
		"half a sector":           {ownTar(t, blocks, diskEntry(first, 100)), "whole sectors"},
		"a block that is long":    {ownTar(t, blocks, diskEntry(first, MaxBlock+512)), "at most"},
		"a block that is a link":  {ownTar(t, blocks, entry{head: linkHead(diskFolder + first)}), "not where or what"},
		"zeros":                   {ownTar(t, blocks, diskEntry(first, 512), zeroEntry(second, "0000000003fffe00\n")), ""},
		"zeros of format 1":       {ownTar(t, old, zeroEntry(first, "0000000000000200\n")), "newer version"},
		"zeros before files":      {ownTar(t, files, zeroEntry(first, "0000000000000200\n"), file("./x", "x")), "not where or what"},
		"zeros of swap":           {ownTar(t, swap, zeroEntry(first, "0000000000000200\n")), "not where or what"},
		"zeros over a block":      {ownTar(t, blocks, diskEntry(first, 1024), zeroEntry(second, "0000000000000200\n")), "in order"},
		"a block over zeros":      {ownTar(t, blocks, zeroEntry(first, "0000000000000400\n"), diskEntry(second, 512)), "in order"},
		"zeros over the end":      {ownTar(t, blocks, zeroEntry(last, "0000000000000400\n")), "on the disk"},
		"zeros of no length":      {ownTar(t, blocks, zeroEntry(first, "0000000000000000\n")), "whole sectors"},
		"zeros of half a sector":  {ownTar(t, blocks, zeroEntry(first, "0000000000000100\n")), "whole sectors"},
		"zeros of less than none": {ownTar(t, blocks, zeroEntry(first, "-000000000000200\n")), "whole sectors"},
		"enormous zeros":          {ownTar(t, blocks, zeroEntry(second, "7ffffffffffffe00\n")), "on the disk"},
		"zeros in words":          {ownTar(t, blocks, zeroEntry(first, "all of the disk.\n")), "no number"},
		"zeros without a newline": {ownTar(t, blocks, zeroEntry(first, "00000000000002000")), "no number"},
		"zeros that are short":    {ownTar(t, blocks, zeroEntry(first, "200\n")), "4 bytes"},
		"zeros that are a link":   {ownTar(t, blocks, entry{head: linkHead(zeroFolder + first)}), "not where or what"},
		"no digest":               {tarOf(t, file(manifestName, encoded(t, swap))), "no digest"},
		"a long digest":           {tarOf(t, file(manifestName, encoded(t, swap)), file(digestName, strings.Repeat("0", 66))), "wrong size"},
		"another digest":          {tarOf(t, file(manifestName, encoded(t, swap)), file(digestName, strings.Repeat("0", 64)+"\n")), "is damaged"},
		"a digest in capitals":    {upperDigest(ownTar(t, swap)), "is damaged"},
		"a member after":          {strings.TrimRight(ownTar(t, swap), "\x00") + strings.Repeat("\x00", 447) + tarOf(t, file("./x", "")), "follows its digest"},
	}
}

func TestMembersThatAreNotInTheirPlaceAreErrors(t *testing.T) {
	for name, c := range misplaced(t) {
		_, _, err := walkStream(strings.NewReader(c.stream))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func encoded(t testing.TB, m Manifest) string {
	t.Helper()
	b, err := m.Encode()
	must(t, err)
	return string(b)
}

// upperDigest writes a stream's digest in another way.
func upperDigest(s string) string {
	at := strings.LastIndex(s, digestName) + recordBytes
	return s[:at] + strings.ToUpper(s[at:])
}

func TestAFailureOfTheSinkEndsTheWalk(t *testing.T) {
	s, err := Open(t.Context(), strings.NewReader(samples(t)["files"]))
	must(t, err)
	if err := s.Walk(Sink{Block: func(int64, []byte) error { return errFull }, Files: io.Discard}); !errors.Is(err, errFull) {
		t.Errorf("a block that isn't taken: %v", err)
	}
	files := tree(t)
	for n := 0; n < len(files); n += 100 {
		s, err := Open(t.Context(), strings.NewReader(samples(t)["files, all of it"]))
		must(t, err)
		if err := s.Walk(Sink{Files: &fullAfter{n}}); !errors.Is(err, errFull) {
			t.Errorf("files of which %d bytes are taken: %v", n, err)
		}
	}
}
