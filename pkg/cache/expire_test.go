package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestTheAgeRuleIsThatOfFind(t *testing.T) {
	y, m, d := time.Now().Date()
	midnight := time.Date(y, m, d, 0, 0, 0, 0, time.Local)
	for _, days := range []int{0, 1, 14} {
		s := newStore(t)
		must(t, os.MkdirAll(s.Dir, 0o755))
		must(t, os.MkdirAll(s.LockDir, 0o755))
		s.MaxAgeDays = days
		for i, age := range []time.Duration{-1, -time.Second, 0, time.Second, time.Hour, 23 * time.Hour, 24 * time.Hour} {
			for j, before := range []int{days - 1, days, days + 1} {
				path := filepath.Join(s.Dir, fmt.Sprintf("cache-s%d-%d.tar", i, j))
				must(t, os.WriteFile(path, nil, 0o644))
				setTime(t, path, midnight.Add(-time.Duration(before)*24*time.Hour-age))
			}
		}
		out, err := exec.Command("find", s.Dir, "-daystart", "-name", "cache-*.tar", "-mtime", fmt.Sprintf("+%d", days)).Output()
		must(t, err)
		want := strings.Fields(string(out))
		sort.Strings(want)
		got, err := s.Clean(t.Context())
		must(t, err)
		if len(got) == 0 || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("older than %d days: removed %q, find says %q", days, got, want)
		}
	}
}

func TestExpiryTakesTheSidecarAlongAndRebuilds(t *testing.T) {
	s, path := published(t, big(t))
	setTime(t, path, time.Now().Add(-50*24*time.Hour))
	s.MaxAgeDays = 14
	var calls atomic.Int32
	get(t, s, writes(big(t), &calls), SourceBuilt)
	wantNames(t, s.Dir, base+".json", base+".tar")
	if calls.Load() != 1 {
		t.Errorf("built %d times", calls.Load())
	}
}

func TestWhatMustNotExpireStays(t *testing.T) {
	age := func(t *testing.T, path string) { setTime(t, path, time.Now().Add(-50*24*time.Hour)) }
	tests := map[string]func(t *testing.T, s *Store, path string){
		"never":     func(t *testing.T, s *Store, path string) { age(t, path); s.MaxAgeDays = -1 },
		"read-only": func(t *testing.T, s *Store, path string) { age(t, path); must(t, os.Chmod(path, 0o444)) },
		"in use": func(t *testing.T, s *Store, path string) {
			never := *s
			never.MaxAgeDays = -1
			get(t, never, noBuild(t), SourceHit)
			age(t, path)
		},
		"being checked": func(t *testing.T, s *Store, path string) {
			age(t, path)
			lock, err := s.lock(t.Context(), base)
			must(t, err)
			t.Cleanup(func() { lock.Close() })
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			s, path := published(t, big(t))
			s.MaxAgeDays = 14
			prepare(t, &s, path)
			removed, err := s.Clean(t.Context())
			must(t, err)
			if len(removed) != 0 {
				t.Errorf("removed %q", removed)
			}
			wantNames(t, s.Dir, base+".json", base+".tar")
		})
	}
}

func TestLeftoversExpireAndForeignFilesStay(t *testing.T) {
	s := newStore(t)
	s.MaxAgeDays = 14
	must(t, os.MkdirAll(s.Dir, 0o755))
	must(t, os.MkdirAll(s.LockDir, 0o755))
	gone := []string{
		base + ".tar.corrupt", "." + base + ".tar.tmp", "." + base + ".json.tmp", "cache-sid-amd64.tar",
		"cache-sid-amd64.tar.Xy12ab", "cache-old-amd64-0123456789abcdef.json",
	}
	stays := []string{"README", "cache-sid-amd64.tar.zst", "other.tar", "cache-sid-amd64.txt", "cache-fresh-amd64.tar"}
	for _, name := range append(gone, stays...) {
		path := filepath.Join(s.Dir, name)
		must(t, os.WriteFile(path, []byte("x"), 0o644))
		if name != "cache-fresh-amd64.tar" {
			setTime(t, path, time.Now().Add(-50*24*time.Hour))
		}
	}
	must(t, os.Mkdir(filepath.Join(s.Dir, "cache-folder.tar"), 0o755))
	must(t, os.Symlink("/etc/passwd", filepath.Join(s.Dir, "cache-link.tar")))
	_, err := s.Clean(t.Context())
	must(t, err)
	wantNames(t, s.Dir, append(stays, "cache-folder.tar", "cache-link.tar")...)
}

// incomplete is a build of a tree without security updates.
func incomplete(raw []byte) Build {
	return func(_ context.Context, f *os.File, _ *Entry) (Made, error) {
		_, err := f.Write(raw)
		return Made{Lacks: []string{"security updates"}}, err
	}
}

// publishedIncomplete is published, so many hours ago, of a tree without security updates.
func publishedIncomplete(t *testing.T, s Store, hours int) (path string) {
	t.Helper()
	get(t, s, incomplete(big(t)), SourceBuilt).Close()
	path = filepath.Join(s.Dir, base+".tar")
	then := time.Now().Add(-time.Duration(hours) * time.Hour)
	setTime(t, path, then)
	m, err := readSidecar(strings.TrimSuffix(path, ".tar") + ".json")
	must(t, err)
	m.MtimeNs = then.UnixNano()
	must(t, s.writeSidecar(s.namesOf(base+".tar"), inputs, m))
	return path
}

func TestATreeThatLacksSecurityIsBuiltAnewAfterADay(t *testing.T) {
	for _, days := range []int{-1, 14} { // also where no tree ages
		s := newStore(t)
		s.MaxAgeDays = days
		path := publishedIncomplete(t, s, 23)
		if e := get(t, s, noBuild(t), SourceHit); fmt.Sprint(e.Lacks) != "[security updates]" || s.Peek(inputs) != path || s.Expired(inputs) {
			t.Errorf("of this day: lacks %q, peek %q, expired %v", e.Lacks, s.Peek(inputs), s.Expired(inputs))
		}
		must(t, os.Remove(path))
		publishedIncomplete(t, s, 25)
		list, err := s.List()
		must(t, err)
		if s.Peek(inputs) != "" || !s.Expired(inputs) || len(list) != 1 || !list[0].Expired || fmt.Sprint(list[0].Lacks) != "[security updates]" {
			t.Errorf("of yesterday: peek %q, expired %v, %+v", s.Peek(inputs), s.Expired(inputs), list)
		}
		var calls atomic.Int32
		if e := get(t, s, writes(big(t), &calls), SourceBuilt); calls.Load() != 1 || len(e.Lacks) != 0 {
			t.Errorf("built %d times, lacks %q", calls.Load(), e.Lacks)
		}
		get(t, s, noBuild(t), SourceHit)
	}
}

func TestATreeThatLacksSecurityStaysInUseUntilThereIsABetterOne(t *testing.T) {
	gone := func(context.Context, *os.File, *Entry) (Made, error) { return Made{}, errors.New("the mirror is down") }
	for name, c := range map[string]struct {
		prepare func(s *Store, path string)
		build   Build
		source  string
	}{
		"the archive is out of reach": {func(*Store, string) {}, gone, SourceHit},
		"old trees are to be used":    {func(s *Store, _ string) { s.StaleOK = true }, noBuild(t), SourceHit},
		"no tree is to be generated":  {func(s *Store, _ string) { s.Generate = false }, noBuild(t), SourceHit},
		"it is read-only":             {func(_ *Store, path string) { must(t, os.Chmod(path, 0o444)) }, noBuild(t), SourceHit},
		"an admin has edited it":      {func(_ *Store, path string) { setTime(t, path, time.Now().Add(-30*time.Hour)) }, noBuild(t), SourceEdited},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			path := publishedIncomplete(t, s, 25)
			c.prepare(&s, path)
			for range 2 {
				if e := get(t, s, c.build, c.source); fmt.Sprint(e.Lacks) != "[security updates]" {
					t.Errorf("lacks %q", e.Lacks)
				}
			}
		})
	}
}

func TestPrunesAtOnceRemoveEachTreeOnceAndDoNotFail(t *testing.T) {
	s := newStore(t)
	must(t, os.MkdirAll(s.Dir, 0o755))
	s.MaxAgeDays = 14
	const trees = 200
	for i := range trees {
		path := filepath.Join(s.Dir, fmt.Sprintf("cache-s%d-amd64.tar", i))
		must(t, os.WriteFile(path, nil, 0o600))
		setTime(t, path, time.Now().Add(-50*24*time.Hour))
	}
	var removed atomic.Int32
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			gone, err := s.Prune(t.Context(), false)
			if err != nil {
				t.Error(err)
			}
			removed.Add(int32(len(gone)))
		})
	}
	all.Wait()
	if removed.Load() != trees {
		t.Errorf("%d trees are said to be removed, of %d", removed.Load(), trees)
	}
	if left, _ := os.ReadDir(s.LockDir); len(left) > 0 {
		t.Errorf("locks are left: %v", left)
	}
}

func TestATreeOfASnapshotAgesByItsLastUse(t *testing.T) {
	s := newStore(t)
	s.MaxAgeDays = 14
	of := inputs
	of.Snapshot = "20240102T000000Z"
	var calls atomic.Int32
	e, err := s.Get(t.Context(), of, writes(big(t), &calls))
	must(t, err)
	e.Close()
	n, err := s.names(of)
	must(t, err)
	ago := func(tar, use int) {
		setTime(t, n.tar, time.Now().AddDate(0, 0, -tar))
		m, err := readSidecar(n.sidecar)
		must(t, err)
		st, err := os.Stat(n.tar)
		must(t, err)
		m.MtimeNs = st.ModTime().UnixNano()
		must(t, s.writeSidecar(n, of, m))
		setTime(t, n.sidecar, time.Now().AddDate(0, 0, -use))
	}
	ago(50, 3)
	gone, err := s.Clean(t.Context())
	must(t, err)
	if pruned, err := s.Prune(t.Context(), true); err != nil || len(gone)+len(pruned) > 0 || s.Expired(of) {
		t.Errorf("one that was used three days ago goes: %v %v %v", gone, pruned, err)
	}
	ago(50, 30)
	e, err = s.Get(t.Context(), of, writes(big(t), &calls))
	must(t, err)
	e.Close()
	if calls.Load() != 1 {
		t.Errorf("one that is wanted now was built %d times", calls.Load())
	}
	ago(50, 30)
	if list, err := s.List(); err != nil || len(list) != 1 || !list[0].Expired || s.Expired(of) {
		t.Errorf("unused for 30 days: %+v %v", list, err)
	}
	if gone, err = s.Clean(t.Context()); err != nil || len(gone) != 1 {
		t.Errorf("one that nobody has used for 30 days stays: %v %v", gone, err)
	}
}
