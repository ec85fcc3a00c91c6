package image

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzList: a list that is taken has pieces in order that lie in the filesystem, in
// whole blocks, and what a copy leaves out is what none of them is. One whose
// checksum is wrong is never taken.
func FuzzList(f *testing.F) {
	real, err := json.Marshal(List{
		Format: formatNumber, Tree: "tree", SizeBytes: 64 << 10, Journal: 4096, MadeBy: "1.0",
		Data: []Piece{{0, 8192, 1}, {16384, 4096, 2}}, Zero: []Range{{8192, 8192}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(real, uint32(16), uint32(0))
	f.Add(real, uint32(16), uint32(1))
	f.Add([]byte(`{"format":1,"size_bytes":65536,"data":[{"at":8192,"n":4096,"crc":0},{"at":0,"n":4096,"crc":0}]}`), uint32(16), uint32(0))
	f.Add([]byte(`{"format":1,"size_bytes":65536,"data":[{"at":0,"n":8192,"crc":0},{"at":4096,"n":8192,"crc":0}]}`), uint32(16), uint32(0))
	path := filepath.Join(f.TempDir(), "image")
	f.Fuzz(func(t *testing.T, list []byte, blocks, flip uint32) {
		fsBytes := int64(blocks%4096) * blockBytes
		footer := append([]byte(magic), make([]byte, 8)...)
		binary.LittleEndian.PutUint32(footer[8:], uint32(len(list)))
		binary.LittleEndian.PutUint32(footer[12:], checksum(list)^flip)
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteAt(append(list[:len(list):len(list)], footer...), fsBytes); err != nil {
			t.Fatal(err)
		}
		m, err := Open(file)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%v isn't damage", err)
			}
			return
		}
		if flip != 0 || m.SizeBytes != fsBytes {
			t.Errorf("it is taken: %d bytes in %d, checksum changed by %x", m.SizeBytes, fsBytes, flip)
		}
		checkPieces(t, m)
	})
}

func checkPieces(t *testing.T, m *Image) {
	t.Helper()
	next, left := int64(0), int64(0)
	for _, p := range m.Data {
		if p.Offset < next || p.Bytes <= 0 || p.Bytes > pieceBytes || p.Offset%blockBytes != 0 || p.Bytes%blockBytes != 0 || p.Offset > m.SizeBytes-p.Bytes {
			t.Fatalf("the piece %+v after byte %d of %d", p, next, m.SizeBytes)
		}
		next = p.Offset + p.Bytes
		left += p.Bytes
	}
	partition := m.SizeBytes + 8*blockBytes
	for _, u := range m.Unused(partition) {
		if u.Offset < 0 || u.Bytes <= 0 || u.Offset > partition-u.Bytes {
			t.Errorf("%+v is unused, of %d bytes", u, partition)
		}
		left += u.Bytes
	}
	if left != partition {
		t.Errorf("pieces and what is unused are %d bytes of %d", left, partition)
	}
}

// TestAListWhosePiecesOverlapIsDamaged: copies are written at the same time, and
// which one came last nobody could say.
func TestAListWhosePiecesOverlapIsDamaged(t *testing.T) {
	for name, data := range map[string][]Piece{
		"in disorder": {{8192, 4096, 0}, {0, 4096, 0}}, "that overlap": {{0, 8192, 0}, {4096, 8192, 0}}, "of half a block": {{0, 2048, 0}},
	} {
		raw, err := json.Marshal(List{Format: formatNumber, SizeBytes: 64 << 10, Data: data})
		must(t, err)
		footer := append([]byte(magic), make([]byte, 8)...)
		binary.LittleEndian.PutUint32(footer[8:], uint32(len(raw)))
		binary.LittleEndian.PutUint32(footer[12:], checksum(raw))
		path := filepath.Join(t.TempDir(), "image")
		must(t, os.WriteFile(path, append(make([]byte, 64<<10), append(raw, footer...)...), 0o600))
		f, err := os.Open(path)
		must(t, err)
		if _, err := Open(f); !errors.Is(err, ErrDamaged) {
			t.Errorf("pieces %s: %v", name, err)
		}
		f.Close()
	}
}
