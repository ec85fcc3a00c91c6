package cache

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// bases is a build that notes of which entry it could have made the tree.
func bases(raw []byte, seen *[]string) Build {
	return func(_ context.Context, f *os.File, base *Entry) (Made, error) {
		made := Made{}
		key := "none"
		if base != nil {
			key, made.DerivedFrom = base.Key, &base.Origin
		}
		*seen = append(*seen, key)
		_, err := f.Write(raw)
		return made, err
	}
}

// with are the inputs with packages.
func with(packages ...string) Inputs {
	in := inputs
	in.ExtraPkgs = packages
	return in
}

func TestATreeIsMadeOfTheOneThatHasTheMostOfIt(t *testing.T) {
	s := newStore(t)
	s.Derive = true
	var calls atomic.Int32
	raw := big(t)
	for _, in := range []Inputs{with(), with("a"), with("a", "b"), with("a", "x")} {
		e, err := s.Get(t.Context(), in, writes(raw, &calls))
		must(t, err)
		e.Close()
	}
	other := with("a", "b", "c")
	other.Mirror += "/elsewhere"
	laid := with("a", "b", "c")
	laid.Files = map[string]string{"/etc/site": "x"}
	changed := laid
	changed.Files = map[string]string{"/etc/site": "y"}
	alone := with("a", "b", "c", "e")
	alone.Bootstrapped = true
	for _, c := range []struct {
		name string
		in   Inputs
		want string
	}{
		{"of two packages", with("c", "b", "a"), with("a", "b").Key()},
		{"with a file more, which packages' scripts may read", laid, "none"},
		{"with another content of the file", changed, "none"},
		{"of no package in common", with("z"), with().Key()},
		{"of another mirror", other, "none"},
		{"that is to be bootstrapped", alone, "none"},
	} {
		var seen []string
		e, err := s.Get(t.Context(), c.in, bases(raw, &seen))
		must(t, err)
		e.Close()
		if len(seen) != 1 || seen[0] != c.want {
			t.Errorf("a tree %s: made of %v, want %s", c.name, seen, c.want)
		}
		if (e.DerivedFrom != nil) != (c.want != "none") {
			t.Errorf("a tree %s: derived from %+v", c.name, e.DerivedFrom)
		}
	}
}

func TestWhatIsNoBaseForATree(t *testing.T) {
	raw := big(t)
	for name, spoil := range map[string]func(s *Store, path string){
		"switched off": func(s *Store, _ string) { s.Derive = false },
		"edited":       func(_ *Store, path string) { setTime(t, path, time.Now().Add(time.Hour)) },
		"of unknown making, since its sidecar was lost": func(s *Store, _ string) {
			must(t, os.Remove(s.namesOf(base+".tar").sidecar))
			get(t, *s, noBuild(t), SourceHit).Close()
		},
		"of a clock that was wrong": func(s *Store, _ string) {
			n := s.namesOf(base + ".tar")
			m, err := readSidecar(n.sidecar)
			must(t, err)
			m.Created = time.Now().Add(time.Hour)
			must(t, s.writeSidecar(n, inputs, m))
		},
		"of another format": func(s *Store, _ string) {
			n := s.namesOf(base + ".tar")
			m, err := readSidecar(n.sidecar)
			must(t, err)
			m.Format++
			must(t, s.writeSidecar(n, inputs, m))
		},
		"bootstrapped long ago": func(s *Store, path string) {
			n := s.namesOf(base + ".tar")
			m, err := readSidecar(n.sidecar)
			must(t, err)
			m.Created = m.Created.Add(-longestRow - time.Hour)
			must(t, s.writeSidecar(n, inputs, m))
		},
	} {
		s := newStore(t)
		s.Derive = true
		var calls atomic.Int32
		get(t, s, writes(raw, &calls), SourceBuilt).Close()
		spoil(&s, s.Dir+"/"+base+".tar")
		more := inputs
		more.ExtraPkgs = append(more.ExtraPkgs[:len(more.ExtraPkgs):len(more.ExtraPkgs)], "more")
		var seen []string
		e, err := s.Get(t.Context(), more, bases(raw, &seen))
		must(t, err)
		e.Close()
		if len(seen) != 1 || seen[0] != "none" {
			t.Errorf("%s: made of %v", name, seen)
		}
	}
}

func TestATreePastItsAgeIsMadeOfItselfAndKeepsItsFirstDay(t *testing.T) {
	s := newStore(t)
	s.Derive = true
	var calls atomic.Int32
	raw := big(t)
	first := get(t, s, writes(raw, &calls), SourceBuilt)
	first.Close()
	path := s.Dir + "/" + base + ".tar"
	n := s.namesOf(base + ".tar")
	var seen []string
	for range 3 {
		m, err := readSidecar(n.sidecar)
		must(t, err)
		old := time.Now().AddDate(0, 0, -20)
		setTime(t, path, old)
		st, err := os.Stat(path)
		must(t, err)
		m.MtimeNs = st.ModTime().UnixNano()
		must(t, s.writeSidecar(n, inputs, m))
		s.MaxAgeDays = 14
		e := get(t, s, bases(raw, &seen), SourceBuilt)
		e.Close()
		if e.DerivedFrom == nil || e.DerivedFrom.Key != inputs.Key() || time.Since(e.DerivedFrom.Bootstrapped) > time.Minute {
			t.Fatalf("derived from %+v", e.DerivedFrom)
		}
	}
	if len(seen) != 3 {
		t.Errorf("made of %v", seen)
	}
}
