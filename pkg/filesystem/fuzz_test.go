package filesystem

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What these targets are given is what a tool printed of a filesystem that a guest
// has written, or that filesystem's superblock itself. The seeds are of e2fsprogs,
// xfsprogs, btrfs-progs and util-linux, of filesystems that they had just made.

func realText(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/real", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// bounded fails when work on an input takes more memory than a share of it.
func bounded(t *testing.T, n int, work func()) {
	t.Helper()
	before := allocated()
	work()
	if got := allocated() - before; got > 1<<20+256*uint64(n) {
		t.Errorf("%d bytes of memory for %d", got, n)
	}
}

// each hands over lines as used.read does.
func each(text []byte, line func(string) error) error {
	for l := range strings.Lines(string(text)) {
		if err := line(strings.TrimRight(l, "\n")); err != nil {
			return err
		}
	}
	return nil
}

const fuzzDevice = 64 << 20

// FuzzUsedBlocks: of whatever text, the parts in use and those that may be zeros lie
// on the device, in whole blocks, and the first are in order.
func FuzzUsedBlocks(f *testing.F) {
	for _, name := range []string{"dumpe2fs-ext2", "dumpe2fs-ext3", "dumpe2fs-ext4", "dumpe2fs-bigalloc"} {
		f.Add(realText(f, name))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		bounded(t, len(text), func() {
			var u used
			err := each(text, u.ext)
			if err == nil {
				err = u.end(fuzzDevice)
			}
			if err != nil {
				return
			}
			checkExtents(t, u.extents, u.blockSize)
			checkEmpty(t, &u)
		})
	})
}

// checkEmpty: what may be zeros lies in the filesystem, or all of it is refused.
func checkEmpty(t *testing.T, u *used) {
	t.Helper()
	extents, err := u.empty()
	for _, e := range extents {
		if err != nil || e.Offset < 0 || e.Bytes <= 0 || e.Offset > u.blocks*u.blockSize-e.Bytes {
			t.Errorf("%+v of %d blocks of %d bytes may be zeros: %v", e, u.blocks, u.blockSize, err)
		}
	}
}

// FuzzFreeSpaceOfXFS does so with xfs_db's list.
func FuzzFreeSpaceOfXFS(f *testing.F) {
	f.Add(realText(f, "xfs_db-freesp"), int64(81920), int64(20480))
	f.Add([]byte("0 0 1\n1 0 1\n"), int64(3), int64(2))
	f.Fuzz(func(t *testing.T, text []byte, blocks, agBlocks int64) {
		if agBlocks <= 0 || agBlocks > 1<<32-1 {
			return // a superblock's 32 bits, and none is refused
		}
		u := used{blockSize: 4096, blocks: blocks, agBlocks: agBlocks}
		if each(text, u.xfs) != nil || u.end(1<<40) != nil {
			return
		}
		checkExtents(t, u.extents, u.blockSize)
		if n := len(u.extents); n > 0 && u.extents[n-1].Offset+u.extents[n-1].Bytes > blocks*4096 {
			t.Errorf("%+v of %d blocks", u.extents[n-1], blocks)
		}
	})
}

func checkExtents(t *testing.T, extents []Extent, blockSize int64) {
	t.Helper()
	next := int64(0)
	for _, e := range extents {
		if e.Offset < next || e.Bytes <= 0 || e.Offset%blockSize != 0 || e.Bytes%blockSize != 0 {
			t.Fatalf("%+v after byte %d, blocks of %d bytes", e, next, blockSize)
		}
		next = e.Offset + e.Bytes
	}
}

// FuzzImageBlocks: of whatever text, the parts that an image needs are in order
// and end where the filesystem does.
func FuzzImageBlocks(f *testing.F) {
	for _, name := range []string{"dumpe2fs-ext2", "dumpe2fs-ext3", "dumpe2fs-ext4", "dumpe2fs-bigalloc"} {
		f.Add(bytes.ReplaceAll(realText(f, name), []byte("Block size:               1024"), []byte("Block size:               4096")))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		bounded(t, len(text), func() {
			var g groups
			if each(text, g.line) != nil {
				return
			}
			needed, err := g.needed()
			if err != nil {
				return
			}
			checkExtents(t, needed, blockBytes)
			if n := len(needed); n > 0 && needed[n-1].Offset+needed[n-1].Bytes > g.used.blocks*blockBytes {
				t.Errorf("%+v of %d blocks", needed[n-1], g.used.blocks)
			}
		})
	})
}

// FuzzJournalBlocks: runs of blocks have no end before their beginning, and are no
// more than the text has.
func FuzzJournalBlocks(f *testing.F) {
	f.Add(realText(f, "debugfs-journal"))
	f.Add(realText(f, "debugfs-journal-ext3"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var m blockMap
		if err := each(text, m.line); err != nil {
			t.Fatal(err)
		}
		for _, s := range m.rest {
			if s.first < 0 || s.last < s.first {
				t.Errorf("blocks %d to %d", s.first, s.last)
			}
		}
		if len(m.rest) > bytes.Count(text, []byte("):")) {
			t.Errorf("%d runs of %q", len(m.rest), text)
		}
	})
}

// FuzzBlkid: what blkid says of a device is read as it was meant: a value that is
// escaped by its rule comes back.
func FuzzBlkid(f *testing.F) {
	f.Add(realText(f, "blkid-ext4"), "root")
	f.Add(realText(f, "blkid-gpt"), `a $b\c`)
	f.Fuzz(func(t *testing.T, text []byte, label string) {
		i, _ := parseExport(string(text))
		for _, value := range []string{i.Type, i.UUID, i.Label, i.PTType, i.Usage} {
			if strings.Contains(value, "\n") || len(value) > len(text) {
				t.Errorf("%q in %+v", value, i)
			}
		}
		if i.String() == "" {
			t.Error("it has no name")
		}
		if strings.ContainsAny(label, "\n\r") || strings.Contains(label, `\x`) {
			return // blkid gives these bytes as \xHH
		}
		escaped := strings.NewReplacer(`\`, `\\`, `$`, `\$`, "`", "\\`", `"`, `\"`, "'", `\'`, " ", `\ `).Replace(label)
		if got, err := parseExport("LABEL=" + escaped + "\nTYPE=ext4\n"); err != nil || got.Label != label || got.Type != "ext4" {
			t.Errorf("%q became %q", label, got.Label)
		}
	})
}

// FuzzClaim: what a superblock says of its size is within what a number can hold,
// what is used is no more than that, and ext's size is that of dumpe2fs's fields.
func FuzzClaim(f *testing.F) {
	for _, name := range []string{"super-ext2", "super-ext4", "super-xfs", "super-btrfs"} {
		f.Add(realText(f, name))
	}
	f.Fuzz(func(t *testing.T, super []byte) {
		for _, typ := range []Type{Ext2, Ext4, XFS, Btrfs} {
			at := map[Type]int64{Ext2: 1024, Ext4: 1024, Btrfs: 64 << 10}[typ]
			disk := append(make([]byte, 4096+at), super...)
			c, err := ReadClaim(bytes.NewReader(disk), 4096, typ)
			if err != nil {
				if !strings.Contains(err.Error(), string(typ)) {
					t.Errorf("%v doesn't name %s", err, typ)
				}
				continue
			}
			if c.SizeBytes < 0 || c.UsedBytes < 0 || c.UsedBytes > c.SizeBytes {
				t.Errorf("%s: %+v", typ, c)
			}
			if typ == XFS && c.SizeBytes != int64(binary.BigEndian.Uint64(super[8:])*uint64(binary.BigEndian.Uint32(super[4:]))) {
				t.Errorf("xfs: %+v", c)
			}
		}
	})
}

// FuzzSwapSize: a swap area that is taken has mkswap's marks, and, grown, is as
// large as its disk.
func FuzzSwapSize(f *testing.F) {
	head := realText(f, "swap")
	f.Add(head[swapVersionOffset:swapBadPagesOffset+4], uint32(256))
	f.Fuzz(func(t *testing.T, fields []byte, pages uint32) {
		page := slices.Clone(head)
		copy(page[swapVersionOffset:swapPageBytes-len(swapMagic)], fields)
		n, err := SwapSize(bytes.NewReader(page))
		if err != nil {
			return
		}
		if n < swapPageBytes || n > 1<<44 || n%swapPageBytes != 0 {
			t.Errorf("%d bytes", n)
		}
		w := patched(page)
		want := (int64(pages) + 1) * swapPageBytes
		if err := GrowSwap(w, want+int64(pages%swapPageBytes)); err != nil {
			t.Fatal(err)
		}
		if n, err := SwapSize(bytes.NewReader(page)); err != nil || n != want {
			t.Errorf("grown to %d it has %d: %v", want, n, err)
		}
	})
}

type patched []byte

func (p patched) WriteAt(b []byte, at int64) (int, error) { return copy(p[at:], b), nil }

// FuzzNumbers of what dumpe2fs prints: a line of any numbers in the places that
// count is refused or taken as it stands.
func FuzzNumbers(f *testing.F) {
	f.Add("1024", "65536", "256", "12-15", "100", "20-30, 40")
	f.Fuzz(func(t *testing.T, blockSize, blocks, inodeSize, table, unused, free string) {
		text := "Filesystem features:      metadata_csum\nBlock count:              " + blocks + "\nBlock size:               " + blockSize + "\nInode size:\t          " + inodeSize +
			"\nGroup 0: (Blocks 1-8192) csum 0xb309\n  Inode table at " + table + " (+1)\n  1 free blocks, 1 free inodes, 2 directories, " + unused + " unused inodes\n  Free blocks: " + free + "\n"
		var u used
		if each([]byte(text), u.ext) != nil || u.end(fuzzDevice) != nil {
			return
		}
		checkExtents(t, u.extents, u.blockSize)
		checkEmpty(t, &u)
		if n, err := strconv.ParseInt(strings.TrimSpace(blocks), 10, 64); err == nil && !strings.Contains(blocks+blockSize+inodeSize+table+unused+free, "\n") && n != u.blocks {
			t.Errorf("%q are %d blocks", blocks, u.blocks)
		}
	})
}
