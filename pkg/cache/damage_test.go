package cache

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var base = "cache-trixie-amd64-" + inputs.Key()

// published returns a store with a built entry, and the entry's path.
func published(t *testing.T, raw []byte) (Store, string) {
	t.Helper()
	s := newStore(t)
	var calls atomic.Int32
	get(t, s, writes(raw, &calls), SourceBuilt).Close()
	return s, filepath.Join(s.Dir, base+".tar")
}

func setTime(t *testing.T, path string, when time.Time) {
	t.Helper()
	must(t, os.Chtimes(path, when, when))
}

func big(t *testing.T) []byte {
	return tarOf(t, map[string]string{"usr/a": strings.Repeat("a", 3<<20), "usr/b": strings.Repeat("b", 100)})
}

func TestAnEditIsAdopted(t *testing.T) {
	s, path := published(t, big(t))
	// As an admin does it.
	file := filepath.Join(t.TempDir(), "motd")
	must(t, os.WriteFile(file, []byte("hello\n"), 0o644))
	out, err := exec.Command("tar", "--append", "-f", path, "-C", filepath.Dir(file), "motd").CombinedOutput()
	if err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	e := get(t, s, noBuild(t), SourceEdited)
	if e.Inodes != 4 {
		t.Errorf("%d inodes, want 4", e.Inodes)
	}
	again := get(t, s, noBuild(t), SourceEdited)
	if again.SHA256 != e.SHA256 {
		t.Error("the edit was not written down")
	}
	sum, err := exec.Command("sha256sum", path).Output()
	must(t, err)
	if !strings.HasPrefix(string(sum), e.SHA256+" ") {
		t.Errorf("sha256 %s, sha256sum says %s", e.SHA256, sum)
	}
	wantNames(t, s.Dir, base+".json", base+".tar")
}

func TestAnotherTimeAloneIsAdopted(t *testing.T) {
	s, path := published(t, big(t))
	setTime(t, path, time.Now().Add(-time.Hour))
	get(t, s, noBuild(t), SourceEdited)
}

func TestDamageIsSetAsideAndRebuilt(t *testing.T) {
	raw := big(t)
	gz := new(bytes.Buffer)
	w := gzip.NewWriter(gz)
	w.Write(raw)
	w.Close()
	damages := map[string]func(t *testing.T, path string){
		"other content, same size and time": func(t *testing.T, path string) {
			st, err := os.Stat(path)
			must(t, err)
			must(t, os.WriteFile(path, bytes.Repeat([]byte{7}, len(raw)), 0o600))
			setTime(t, path, st.ModTime())
		},
		"half of it":       func(t *testing.T, path string) { must(t, os.Truncate(path, int64(len(raw)/2/512*512))) },
		"no end marker":    func(t *testing.T, path string) { must(t, os.Truncate(path, int64(len(raw)-1024))) },
		"empty":            func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) },
		"only end markers": func(t *testing.T, path string) { must(t, os.WriteFile(path, make([]byte, 10240), 0o600)) },
		"compressed":       func(t *testing.T, path string) { must(t, os.WriteFile(path, gz.Bytes(), 0o600)) },
		"a broken header": func(t *testing.T, path string) {
			broken := bytes.Clone(raw)
			copy(broken[512:], "garbage")
			must(t, os.WriteFile(path, broken, 0o600))
		},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			s, path := published(t, raw)
			damage(t, path)
			var calls atomic.Int32
			e := get(t, s, writes(raw, &calls), SourceBuilt)
			if calls.Load() != 1 || !bytes.Equal(content(t, e), raw) {
				t.Errorf("built %d times", calls.Load())
			}
			wantNames(t, s.Dir, base+".json", base+".tar", base+".tar.corrupt")
			damage(t, path) // once more: one is kept
			get(t, s, writes(raw, &calls), SourceBuilt)
			wantNames(t, s.Dir, base+".json", base+".tar", base+".tar.corrupt")
		})
	}
}

func TestATarThatLostItsSidecarHeals(t *testing.T) {
	for _, text := range []string{"", "{", "{}", `{"sha256":"x"}`} {
		s, path := published(t, big(t))
		side := filepath.Join(s.Dir, base+".json")
		before, err := readSidecar(side)
		must(t, err)
		must(t, os.Remove(side))
		if text != "" {
			must(t, os.WriteFile(side, []byte(text), 0o600))
		}
		e := get(t, s, noBuild(t), SourceHit)
		after, err := readSidecar(side)
		must(t, err)
		if e.Path != path || after.SHA256 != before.SHA256 || after.Edited {
			t.Errorf("sidecar %+v, was %+v", after, before)
		}
	}
}

func TestDamageWithoutGenerateIsNoEntry(t *testing.T) {
	s, path := published(t, big(t))
	must(t, os.Truncate(path, 700))
	s.Generate = false
	if _, err := s.Get(t.Context(), inputs, noBuild(t)); !errors.Is(err, ErrNoEntry) {
		t.Errorf("error %v", err)
	}
}

func TestTheAdminsTarWinsWhenReadOnlyNewerOrAlone(t *testing.T) {
	raw, own := big(t), tarOf(t, map[string]string{"admin": "was here"})
	tests := map[string]struct {
		keyed  bool
		age    time.Duration // older than the keyed entry by this
		mode   os.FileMode
		source string
	}{
		"alone":                  {false, time.Hour, 0o644, SourceAdmin},
		"newer":                  {true, -time.Hour, 0o644, SourceAdmin},
		"older but read-only":    {true, time.Hour, 0o444, SourceAdmin},
		"older":                  {true, time.Hour, 0o644, SourceHit},
		"newer and read-only":    {true, -time.Hour, 0o400, SourceAdmin},
		"alone and group-writes": {false, time.Hour, 0o664, SourceAdmin},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			if tc.keyed {
				s, _ = published(t, raw)
			}
			must(t, os.MkdirAll(s.Dir, 0o755))
			admin := filepath.Join(s.Dir, "cache-trixie-amd64.tar")
			must(t, os.WriteFile(admin, own, 0o644))
			setTime(t, admin, time.Now().Add(-tc.age))
			must(t, os.Chmod(admin, tc.mode))
			e := get(t, s, noBuild(t), tc.source)
			if tc.source == SourceAdmin && (!bytes.Equal(content(t, e), own) || e.Inodes != 2 || e.ContentBytes != 8192) {
				t.Errorf("entry %+v", e)
			}
		})
	}
}

func TestTheAdminsTarIsTheFallbackWhenBuildingFails(t *testing.T) {
	s, path := published(t, big(t))
	admin := filepath.Join(s.Dir, "cache-trixie-amd64.tar")
	must(t, os.WriteFile(admin, tarOf(t, map[string]string{"a": "b"}), 0o644))
	setTime(t, admin, time.Now().Add(-time.Hour))
	must(t, os.Truncate(path, 700))
	fail := func(context.Context, *os.File, *Entry) (Made, error) { return Made{}, errors.New("mirror is down") }
	e := get(t, s, fail, SourceFallback)
	if e.Path != admin {
		t.Errorf("used %s", e.Path)
	}
}

func TestAnUnusableAdminsTarIsAnErrorAndStays(t *testing.T) {
	s := newStore(t)
	must(t, os.MkdirAll(s.Dir, 0o755))
	admin := filepath.Join(s.Dir, "cache-trixie-amd64.tar")
	must(t, os.WriteFile(admin, []byte("\x28\xb5\x2f\xfd and so on"), 0o644))
	_, err := s.Get(t.Context(), inputs, noBuild(t))
	if err == nil || !strings.Contains(err.Error(), "compressed with zstd") || !strings.Contains(err.Error(), admin) {
		t.Errorf("error %v", err)
	}
	wantNames(t, s.Dir, "cache-trixie-amd64.tar")
}

func TestVerifyReadsEveryEntry(t *testing.T) {
	s, path := published(t, big(t))
	must(t, os.WriteFile(filepath.Join(s.Dir, "cache-sid-amd64.tar"), tarOf(t, nil), 0o644))
	state := func() map[string]string {
		results, err := s.Verify(t.Context())
		must(t, err)
		out := map[string]string{}
		for _, r := range results {
			out[filepath.Base(r.Path)] = r.State
			if (r.Err != nil) != (r.State == StateCorrupt) {
				t.Errorf("result %+v", r)
			}
		}
		return out
	}
	if got := state(); got[base+".tar"] != StateOK || got["cache-sid-amd64.tar"] != StateAdmin {
		t.Errorf("states %v", got)
	}
	// One byte between the chunks that are compared on use.
	st, err := os.Stat(path)
	must(t, err)
	m, err := readSidecar(filepath.Join(s.Dir, base+".json"))
	must(t, err)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("X"), m.Chunks[3].Offset+chunkBytes)
	must(t, errors.Join(err, f.Close()))
	setTime(t, path, st.ModTime())
	if got := state(); got[base+".tar"] != StateCorrupt {
		t.Errorf("states %v", got)
	}
	setTime(t, path, time.Now().Add(time.Second))
	if got := state(); got[base+".tar"] != StateEdited {
		t.Errorf("states %v", got)
	}
}

func TestListTellsWhatIsThere(t *testing.T) {
	s, path := published(t, big(t))
	e := get(t, s, noBuild(t), SourceHit)
	must(t, os.Chmod(path, 0o400))
	list, err := s.List()
	must(t, err)
	if len(list) != 1 {
		t.Fatalf("list %+v", list)
	}
	l := list[0]
	if l.Path != path || l.Key != inputs.Key() || !l.Protected || !l.InUse || l.State != StateOK || l.Inputs.ToolVersion != "1.3.5" || l.AgeDays != 0 {
		t.Errorf("listing %+v", l)
	}
	e.Close()
	if list, err = s.List(); err != nil || list[0].InUse {
		t.Errorf("still in use: %+v, %v", list, err)
	}
	must(t, os.Chmod(path, 0o600))
	must(t, os.Truncate(path, l.SizeBytes-3000))
	if list, err = s.List(); err != nil || list[0].State != StateCorrupt {
		t.Errorf("a tar without its end: %+v, %v", list, err)
	}
	if list, err = (Store{Dir: filepath.Join(s.Dir, "none")}).List(); err != nil || list != nil {
		t.Errorf("no folder: %v, %v", list, err)
	}
}
