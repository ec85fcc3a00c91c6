package transport

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"strings"
	"testing"
)

// look feeds a dump in pieces of this many bytes.
func look(b []byte, piece int) (*DumpNames, error) { return lookBy(&DumpNames{}, b, piece) }

func lookBy(d *DumpNames, b []byte, piece int) (*DumpNames, error) {
	for len(b) > 0 {
		n := min(piece, len(b))
		if _, err := d.Write(b[:n]); err != nil {
			return d, err
		}
		b = b[n:]
	}
	return d, nil
}

// smallDump is what dump(8) 0.4b47 wrote of an ext2 of 512 KiB with 5 folders, hard
// and symbolic links and attributes.
func smallDump(t testing.TB) []byte {
	t.Helper()
	return unzipped(t, "testdata/dump.gz")
}

func unzipped(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	r, err := gzip.NewReader(f)
	must(t, err)
	b, err := io.ReadAll(r)
	must(t, err)
	return b
}

// TestADumpOfDebian13HasRuns: testdata/dump49.gz is what dump 0.4b49 wrote of an ext4 with holes
// of many lengths.
func TestADumpOfDebian13HasRuns(t *testing.T) {
	b := unzipped(t, "testdata/dump49.gz")
	if d, err := lookBy(&DumpNames{Runs: true}, b, 4096); err != nil || !d.Complete() {
		t.Errorf("complete: %v, %v", d.Complete(), err)
	}
	if _, err := look(b, 4096); err == nil || !strings.Contains(err.Error(), "newer dump") {
		t.Errorf("by an older restore: %v", err)
	}
	if d, err := lookBy(&DumpNames{Runs: true}, smallDump(t), 4096); err != nil || !d.Complete() {
		t.Errorf("one without: complete: %v, %v", d.Complete(), err)
	}
	for _, c := range []struct {
		addr []byte
		want int64
	}{
		{[]byte{1, 0, 1}, 2}, {[]byte{7}, 4}, {[]byte{159, 30}, 2000}, {[]byte{131, 1}, 130}, {[]byte{127}, 64},
		{[]byte{1, 254, 254, 228, 0, 1}, 2}, {[]byte{9, 132, 2, 5, 136, 2, 1, 196, 0}, 9}, {[]byte{7, 0x81}, -1},
	} {
		n, err := (&DumpNames{Runs: true}).dataRecords(c.addr)
		if c.want < 0 && err == nil || c.want >= 0 && (err != nil || n != c.want) {
			t.Errorf("%v: %d records, %v; want %d", c.addr, n, err, c.want)
		}
	}
}

// resum has the words of a header add up again, so that what is patched in it is
// read.
func resum(header []byte) {
	const atDumpChecksum = 28
	sum := uint32(dumpSum)
	for at := 0; at < len(header); at += 4 {
		if at != atDumpChecksum {
			sum -= binary.LittleEndian.Uint32(header[at:])
		}
	}
	binary.LittleEndian.PutUint32(header[atDumpChecksum:], sum)
}

// FuzzDumpNames feeds a stream at once and in pieces. Where at is in a header of the
// real dump, its words add up.
func FuzzDumpNames(f *testing.F) {
	real := smallDump(f)
	f.Add([]byte{}, -1, 100)
	f.Add([]byte{}, 0, 1024)
	f.Add([]byte("\x04\x02.."), bytes.Index(real, []byte("\x04\x04many")), 1000)
	f.Add([]byte{1, 0, 0, 0}, 3*dumpRecord+atDumpCount, 512)
	f.Fuzz(func(t *testing.T, b []byte, at, piece int) {
		if at >= 0 && len(real) > 0 { // a patch of the real one, and else a stream
			at %= len(real)
			patched := bytes.Clone(real)
			copy(patched[at:], b)
			start := at / dumpRecord * dumpRecord
			if header := patched[start : start+dumpRecord]; binary.LittleEndian.Uint32(header[atDumpMagic:]) == dumpMagic {
				resum(header)
			}
			b = patched
		}
		whole, werr := look(b, len(b)+1)
		parts, perr := look(b, 1+max(0, piece)%5000)
		if (werr == nil) != (perr == nil) || werr == nil && whole.Complete() != parts.Complete() {
			t.Errorf("%v and %v", werr, perr)
		}
		if at < 0 || werr != nil || len(b) != len(real) {
			return
		}
		if bytes.Equal(b, real) && !whole.Complete() {
			t.Error("the real dump isn't complete")
		}
	})
}
