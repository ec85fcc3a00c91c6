package partition

import (
	"bytes"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"instance-debootstrap/pkg/tell"
)

const (
	mibBytes = int64(1 << 20)
	tib      = int64(1 << 40)
)

// counting is a source of randomness that gives 1, 2, 3, …
type counting struct{ n byte }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		c.n++
		p[i] = c.n
	}
	return len(p), nil
}

// memDisk is a disk that keeps its two ends only; the rest reads as zero.
type memDisk struct {
	size   int64
	blocks map[int64][]byte
	synced bool
}

func newMemDisk(size int64) *memDisk { return &memDisk{size: size, blocks: map[int64][]byte{}} }

func (d *memDisk) each(n int, offset int64, f func(block []byte, at int)) {
	for i := 0; i < n; {
		at := offset + int64(i)
		b := d.blocks[at/512]
		if b == nil {
			b = make([]byte, 512)
			d.blocks[at/512] = b
		}
		b = b[at%512:]
		f(b, i)
		i += len(b)
	}
}

func (d *memDisk) ReadAt(p []byte, offset int64) (int, error) {
	if offset+int64(len(p)) > d.size {
		return 0, io.EOF
	}
	d.each(len(p), offset, func(b []byte, i int) { copy(p[i:], b) })
	return len(p), nil
}

func (d *memDisk) WriteAt(p []byte, offset int64) (int, error) {
	d.synced = false
	d.each(len(p), offset, func(b []byte, i int) { copy(b, p[i:]) })
	return len(p), nil
}

func (d *memDisk) Sync() error { d.synced = true; return nil }

func TestPlanGivesTheWholeDiskToOneRootPartition(t *testing.T) {
	for _, c := range []struct {
		name            string
		style           Style
		size, alignment int64
		want            Layout
	}{
		{"none", StyleNone, 511 * mibBytes, 2048, Layout{Style: StyleNone, SizeBytes: 511 * mibBytes}},
		{"msdos", StyleMSDOS, 2048 * mibBytes, 2048, Layout{
			Style: StyleMSDOS, SizeBytes: 2048 * mibBytes, DiskID: "04030201",
			Partitions: []Partition{{Number: 1, StartSector: 2048, Sectors: 4192256, Type: "83", UUID: "04030201-01", Bootable: true}},
		}},
		{"gpt", StyleGPT, 2048 * mibBytes, 2048, Layout{
			Style: StyleGPT, SizeBytes: 2048 * mibBytes, DiskID: "01020304-0506-4708-890a-0b0c0d0e0f10",
			Partitions: []Partition{{Number: 1, StartSector: 2048, Sectors: 4190208, Type: typeLinuxFilesystem, Name: "root", UUID: "11121314-1516-4718-991a-1b1c1d1e1f20"}},
		}},
		{"msdos of an odd size ends at a whole MiB", StyleMSDOS, 511*mibBytes + 5*512 + 7, 2048, Layout{
			Style: StyleMSDOS, SizeBytes: 511*mibBytes + 5*512 + 7, DiskID: "04030201",
			Partitions: []Partition{{Number: 1, StartSector: 2048, Sectors: 1044480, Type: "83", UUID: "04030201-01", Bootable: true}},
		}},
		{"gpt starts behind its table", StyleGPT, 511 * mibBytes, 1, Layout{
			Style: StyleGPT, SizeBytes: 511 * mibBytes, DiskID: "01020304-0506-4708-890a-0b0c0d0e0f10",
			Partitions: []Partition{{Number: 1, StartSector: 34, Sectors: 1046456, Type: typeLinuxFilesystem, Name: "root", UUID: "11121314-1516-4718-991a-1b1c1d1e1f20"}},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Plan(c.style, c.size, c.alignment, &counting{})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestRootIsTheFirstPartitionOrTheWholeDisk(t *testing.T) {
	for style, want := range map[Style][2]int64{
		StyleNone: {0, 1046528}, StyleMSDOS: {2048, 1044480}, StyleGPT: {2048, 1042432},
	} {
		l, err := Plan(style, 511*mibBytes, 2048, &counting{})
		if err != nil {
			t.Fatal(err)
		}
		if start, sectors := l.Root(); start != want[0] || sectors != want[1] {
			t.Errorf("%s: root at %d, %d sectors; want %v", style, start, sectors, want)
		}
	}
}

func TestPlanRefusesAndNamesTheRemedy(t *testing.T) {
	for _, c := range []struct {
		name            string
		style           Style
		size, alignment int64
		want            []string
	}{
		{"too small", StyleNone, 511*mibBytes - 1, 2048, []string{"device size is too small", "511.00 MiB", "at least 511 MiB"}},
		{"small number", StyleMSDOS, 100 * mibBytes, 2048, []string{"the disk has 100 MiB"}},
		{"msdos above 2 TiB", StyleMSDOS, 2*tib + 512, 2048, []string{"2097152 MiB", "use PARTITION_STYLE=gpt"}},
		{"msdos of 3 TiB", StyleMSDOS, 3 * tib, 2048, []string{"the disk has 3145728 MiB", "gpt"}},
		{"alignment beyond the disk", StyleMSDOS, 1024 * mibBytes, 4096 * 1024, []string{"alignment of 4194304 sectors (2048 MiB)", "leaves 0 MiB", "1024 MiB", "PARTITION_ALIGNMENT"}},
		{"alignment that leaves next to nothing", StyleGPT, 1024 * mibBytes, 2048 * 1023, []string{"leaves 0 MiB"}},
		{"huge alignment", StyleGPT, 1024 * mibBytes, 1 << 62, []string{"partition alignment 4611686018427387904"}},
		{"no alignment", StyleGPT, 1024 * mibBytes, 0, []string{"partition alignment 0"}},
		{"all faults at once", Style("bsd"), 1, -1, []string{`"bsd"`, "none, msdos or gpt", "device size is too small", "partition alignment -1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Plan(c.style, c.size, c.alignment, &counting{})
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q doesn't say %q", err, want)
				}
			}
		})
	}
}

func TestDiskIDIsNeverZero(t *testing.T) {
	l, err := Plan(StyleMSDOS, 511*mibBytes, 2048, io.MultiReader(bytes.NewReader(make([]byte, 8)), &counting{}))
	if err != nil || l.DiskID != "04030201" {
		t.Errorf("disk id %q, %v; want the first that isn't 0", l.DiskID, err)
	}
	if _, err := Plan(StyleMSDOS, 511*mibBytes, 2048, bytes.NewReader(make([]byte, 1<<10))); err == nil {
		t.Error("a source of zeros was taken for randomness")
	}
}

func TestAPlanNeedsRandomness(t *testing.T) {
	for _, style := range []Style{StyleMSDOS, StyleGPT} {
		for _, n := range []int{3, 15, 20} {
			if style == StyleMSDOS && n > 3 {
				continue
			}
			if _, err := Plan(style, 511*mibBytes, 2048, bytes.NewReader(make([]byte, n))); err == nil {
				t.Errorf("%s: %d random bytes were enough", style, n)
			}
		}
	}
}

// The entries' bytes are those that sfdisk 2.38 writes for the same partitions.
func TestMSDOSEntriesAreWhatSfdiskWrites(t *testing.T) {
	for size, want := range map[int64]string{
		511 * mibBytes:  "8020210083242341" + "0008000000f00f00",
		1024 * mibBytes: "80202100838a0882" + "0008000000f81f00",
		2048 * mibBytes: "8020210083155005" + "0008000000f83f00",
		9216 * mibBytes: "8020210083feffff" + "0008000000f81f01",
		tib:             "8020210083feffff" + "0008000000f8ff7f",
	} {
		d := writeTo(t, newMemDisk(size), StyleMSDOS, 2048)
		want = "01020304" + "0000" + want + strings.Repeat("00", 48) + "55aa"
		if got := hex.EncodeToString(d.read(t, mbrDiskID, 72)); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", tell.MiB(size), got, want)
		}
		if !d.synced {
			t.Error("not synced")
		}
	}
}

func TestProtectiveMBRIsWhatTheUEFISpecificationSays(t *testing.T) {
	for size, want := range map[int64]string{
		511 * mibBytes: "fff70f00",
		2 * tib:        "ffffffff",
		3 * tib:        "ffffffff",
	} {
		d := writeTo(t, newMemDisk(size), StyleGPT, 2048)
		want = strings.Repeat("00", 6) + "00000200" + "eeffffff" + "01000000" + want + strings.Repeat("00", 48) + "55aa"
		if got := hex.EncodeToString(d.read(t, mbrDiskID, 72)); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", tell.MiB(size), got, want)
		}
	}
}

func TestReadGivesBackWhatWriteWrote(t *testing.T) {
	for _, style := range []Style{StyleNone, StyleMSDOS, StyleGPT} {
		for _, size := range []int64{511 * mibBytes, 511*mibBytes + 3*512 + 100, 2*tib - 512, 2 * tib} {
			l, err := Plan(style, size, 2048, &counting{})
			if err != nil {
				t.Fatal(err)
			}
			d := newMemDisk(size)
			if err := l.Write(d); err != nil {
				t.Fatal(err)
			}
			got, err := Read(d, size)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(l, got); diff != "" {
				t.Errorf("%s of %d: %s", style, size, diff)
			}
		}
	}
}

func TestWriteLeavesBootCodeAloneAndErasesAnotherStylesTable(t *testing.T) {
	const size = 511 * mibBytes
	d := newMemDisk(size)
	for _, at := range []int64{4096, size - 4096} { // a table made on 4096-byte sectors
		d.WriteAt(append([]byte("EFI PART"), make([]byte, 84)...), at)
	}
	writeTo(t, d, StyleGPT, 2048)
	d.WriteAt(bytes.Repeat([]byte{0x90}, 440), 0)
	writeTo(t, d, StyleMSDOS, 2048)
	if got := d.read(t, 0, 440); !bytes.Equal(got, bytes.Repeat([]byte{0x90}, 440)) {
		t.Error("the boot code was changed")
	}
	for at := int64(0); at < 64*512; at += 512 {
		for _, offset := range []int64{at, size - 512 - at} {
			if bytes.HasPrefix(d.read(t, offset, 512), gptMagic) {
				t.Errorf("a GPT header is left at %d", offset)
			}
		}
	}
	if l, err := Read(d, size); err != nil || l.Style != StyleMSDOS {
		t.Errorf("read back %s, %v", l.Style, err)
	}
	writeTo(t, d, StyleGPT, 2048)
	if l, err := Read(d, size); err != nil || l.Style != StyleGPT {
		t.Errorf("read back %s, %v", l.Style, err)
	}
}

func TestWriteRefusesALayoutThatDoesNotFit(t *testing.T) {
	const size = 511 * mibBytes
	for name, change := range map[string]func(*Layout){
		"zero disk id":     func(l *Layout) { l.DiskID = "00000000" },
		"no disk id":       func(l *Layout) { l.DiskID = "" },
		"start 0":          func(l *Layout) { l.Partitions[0].StartSector = 0 },
		"no sectors":       func(l *Layout) { l.Partitions[0].Sectors = 0 },
		"beyond the table": func(l *Layout) { l.Partitions[0].Sectors = 1 << 33 },
		"bad type":         func(l *Layout) { l.Partitions[0].Type = "linux" },
		"number 5":         func(l *Layout) { l.Partitions[0].Number = 500 },
		"bad style":        func(l *Layout) { l.Style = "bsd" },
		"tiny disk":        func(l *Layout) { l.SizeBytes = 20480 },
	} {
		for _, style := range []Style{StyleMSDOS, StyleGPT} {
			l, err := Plan(style, size, 2048, &counting{})
			if err != nil {
				t.Fatal(err)
			}
			change(&l)
			if style == StyleGPT && l.DiskID == "" {
				continue // the codec would make one up; Plan always sets it
			}
			d := newMemDisk(size)
			if err := l.Write(d); err == nil {
				t.Errorf("%s, %s: accepted", style, name)
			}
			if got := d.read(t, 440, 72); !bytes.Equal(got, make([]byte, 72)) {
				t.Errorf("%s, %s: wrote before refusing", style, name)
			}
		}
	}
}

func TestReadOfAHostileTableEndsInAnError(t *testing.T) {
	const size = 511 * mibBytes
	for name, change := range map[string]func(d *memDisk){
		"entries of no size": func(d *memDisk) { d.WriteAt([]byte{128, 0, 0, 0, 0, 0, 0, 0}, 512+80) },
		"2^32 entries":       func(d *memDisk) { d.WriteAt([]byte{255, 255, 255, 255}, 512+80) },
		"both headers gone":  func(d *memDisk) { d.WriteAt(make([]byte, 512), 512); d.WriteAt(make([]byte, 512), size-512) },
		"entries changed, both": func(d *memDisk) {
			d.WriteAt([]byte{1}, 1024)
			d.WriteAt([]byte{1}, size-33*512)
		},
	} {
		d := writeTo(t, newMemDisk(size), StyleGPT, 2048)
		change(d)
		if l, err := Read(d, size); err == nil {
			t.Errorf("%s: read %+v", name, l)
		}
	}
	d := writeTo(t, newMemDisk(size), StyleMSDOS, 2048)
	d.WriteAt([]byte{255, 255, 255, 255}, mbrEntries+12)
	if _, err := Read(d, size); err == nil || !strings.Contains(err.Error(), "isn't on the disk") {
		t.Errorf("a partition beyond the disk: %v", err)
	}
}

func TestReadRecoversFromTheBackupTable(t *testing.T) {
	const size = 511 * mibBytes
	d := writeTo(t, newMemDisk(size), StyleGPT, 2048)
	d.WriteAt([]byte{1}, 512+16)
	l, err := Read(d, size)
	if err != nil || len(l.Partitions) != 1 || l.Partitions[0].StartSector != 2048 {
		t.Errorf("%+v, %v", l, err)
	}
}

func writeTo(t *testing.T, d *memDisk, style Style, alignment int64) *memDisk {
	t.Helper()
	l, err := Plan(style, d.size, alignment, &counting{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Write(d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *memDisk) read(t *testing.T, offset int64, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := d.ReadAt(b, offset); err != nil {
		t.Fatal(err)
	}
	return b
}
