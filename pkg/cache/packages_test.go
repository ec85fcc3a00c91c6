package cache

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// packagesOf keeps packages of 8 KiB each, last used so many days ago.
func packagesOf(t *testing.T, s Store, days ...int) {
	t.Helper()
	p, err := s.Packages(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range days {
		url := fmt.Sprintf("http://archive.example/pool/p%d.deb", d)
		f := p.Create(url, 8192)
		f.Write([]byte(strings.Repeat("x", 8192)))
		f.Keep(true)
		used := time.Now().Add(-time.Duration(d)*24*time.Hour - time.Hour)
		if err := os.Chtimes(filepath.Join(p.dir, p.name(url)), used, used); err != nil {
			t.Fatal(err)
		}
	}
}

func left(t *testing.T, s Store) (out []string) {
	t.Helper()
	for _, p := range s.keptPackages() {
		_, name, _ := strings.Cut(strings.TrimSuffix(p.path, ".deb"), "-p")
		out = append(out, name)
	}
	return out
}

func TestPackagesGoWhenNoBootstrapUsesThem(t *testing.T) {
	for _, c := range []struct {
		maxAge   int
		maxBytes int64
		left     string
	}{
		{14, 0, "[13 2]"}, {-1, 0, "[40 20 13 2]"}, {0, 0, "[]"}, {14, 8192, "[2]"}, {-1, 3 * 8192, "[20 13 2]"}, {30, 2 * 8192, "[13 2]"},
	} {
		for _, noTmpfile := range []bool{false, true} {
			s := Store{Dir: t.TempDir(), LockDir: t.TempDir(), MaxAgeDays: c.maxAge, MaxBytes: c.maxBytes, noTmpfile: noTmpfile}
			packagesOf(t, s, 2, 40, 13, 20)
			would, err := s.Prune(context.Background(), true)
			if err != nil || len(left(t, s)) != 4 {
				t.Fatalf("dry run: %v, left %v", err, left(t, s))
			}
			gone, err := s.Prune(context.Background(), false)
			if got := fmt.Sprint(left(t, s)); err != nil || got != c.left {
				t.Errorf("%+v: left %s, %v", c, got, err)
			}
			if fmt.Sprint(would) != fmt.Sprint(gone) {
				t.Errorf("the dry run said %v, the prune %v", would, gone)
			}
		}
	}
}

// CLEAN_CACHE=0 is a new tree each day, which the packages of that day are for.
func TestTodaysPackagesStayWhereEachDayHasItsTree(t *testing.T) {
	s := Store{Dir: t.TempDir(), LockDir: t.TempDir()}
	packagesOf(t, s, 1)
	p, err := s.Packages(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	f := p.Create("http://archive.example/pool/p0.deb", 1)
	f.Write([]byte("x"))
	f.Keep(true)
	if _, err := s.Prune(context.Background(), false); err != nil || fmt.Sprint(left(t, s)) != "[0]" {
		t.Errorf("left %v, %v", left(t, s), err)
	}
}

func TestWhatAKilledRunLeftAmongThePackages(t *testing.T) {
	s := Store{Dir: t.TempDir(), LockDir: t.TempDir(), MaxAgeDays: -1, noTmpfile: true}
	p, err := s.Packages(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	p.Create("http://archive.example/a.deb", 4).Write([]byte("half"))
	prune := func(want int) {
		t.Helper()
		if _, err := s.Prune(context.Background(), false); err != nil || len(s.keptPackages()) != want {
			t.Errorf("%d files are left, not %d (%v)", len(s.keptPackages()), want, err)
		}
	}
	prune(1) // it may be at work
	old := time.Now().Add(-2 * abandoned)
	if err := os.Chtimes(s.keptPackages()[0].path, old, old); err != nil {
		t.Fatal(err)
	}
	prune(0)
}

// TestAListThatIsNotWhatItsAddressSays: somebody between has given another.
func TestAListThatIsNotWhatItsAddressSays(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	p, err := s.Packages(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]bool{"list": true, "lies": false} {
		url := fmt.Sprintf("http://archive.example/dists/x/by-hash/SHA256/%x", sha256.Sum256([]byte("list")))
		f := p.Create(url, 4)
		f.Write([]byte(content))
		f.Keep(true)
		if f := p.Open(url); (f != nil) != want {
			t.Errorf("%q is kept: %v", content, f != nil)
		}
		p.Forget(url)
	}
}

func TestWhatIsNotAllIsNotKept(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	p, err := s.Packages(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	f := p.Create("http://archive.example/a.deb", 4)
	f.Write([]byte("half"))
	f.Keep(false)
	if f := p.Open("http://archive.example/a.deb"); f != nil || len(s.keptPackages()) > 0 {
		t.Errorf("kept: %v", s.keptPackages())
	}
}
