package cache

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
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
