package cache

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime/metrics"
	"strings"
	"testing"
)

func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// measured is a real sidecar, of a tar.
func measured(t testing.TB, raw []byte) (text []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(raw); err != nil {
		t.Fatal(err)
	}
	m, err := measure(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	m.Key, m.Inputs = inputs.Key(), inputs
	if text, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	return text
}

func smallTar(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "./boot/vmlinuz-6.1.0", Typeflag: tar.TypeReg, Size: 5},
		{Name: "./link", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("x", 80)}, {Name: "./hard", Typeflag: tar.TypeLink, Linkname: "./boot/vmlinuz-6.1.0"},
		{Name: "./" + strings.Repeat("d/", 120) + "f", Typeflag: tar.TypeReg, Format: tar.FormatGNU},
		{Name: "./x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "12345"[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// countingReader counts what is read of an endless tar.
type countingReader struct{ n int64 }

func (c *countingReader) ReadAt(p []byte, _ int64) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// FuzzSidecar: a sidecar that is taken makes a use read no more than the samples of
// a tar, and is the same when it is written anew.
func FuzzSidecar(f *testing.F) {
	f.Add(measured(f, smallTar(f)))
	f.Add(measured(f, append(smallTar(f), make([]byte, 2*chunkCount*chunkBytes)...)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parseSidecar("sidecar", raw)
		if err != nil {
			if !strings.Contains(err.Error(), "sidecar") {
				t.Errorf("%v doesn't name it", err)
			}
			return
		}
		var read countingReader
		m.checkChunks(&read)
		if most := int64(chunkCount * chunkCount * chunkBytes); read.n > most {
			t.Errorf("%d bytes are read at a use", read.n)
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		m2, err := parseSidecar("sidecar", again)
		if third, _ := json.Marshal(m2); err != nil || !bytes.Equal(third, again) || !reflect.DeepEqual(m2.Chunks, m.Chunks) {
			t.Errorf("%s became %s: %v", again, third, err)
		}
	})
}

// FuzzTree: whatever an admin's tar has in its headers, a scan takes memory by its
// size, and says that it needs no more room than its data and its names.
func FuzzTree(f *testing.F) {
	f.Add(smallTar(f), false)
	f.Add(smallTar(f)[:2048], true)
	f.Add([]byte("\x1f\x8b\x08 not a tar"), true)
	f.Fuzz(func(t *testing.T, raw []byte, end bool) {
		if end {
			raw = append(bytes.Clone(raw), make([]byte, 1024+(512-len(raw)%512)%512)...)
		}
		before := allocated()
		r := bytes.NewReader(raw)
		e, err := scan(t.Context(), r, func() int64 { return r.Size() - int64(r.Len()) })
		if n := allocated() - before; n > 8<<20+64*uint64(len(raw)) {
			t.Errorf("%d bytes of memory for a tar of %d", n, len(raw))
		}
		if ends := checkEnds(bytes.NewReader(raw), int64(len(raw))); ends == nil && (len(raw)%512 != 0 || len(raw) < 1024) {
			t.Errorf("%d bytes are taken for a whole tar", len(raw))
		}
		if err != nil {
			return
		}
		if most := int64(len(raw)) + 2*blockBytes*e.inodes; e.contentBytes < 0 || e.contentBytes > most || e.inodes < 1 || e.inodes > int64(len(raw))/512 {
			t.Errorf("%+v of a tar of %d bytes", e, len(raw))
		}
		if e.kernel && !bytes.Contains(raw, []byte("vmlinu")) {
			t.Error("it has a kernel")
		}
	})
}

// TestASidecarOfManySamplesIsNotOurs: each use would read all of them.
func TestASidecarOfManySamplesIsNotOurs(t *testing.T) {
	var m sidecar
	must(t, json.Unmarshal(measured(t, smallTar(t)), &m))
	for range chunkCount {
		m.Chunks = append(m.Chunks, m.Chunks[0])
	}
	raw, err := json.Marshal(m)
	must(t, err)
	if _, err := parseSidecar("s.json", raw); err == nil || !strings.Contains(err.Error(), "not one of ours") {
		t.Errorf("it is taken: %v", err)
	}
}
