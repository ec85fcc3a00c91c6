package partition

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"
)

// grown writes a layout for a disk, and returns the disk enlarged, with nothing of
// the table changed.
func grown(t *testing.T, style Style, fromBytes, toBytes int64) *memDisk {
	t.Helper()
	d := writeTo(t, newMemDisk(fromBytes), style, 2048)
	d.size = toBytes
	return d
}

func TestGrowReachesTheEndAndNeverShrinks(t *testing.T) {
	const size = 600 * mibBytes
	for _, c := range []struct {
		style       Style
		toBytes     int64
		wantSectors int64
	}{
		{StyleMSDOS, size, 599 * mibSectors},
		{StyleMSDOS, 2 * size, 1199 * mibSectors},
		{StyleMSDOS, size + 512, 599 * mibSectors},
		{StyleMSDOS, 2 << 40, 2<<40/512 - mibSectors},
		{StyleGPT, size, 598 * mibSectors},
		{StyleGPT, 2 * size, 1198 * mibSectors},
		{StyleGPT, size + 512, 598 * mibSectors},
		{StyleGPT, 3 << 40, 3<<40/512 - 2*mibSectors},
	} {
		d := grown(t, c.style, size, c.toBytes)
		l, err := Read(d, c.toBytes)
		if err != nil {
			t.Fatal(err)
		}
		bigger, err := l.Grow()
		if err != nil {
			t.Fatal(err)
		}
		if start, sectors := bigger.Root(); start != 2048 || sectors != c.wantSectors {
			t.Errorf("%s, %d bytes: the root is %d sectors from %d, not %d", c.style, c.toBytes, sectors, start, c.wantSectors)
		}
		right, err := bigger.IsOn(d)
		if err != nil || right != (c.toBytes == size || c.style == StyleMSDOS && c.wantSectors == 599*mibSectors) {
			t.Errorf("%s, %d bytes: the table is right: %v, %v", c.style, c.toBytes, right, err)
		}
		if err := bigger.Write(d); err != nil {
			t.Fatal(err)
		}
		again, err := Read(d, c.toBytes)
		if err != nil {
			t.Fatal(err)
		}
		if right, err := again.IsOn(d); err != nil || !right {
			t.Errorf("%s, %d bytes: written, and not right: %v", c.style, c.toBytes, err)
		}
	}
}

// TestGrowKeepsAPartitionThatEndsLater than we would have it: sfdisk and others
// use the last sectors too.
func TestGrowKeepsAPartitionThatEndsLater(t *testing.T) {
	const size = 600 * mibBytes
	for _, style := range []Style{StyleMSDOS, StyleGPT} {
		l, err := Plan(style, size, 2048, &counting{})
		if err != nil {
			t.Fatal(err)
		}
		end := int64(size / SectorSize)
		if style == StyleGPT {
			end -= gptSectors
		}
		l.Partitions[0].Sectors = end - 2048
		l.SizeBytes += 20 * SectorSize
		bigger, err := l.Grow()
		if _, sectors := bigger.Root(); err != nil || sectors != end-2048 {
			t.Errorf("%s: %d sectors became %d, %v", style, end-2048, sectors, err)
		}
	}
}

func TestGrowRefusesMSDOSAboveTwoTiB(t *testing.T) {
	const size = 2<<40 + mibBytes
	l, err := Read(grown(t, StyleMSDOS, 600*mibBytes, size), size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Grow(); err == nil || !strings.Contains(err.Error(), "gpt") {
		t.Errorf("%v", err)
	}
}

// TestGPTIsReadableWhereverItsWriteEnds cuts the write of a grown table off after
// every block: what is read then is the old table or the new, and the write can be
// repeated.
func TestGPTIsReadableWhereverItsWriteEnds(t *testing.T) {
	const from, to = 600 * mibBytes, 900 * mibBytes
	seen := map[int64]int{}
	for blocks := 0; ; blocks++ {
		d := grown(t, StyleGPT, from, to)
		l, err := Read(d, to)
		if err != nil {
			t.Fatal(err)
		}
		bigger, err := l.Grow()
		if err != nil {
			t.Fatal(err)
		}
		cut := &cutDisk{memDisk: d, blocks: blocks}
		werr := bigger.Write(cut)
		now, err := Read(d, to)
		if err != nil {
			t.Fatalf("after %d blocks: %v", blocks, err)
		}
		_, sectors := now.Root()
		seen[sectors/mibSectors]++
		if again, err := now.Grow(); err != nil || again.Write(d) != nil {
			t.Errorf("after %d blocks: %v", blocks, err)
		} else if right, err := bigger.IsOn(d); err != nil || !right {
			t.Errorf("after %d blocks, and written again, the table isn't right: %v", blocks, err)
		}
		if werr == nil {
			break
		}
	}
	if len(seen) != 2 || seen[598] == 0 || seen[898] == 0 {
		t.Errorf("the sizes read are %v", seen)
	}
}

// cutDisk takes so many blocks, and then fails.
type cutDisk struct {
	*memDisk
	blocks int
}

func (d *cutDisk) WriteAt(p []byte, offset int64) (int, error) {
	for n := 0; n < len(p); n += blockBytes {
		if d.blocks == 0 {
			return n, errors.New("cut off")
		}
		d.blocks--
		if _, err := d.memDisk.WriteAt(p[n:min(len(p), n+blockBytes)], offset+int64(n)); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

// FuzzGrow grows what a guest may have made of its table: without a panic, never
// making a partition smaller or moving it, and to a table that reads as it was meant.
func FuzzGrow(f *testing.F) {
	f.Add(false, uint32(900), []byte{1, 190, 0xff})
	f.Add(true, uint32(900), []byte{4, 8, 0xff})
	f.Add(true, uint32(599), []byte{})
	f.Fuzz(func(t *testing.T, isGPT bool, toMiB uint32, changes []byte) {
		style := StyleMSDOS
		if isGPT {
			style = StyleGPT
		}
		d := writeTo(t, newMemDisk(600*mibBytes), style, 2048)
		for ; len(changes) >= 3; changes = changes[3:] { // of the first 4 KiB
			d.WriteAt(changes[2:3], int64(changes[0])%16*256+int64(changes[1]))
		}
		if isGPT {
			sealGPT(d)
		}
		d.size = max(1, int64(toMiB)) * mibBytes
		l, err := Read(d, d.size)
		if err != nil {
			return
		}
		bigger, err := l.Grow()
		if err != nil || bigger.Style == StyleNone || bigger.Write(d) != nil {
			return
		}
		again, err := Read(d, d.size)
		if err != nil {
			t.Fatalf("%+v, written: %v", bigger, err)
		}
		if right, err := again.IsOn(d); err != nil || !right {
			t.Errorf("the written table is not %+v: %v", again, err)
		}
		for i, p := range l.Partitions {
			if q := again.Partitions[i]; q.StartSector != p.StartSector || q.Sectors < p.Sectors || q.Type != p.Type || q.Attributes != p.Attributes {
				t.Errorf("%+v became %+v", p, q)
			}
		}
	})
}

// sealGPT makes the checksums of a changed gpt right, so that it is read.
func sealGPT(d *memDisk) {
	head := make([]byte, 34*512)
	d.ReadAt(head, 0)
	header := head[512:]
	binary.LittleEndian.PutUint32(header[88:], crc32.ChecksumIEEE(head[1024:]))
	binary.LittleEndian.PutUint32(header[16:], 0)
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header[:92]))
	d.WriteAt(head, 0)
}
