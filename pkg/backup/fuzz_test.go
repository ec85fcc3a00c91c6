package backup

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/transport"
)

// FuzzDivide: of whatever parts are in use, and whatever of them a copy may have as
// zeros, an image has all that is in use, in order, once, in pieces of a size that
// import takes.
func FuzzDivide(f *testing.F) {
	f.Add([]byte{0, 40, 50, 200}, []byte{10, 20, 60, 100}, uint16(2048))
	f.Add([]byte{0, 255}, []byte{3, 200, 2, 50, 100, 255}, uint16(0))
	f.Fuzz(func(t *testing.T, usedBytes, zeroBytes []byte, startSector uint16) {
		const unit = 8192
		var used, zeros []filesystem.Extent
		at := int64(0)
		for pair := range slices.Chunk(usedBytes, 2) { // in order, as UsedExtents has them
			if len(pair) == 2 && pair[1] > 0 {
				at += int64(pair[0]) * unit
				used = append(used, filesystem.Extent{Offset: at, Bytes: int64(pair[1]) * unit})
				at += int64(pair[1]) * unit
			}
		}
		for pair := range slices.Chunk(zeroBytes, 2) {
			if len(pair) == 2 {
				zeros = append(zeros, filesystem.Extent{Offset: int64(pair[0]) * unit / 2, Bytes: int64(pair[1]) * unit / 2})
			}
		}
		start := int64(startSector) * 512
		left := slices.Clone(used)
		for p := range divide(used, zeros, start) {
			if len(left) == 0 || p.offset != start+left[0].Offset || p.bytes <= 0 || p.bytes > left[0].Bytes {
				t.Fatalf("the part %+v, where %+v is left, of %+v and zeros %+v", p, left, used, zeros)
			}
			if !p.zero && p.bytes > pieceBytes || p.zero && p.bytes < leastZero {
				t.Errorf("the part %+v", p)
			}
			if p.zero && !allZero(zeros, p.offset-start, p.bytes) {
				t.Errorf("%+v isn't zeros by %+v", p, zeros)
			}
			if left[0].Offset, left[0].Bytes = left[0].Offset+p.bytes, left[0].Bytes-p.bytes; left[0].Bytes == 0 {
				left = left[1:]
			}
		}
		if len(left) > 0 {
			t.Errorf("%+v is left out", left)
		}
	})
}

// allZero tells whether the zeros cover all of a part.
func allZero(zeros []filesystem.Extent, at, n int64) bool {
	for end := at + n; at < end; {
		i := slices.IndexFunc(zeros, func(z filesystem.Extent) bool { return z.Offset <= at && at < z.Offset+z.Bytes })
		if i < 0 {
			return false
		}
		at = zeros[i].Offset + zeros[i].Bytes
	}
	return true
}

// FuzzRenewSerial: of a FAT filesystem that came with a backup only its serial
// numbers change, at most twice four bytes.
func FuzzRenewSerial(f *testing.F) {
	fat := make([]byte, 4096)
	for _, at := range []int{0, 6 * 512} {
		copy(fat[at+fatName:], "FAT32   ")
		binary.LittleEndian.PutUint16(fat[at+fatBackup:], 6)
		binary.LittleEndian.PutUint32(fat[at+fatSerial:], 0xAB12CD34)
	}
	f.Add(fat)
	f.Add(fat[:512])
	f.Fuzz(func(t *testing.T, fat []byte) {
		r := newIDsFor(&osapi.Request{InstanceUUID: "6c7b4cc2-6a3c-4a3a-9f8d-1b8f0c3a5a11"}, "new", transport.Manifest{})
		renewed := bytes.Clone(fat)
		r.ofFAT(renewed)
		changed := 0
		for i := range fat {
			if fat[i] != renewed[i] {
				changed++
			}
		}
		if changed > 8 || len(r.made) > 1 || changed > 0 && len(r.made) != 1 {
			t.Errorf("%d bytes changed, ids %v", changed, r.made)
		}
		for old, id := range r.made {
			if _, ok := boot.ParseFATUUID(id); !ok || len(old) != len(id) {
				t.Errorf("%s became %s", old, id)
			}
		}
	})
}

// FuzzLayout: of whatever disk a manifest that import takes speaks, the layout that
// is made of it has the manifest's partitions, and can be told to the next stream.
func FuzzLayout(f *testing.F) {
	f.Add([]byte(`{"format":1,"tool":"t","content":"blocks","disk":{"index":0,"size_bytes":67108864,"style":"msdos","id":"12345678","partitions":[{"number":1,"start_sector":2048,"sectors":129024,"type":"83","uuid":"12345678-01"}]},"filesystem":{"partition":1,"type":"ext4","uuid":"0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10","size_bytes":66060288}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := transport.ParseManifest(text)
		if err != nil {
			return
		}
		l := layoutOf(m.Disk)
		if back := describeDisk(m.Disk.Index, m.Disk.SizeBytes, l); len(back.Partitions) != len(m.Disk.Partitions) || back.ID != m.Disk.ID || back.Style != m.Disk.Style {
			t.Errorf("%+v became %+v", m.Disk, back)
		}
		for _, size := range []int64{m.Disk.SizeBytes / 2, m.Disk.SizeBytes, 64 << 20, 1 << 45} {
			fitted, err := l.Fit(size)
			if err != nil {
				continue
			}
			for _, p := range fitted.Partitions {
				if p.StartSector < 1 || p.Sectors < 1 {
					t.Errorf("fitted to %d bytes, %+v became %+v", size, l, p)
				}
			}
			if root, err := fitted.RootPartition(); err == nil && (root.StartSector+root.Sectors)*512 > size {
				t.Errorf("the root %+v on a disk of %d bytes", root, size)
			}
		}
		if line := describe(m); strings.ContainsAny(line, "\n\x1b") {
			t.Errorf("%q", line)
		}
	})
}
