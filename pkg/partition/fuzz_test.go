package partition

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
)

// FuzzRead: whatever stands at a disk's two ends, a table that is read is the one
// that is there, by a second reading of the same bytes, its partitions lie on the
// disk, and what is made of it (grown, fitted, renewed) lies there too. The copy of
// gpt's entries is that of the head.
func FuzzRead(f *testing.F) {
	for _, name := range realTables {
		head, last := realTable(f, name)
		f.Add(head, last, uint32(63), false)
		f.Add(head, last, uint32(63), true)
		f.Add(head, last, uint32(70), true)
	}
	f.Add([]byte{}, []byte{}, uint32(1), false)
	f.Fuzz(func(t *testing.T, head, last []byte, sizeMiB uint32, seal bool) {
		const headBytes = 34 * SectorSize
		size := (int64(sizeMiB)%(4<<20) + 1) << 20
		d := newMemDisk(size)
		head = append(head, make([]byte, headBytes)...)[:headBytes]
		d.WriteAt(head, 0)
		d.WriteAt(head[2*SectorSize:], size-gptSectors*SectorSize)
		d.WriteAt(last[:min(len(last), SectorSize)], size-SectorSize)
		if seal {
			sealGPT(d)
		}
		before := allocated()
		l, err := Read(d, size)
		if n := allocated() - before; n > 4<<20 {
			t.Errorf("%d bytes of memory for a table", n)
		}
		if err != nil {
			return
		}
		checkTable(t, d, l)
		checkDerived(t, l)
	})
}

// realTables are what sfdisk, sgdisk and mkfs.fat have written.
var realTables = []string{"sfdisk-msdos", "sfdisk-gpt", "sgdisk-hybrid", "fat"}

// realTable returns the head without the zeros at its end, and the last sector.
func realTable(t testing.TB, name string) (head, last []byte) {
	t.Helper()
	head, err := os.ReadFile(filepath.Join("testdata/real", name+".head"))
	if err != nil {
		t.Fatal(err)
	}
	last, _ = os.ReadFile(filepath.Join("testdata/real", name+".last")) // gpt has one
	return bytes.TrimRight(head, "\x00"), bytes.TrimRight(last, "\x00")
}

func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// checkTable reads the entries by their places in the formats: UEFI 2.10, 5.3, and
// the boot record's four.
func checkTable(t *testing.T, d *memDisk, l Layout) {
	t.Helper()
	sector0 := d.read(t, 0, 512)
	var want []Partition
	switch l.Style {
	case StyleNone:
		if len(l.Partitions) > 0 {
			t.Errorf("no table with partitions: %+v", l)
		}
		return
	case StyleMSDOS:
		for i := range 4 {
			e := sector0[446+16*i:]
			if e[4] != 0 {
				want = append(want, Partition{Number: i + 1, StartSector: int64(binary.LittleEndian.Uint32(e[8:])), Sectors: int64(binary.LittleEndian.Uint32(e[12:]))})
			}
		}
	case StyleGPT:
		header := d.read(t, 512, 512)
		at := int64(2)
		if !bytes.HasPrefix(header, gptMagic) { // the copy at the end is in use
			return
		}
		at = int64(binary.LittleEndian.Uint64(header[72:]))
		if at != 2 {
			return // the codec's affair
		}
		entries := d.read(t, at*512, 128*int(min(128, binary.LittleEndian.Uint32(header[80:]))))
		for i := 0; len(entries) > 0; i, entries = i+1, entries[128:] {
			if !bytes.Equal(entries[:16], make([]byte, 16)) {
				start, end := int64(binary.LittleEndian.Uint64(entries[32:])), int64(binary.LittleEndian.Uint64(entries[40:]))
				want = append(want, Partition{Number: i + 1, StartSector: start, Sectors: end - start + 1})
			}
		}
	}
	same := slices.EqualFunc(l.Partitions, want, func(a, b Partition) bool {
		return a.Number == b.Number && a.StartSector == b.StartSector && a.Sectors == b.Sectors
	})
	if !same {
		t.Errorf("the table has %+v, read are %+v", want, l.Partitions)
	}
}

// checkDerived looks at all that is made of a layout.
func checkDerived(t *testing.T, l Layout) {
	t.Helper()
	made := []Layout{l}
	if grown, err := l.Grow(); err == nil {
		made = append(made, grown)
	}
	for _, size := range []int64{l.SizeBytes / 2, l.SizeBytes * 2} {
		if fitted, err := l.Fit(size); err == nil {
			made = append(made, fitted)
		}
	}
	if renewed, err := l.Renew(&counting{}); err == nil {
		made = append(made, renewed)
	}
	for _, m := range made {
		for _, p := range m.Partitions {
			if p.StartSector < 1 || p.Sectors < 1 || p.StartSector+p.Sectors > m.SizeBytes/SectorSize {
				t.Errorf("partition %+v on a disk of %d bytes", p, m.SizeBytes)
			}
			if strings.ContainsAny(p.UUID+p.Type, "\x00\n ") {
				t.Errorf("ids of %+v", p)
			}
		}
		for _, r := range m.OutsideTable() {
			if r.Start < 0 || r.End > m.SizeBytes || r.Start > r.End {
				t.Errorf("%+v is outside the table, of a disk of %d bytes", r, m.SizeBytes)
			}
		}
	}
	if root, err := l.RootPartition(); err == nil && l.Style != StyleNone && !slices.Contains(l.Partitions, root) {
		t.Errorf("%+v is ours", root)
	}
}
