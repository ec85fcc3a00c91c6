package transport

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
)

// FuzzWalk: whatever comes in, Open and Walk neither panic nor hold much memory,
// and what they accept means the same to archive/tar, and to Walk when it is
// written anew. Compressed streams are left out: they are their tools' affair.
func FuzzWalk(f *testing.F) {
	for _, s := range walkSeeds(f) {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, repair bool) {
		if repair {
			in = repaired(in)
		}
		for _, d := range decompressors {
			if bytes.HasPrefix(in, []byte(d.magic)) {
				t.Skip()
			}
		}
		before := allocated()
		s, got, err := walkStream(bytes.NewReader(in))
		// The buffers, a member's headers as they grow, and a share for what
		// the test itself keeps.
		if n := allocated() - before; n > 48<<20+64*uint64(len(in)) {
			t.Errorf("%d bytes of memory for %d of stream", n, len(in))
		}
		if err != nil {
			if !printable(err.Error()) {
				t.Errorf("%q isn't for a log", err)
			}
			return
		}
		switch s.Kind {
		case Tar:
			checkTar(t, in, got)
		case Ours:
			checkOurs(t, in, s.Manifest, got)
		default:
			t.Errorf("%s was walked", s.Kind)
		}
		checkAgainstGo(t, in)
	})
}

func walkSeeds(t testing.TB) []string {
	seeds := []string{
		tarOf(t, file("./hello", "hello\n")),
		tarOf(t, file("./"+strings.Repeat("x", 120), "x")),
		stream(t, filesManifest(), []block{sectors(0, 1)}, tarOf(t, file("./hello", "hello\n"))),
		stream(t, blocksManifest(), []block{sectors(0, 1), sectors(4096, 2)}, ""),
		stream(t, blocksManifest(), []block{sectors(4096, 1)}, "", someZeros...),
		stream(t, swapManifest(), nil, ""),
		extended('L', "./a/long/name\x00") + extended('K', "a/link\x00") + rawHeader("./x", '2', 0, nil) + tarEnd,
		extended('x', record("size", "512")+record("path", "./x")) + rawHeader("./y", '0', 0, nil) + sectors(0, 1).data + tarEnd,
		extended('g', record("comment", "c")) + plainMember + tarEnd,
		rawHeader("./x", 'S', 512, put(482, "\x01")) + strings.Repeat("\x00", 512) + sectors(0, 1).data + tarEnd,
		rawHeader("./x", '0', 0, base256(0x80000000, 6)) + plainMember[512:] + tarEnd,
		rawHeader("x", '0', 0, put(atPrefix, "./prefix")) + tarEnd,
		dumpHead(binary.LittleEndian, 60012),
		at(510, "\x55\xaa", 512),
		"",
	}
	for name, c := range hostileMembers() {
		if len(c.members) < 8<<10 && !strings.Contains(name, "checksum") {
			seeds = append(seeds, plainMember+c.members+tarEnd)
		}
	}
	for _, c := range misplaced(t) {
		if len(c.stream) < 8<<10 {
			seeds = append(seeds, c.stream)
		}
	}
	whole := stream(t, blocksManifest(), []block{sectors(0, 2)}, "")
	return append(seeds, whole+"x", whole+strings.Repeat("\x00", 600), whole[:len(whole)-600], whole[:len(whole)-2000], whole[:3000], plainMember, plainMember[:514])
}

// allocated is how many bytes the process has ever allocated.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// repaired gives the headers of a tar right checksums, and a digest of ours its
// right value: chance finds neither.
func repaired(in []byte) []byte {
	b := bytes.Clone(in)
	paxSize := int64(-1)
	for at := 0; at+recordBytes <= len(b); {
		h := b[at : at+recordBytes]
		begin := at
		at += recordBytes
		if bytes.Equal(h, zeroRecord[:]) {
			continue
		}
		copy(h[atChecksum:], fmt.Sprintf("%06o\x00 ", checksum(h)))
		size, err := number(h[atSize : atSize+12])
		if err != nil || size < 0 || size > int64(len(b)) {
			return b
		}
		data := b[at:min(len(b), at+int(size))]
		switch p := (paxRecords{size: -1}); h[atType] {
		case 'x':
			if p.parse(data) == nil && p.size <= int64(len(b)) {
				paxSize = p.size
			}
		case 'L', 'K', 'g':
		default:
			if paxSize >= 0 {
				size, paxSize = paxSize, -1
			}
		}
		if text(h[:100]) == digestName && len(data) == digestBytes {
			copy(data, fmt.Sprintf("%x\n", sha256.Sum256(b[:begin])))
		}
		at += int(padded(size))
	}
	return b
}

// checkTar: a plain tar comes back as it was, but for the zeros behind its end.
func checkTar(t *testing.T, in []byte, got *found) {
	files := got.files.Bytes()
	if !bytes.HasPrefix(in, files) || len(bytes.Trim(in[len(files):], "\x00")) > 0 || len(got.blocks) > 0 {
		t.Errorf("%d bytes and %d blocks came back of %d", len(files), len(got.blocks), len(in))
	}
	var out bytes.Buffer
	w, err := NewWriter(&out, filesManifest())
	must(t, err)
	if err := w.Tree(bytes.NewReader(in)); err != nil {
		t.Errorf("it is no tree to be written: %v", err)
	}
}

// checkOurs: what a stream of ours holds is so much and no more; written anew, it
// is read as the same, and written again it has the same bytes.
func checkOurs(t *testing.T, in []byte, m Manifest, got *found) {
	n := got.files.Len()
	for _, b := range got.blocks {
		n += len(b.data)
		if b.offset < 0 || b.offset%512 != 0 || b.offset+int64(len(b.data)) > m.Disk.SizeBytes {
			t.Errorf("a block of %d bytes at %d of %d", len(b.data), b.offset, m.Disk.SizeBytes)
		}
	}
	for _, z := range got.zeros {
		if z.offset < 0 || z.n <= 0 || z.offset%512 != 0 || z.n%512 != 0 || z.offset > m.Disk.SizeBytes-z.n {
			t.Errorf("%d zeros at %d of %d", z.n, z.offset, m.Disk.SizeBytes)
		}
	}
	if n > len(in) {
		t.Errorf("%d bytes came of %d", n, len(in))
	}
	if _, err := m.Encode(); err != nil {
		return // longer than what it was read from
	}
	again := stream(t, m, got.blocks, got.files.String(), got.zeros...)
	m2, got2, err := walkStream(strings.NewReader(again))
	if err != nil {
		t.Fatalf("written anew: %v", err)
	}
	if !slices.Equal(got2.blocks, got.blocks) || !slices.Equal(got2.zeros, got.zeros) || !reflect.DeepEqual(manifestText(t, m2.Manifest), manifestText(t, m)) || got2.files.Len() != got.files.Len() {
		t.Errorf("written anew it is %d blocks, %d bytes of files, not %d, %d", len(got2.blocks), got2.files.Len(), len(got.blocks), got.files.Len())
	}
	if third := stream(t, m2.Manifest, got2.blocks, got2.files.String(), got2.zeros...); third != again {
		t.Errorf("written again it is another stream: %d bytes, not %d", len(third), len(again))
	}
}

func manifestText(t testing.TB, m Manifest) string {
	t.Helper()
	b, err := m.Encode()
	must(t, err)
	return string(b)
}

// checkAgainstGo: where all members are such as have one meaning, and archive/tar
// reads them, both see the same names, types and bytes.
func checkAgainstGo(t *testing.T, in []byte) {
	ours, ok := commonMembers(in)
	if !ok {
		return
	}
	theirs, err := readTar(bytes.NewReader(in))
	if err != nil {
		return // it checks fields that GNU tar and we don't look at
	}
	if len(theirs) != len(ours) {
		t.Fatalf("archive/tar sees %d members, not %d", len(theirs), len(ours))
	}
	for i, e := range theirs {
		if o := ours[i]; e.head.Name != o.head.Name || e.data != o.data || e.head.Typeflag != o.head.Typeflag {
			t.Errorf("member %d: archive/tar sees %q, %c, with %d bytes, not %q, %c, with %d", i, e.head.Name, e.head.Typeflag, len(e.data), o.head.Name, o.head.Typeflag, len(o.data))
		}
	}
}

// commonMembers lists the members of a tar that is nothing but POSIX: there are
// no sparse files, no headers of GNU's or star's, no empty names and no old types.
func commonMembers(in []byte) (entries []entry, ok bool) {
	for t := newWalker(bytes.NewReader(in)); ; {
		m, err := t.next()
		if errors.Is(err, io.EOF) {
			return entries, true
		}
		if err != nil || m.name == "" || m.kind < '0' || m.kind > '6' || bytes.Contains(m.raw, []byte("GNU.sparse")) {
			return nil, false
		}
		for h := m.raw; len(h) > 0; {
			size, _ := number(h[atSize : atSize+12])
			if string(h[atMagic:atMagic+8]) != "ustar\x0000" || string(h[508:512]) == "tar\x00" || strings.IndexByte("LKg", h[atType]) >= 0 {
				return nil, false
			}
			if h = h[recordBytes:]; len(h) > 0 {
				h = h[padded(size):]
			}
		}
		data, err := io.ReadAll(t.data(m))
		if err != nil {
			return nil, false
		}
		e := file(m.name, string(data))
		e.head.Typeflag = m.kind
		entries = append(entries, e)
	}
}

// FuzzManifest: ParseManifest doesn't panic, and refuses in a line of text; what
// it accepts is the same after Encode, and keeps to what an import relies on.
func FuzzManifest(f *testing.F) {
	for _, m := range manifests() {
		f.Add([]byte(manifestText(f, m)))
	}
	gpt := filesManifest()
	gpt.Disk.Style, gpt.Disk.ID = "gpt", someUUID
	gpt.Disk.Partitions[0].Type, gpt.Disk.Partitions[0].UUID, gpt.Disk.Partitions[0].Name = someUUID, someUUID, "röot"
	f.Add([]byte(manifestText(f, gpt)))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := ParseManifest(in)
		if err != nil {
			if !printable(err.Error()) || !reflect.DeepEqual(m, Manifest{}) {
				t.Errorf("%q with %+v", err, m)
			}
			return
		}
		checkManifest(t, m)
		b, err := m.Encode()
		if err != nil {
			if !strings.Contains(err.Error(), "more than 65536") {
				t.Errorf("it can't be written: %v", err)
			}
			return // indented, or with its "<" escaped, it is longer than it was
		}
		again, err := ParseManifest(b)
		if err != nil {
			t.Fatalf("written anew: %v\n%s", err, b)
		}
		if !reflect.DeepEqual(withoutEmpty(again), withoutEmpty(m)) {
			t.Errorf("%+v became\n%+v", m, again)
		}
		if n, err := ManifestBytes(m); err != nil || n != recordBytes+padded(int64(len(b))) {
			t.Errorf("%v: %d bytes said, it has %d", err, n, len(b))
		}
	})
}

// withoutEmpty makes no difference between no list and an empty one.
func withoutEmpty(m Manifest) Manifest {
	if len(m.Siblings) == 0 {
		m.Siblings = nil
	}
	if len(m.Disk.Partitions) == 0 {
		m.Disk.Partitions = nil
	}
	return m
}

func checkManifest(t *testing.T, m Manifest) {
	texts := []string{m.Tool, m.Content, m.Role, m.Holes, m.BootLoader, m.Disk.Style, m.Disk.ID}
	arguments := []string{m.Disk.ID}
	for _, p := range m.Disk.Partitions {
		arguments = append(arguments, p.Name, p.Type, p.UUID)
		if end := p.StartSector + p.Sectors; p.StartSector <= 0 || p.Sectors <= 0 || end < 0 || end > m.Disk.SizeBytes/512 {
			t.Errorf("partition %+v on a disk of %d bytes", p, m.Disk.SizeBytes)
		}
	}
	if fs := m.Filesystem; fs != nil {
		arguments = append(arguments, fs.Type, fs.UUID, fs.Label)
		texts = append(texts, fs.Suite)
		if min(fs.SizeBytes, fs.UsedBytes, fs.Inodes) < 0 || max(fs.SizeBytes, fs.UsedBytes, fs.Inodes) > 1<<60 {
			t.Errorf("sizes of %+v", fs)
		}
		if len(m.Disk.Partitions) > 0 && !m.Disk.has(fs.Partition) {
			t.Errorf("it is on partition %d", fs.Partition)
		}
	}
	for _, s := range m.Siblings {
		arguments = append(arguments, s.Label)
		texts = append(texts, s.Type, s.UUID)
	}
	for _, s := range append(texts, arguments...) {
		if !printable(s) || len(s) > 256 {
			t.Errorf("%q in it", s)
		}
	}
	for _, s := range arguments {
		if strings.HasPrefix(s, "-") {
			t.Errorf("%q looks like an option", s)
		}
	}
	if m.Format < 1 || m.Format > FormatNumber || len(m.Disk.Partitions) > maxParts || len(m.Siblings) > maxSiblings || (m.Content != "blocks" && m.Filesystem == nil) {
		t.Errorf("it is accepted: %+v", m)
	}
}
