package cache

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestWhatCantBeImportedOrExportedIsToldWithWhatToDo(t *testing.T) {
	s := newStore(t)
	get(t, s, writes(tarOf(t, map[string]string{"./etc/passwd": "x"}), new(atomic.Int32)), SourceBuilt)
	entries, err := s.List()
	must(t, err)
	key := entries[0].Key
	var out bytes.Buffer
	must(t, s.Export(t.Context(), key, &out))
	whole := out.String()
	out.Reset()
	must(t, s.Export(t.Context(), filepath.Base(entries[0].Path), &out)) // as cache list has it
	if out.String() != whole {
		t.Error("by its file name the entry is another")
	}
	older := strings.Replace(whole, fmt.Sprintf(`"format": %d`, treeFormat), `"format": 9`, 1)
	for name, c := range map[string]struct{ in, want string }{
		"nothing":             {"", "it is too short for a tar: copy it anew, whole"},
		"no tar":              {strings.Repeat("x", 2048), "this is no exported entry: say which suite the tree is of (--suite)"},
		"cut off in the tree": {whole[:len(whole)-3000], "it is cut off: copy it anew, whole"},
		"without the tree":    {whole[:firstTree(t, whole)], "the tree's tar doesn't follow: it ends: copy it anew"},
		"another format":      {older, "its format is 9, and"},
	} {
		if _, err := newStore(t).Import(t.Context(), strings.NewReader(c.in), Incoming{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if err := s.Export(t.Context(), "x", io.Discard); err == nil || err.Error() != "no cache entry has a key that begins with \"x\": `cache list` shows them" {
		t.Errorf("%v", err)
	}
}

// Whoever removes a tar leaves its sidecar.
func TestAnEntryWhoseTarWasRemovedOrEditedIsNotTakenForThere(t *testing.T) {
	s := newStore(t)
	get(t, s, writes(tarOf(t, map[string]string{"./etc/passwd": "x"}), new(atomic.Int32)), SourceBuilt)
	var exported bytes.Buffer
	must(t, s.Export(t.Context(), inputs.Key(), &exported))
	path := filepath.Join(s.Dir, base+".tar")
	published, err := os.ReadFile(path)
	must(t, err)
	must(t, os.Remove(path))
	got, err := s.Import(t.Context(), bytes.NewReader(exported.Bytes()), Incoming{})
	if now, rerr := os.ReadFile(path); err != nil || got != path || rerr != nil || !bytes.Equal(now, published) {
		t.Errorf("removed: %q, %v, %v", got, err, rerr)
	}
	edited := tarOf(t, map[string]string{"./etc/passwd": "mine"})
	must(t, os.WriteFile(path, edited, 0o600))
	if _, err := s.Import(t.Context(), bytes.NewReader(exported.Bytes()), Incoming{}); err == nil || !strings.Contains(err.Error(), "--force replaces it") {
		t.Errorf("edited: %v", err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, edited) {
		t.Errorf("the edited one is gone: %v", err)
	}
	if _, err := s.Import(t.Context(), bytes.NewReader(exported.Bytes()), Incoming{Force: true}); err != nil {
		t.Error(err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, published) {
		t.Errorf("with force: %v", err)
	}
	if again, err := s.Import(t.Context(), bytes.NewReader(exported.Bytes()), Incoming{}); !errors.Is(err, ErrSame) || again != path {
		t.Errorf("once more: %q, %v", again, err)
	}
}

// firstTree is where the second member of an exported entry begins.
func firstTree(t *testing.T, whole string) int {
	t.Helper()
	r := strings.NewReader(whole)
	h, err := tar.NewReader(r).Next()
	must(t, err)
	return 512 + int(h.Size+511)/512*512
}

func TestLinksThatLeadToLinksForEverAreToldOfWithTheirTar(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache-trixie-amd64.tar")
	f, err := os.Create(path)
	must(t, err)
	w := tar.NewWriter(f)
	for i := range maxLinksDeep + 2 {
		must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: fmt.Sprint("./boot/", i), Linkname: fmt.Sprint("./boot/", i+1)}))
	}
	must(t, w.Close())
	e := &Entry{Path: path, File: f}
	err = e.Extract(t.Context(), t.TempDir(), func(name string) (string, bool) { return name, name == "boot/0" })
	if want := fmt.Sprintf("%s: boot/0 is a hard link to a hard link, more than %d deep: pack the tree anew", path, maxLinksDeep); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// tampered is an exported entry whose sidecar says something else, in as many bytes.
func tampered(t *testing.T, change func(m *sidecar)) []byte {
	t.Helper()
	s := newStore(t)
	get(t, s, writes(tarOf(t, map[string]string{"./etc/passwd": "x"}), new(atomic.Int32)), SourceBuilt)
	n := s.namesOf(base + ".tar")
	m, err := readSidecar(n.sidecar)
	must(t, err)
	content, err := os.ReadFile(n.tar)
	must(t, err)
	change(&m)
	raw, err := json.Marshal(m)
	must(t, err)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, file := range []struct {
		name    string
		content []byte
	}{{base + ".json", raw}, {base + ".tar", content}} {
		must(t, w.WriteHeader(&tar.Header{Name: file.name, Mode: 0o600, Size: int64(len(file.content))}))
		_, err := w.Write(file.content)
		must(t, err)
	}
	must(t, w.Close())
	return out.Bytes()
}

// By that a disk is taken for large enough.
func TestHowMuchATreeTakesIsNotTakenFromAnotherNode(t *testing.T) {
	to := newStore(t)
	_, err := to.Import(t.Context(), bytes.NewReader(tampered(t, func(m *sidecar) { m.ContentBytes, m.Inodes = -1<<60, -5 })), Incoming{})
	must(t, err)
	m, err := readSidecar(to.namesOf(base + ".tar").sidecar)
	if err != nil || m.ContentBytes < 1 || m.Inodes < 1 {
		t.Errorf("%d bytes, %d inodes, %v", m.ContentBytes, m.Inodes, err)
	}
}

func TestATreeOfTheFutureIsNotTakenSinceItWouldNeverBeTooOld(t *testing.T) {
	to := newStore(t)
	_, err := to.Import(t.Context(), bytes.NewReader(tampered(t, func(m *sidecar) { m.MtimeNs += int64(48 * time.Hour) })), Incoming{})
	if err == nil || !strings.Contains(err.Error(), "built in the future") {
		t.Errorf("%v", err)
	}
	if list, err := to.List(); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}
