package cache

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"
)

// A tree that differs from a cached one by further packages alone is made of that: which
// takes seconds, where the base system is unpacked and configured already.

// longestRow is how long after a bootstrap trees are derived from it. What a package's
// upgrade leaves behind in a tree, and a new one hasn't, so stays within bounds. In trees of one
// snapshot nothing is upgraded.
const longestRow = 45 * 24 * time.Hour

// builder is a Build to whom the base is known.
type builder func(ctx context.Context, tarOut *os.File) (Made, error)

func (b Build) on(base *Entry) builder {
	return func(ctx context.Context, tarOut *os.File) (Made, error) { return b(ctx, tarOut, base) }
}

// Base returns the path of the tar that a tree which isn't there would be derived from; ""
// is none.
func (s Store) Base(ctx context.Context, in Inputs) string {
	e := s.baseOf(ctx, in, false)
	if e == nil {
		return ""
	}
	e.Close()
	return e.Path
}

// useBase is baseOf, and notes that the entry is used.
func (s Store) useBase(ctx context.Context, in Inputs, renew bool) *Entry {
	e := s.baseOf(ctx, in, renew)
	if e != nil {
		now := time.Now()
		_ = os.Chtimes(strings.TrimSuffix(e.Path, ".tar")+".json", now, now) // or it goes sooner when room is made
	}
	return e
}

// baseOf returns the entry that has the most of what is wanted and nothing else, of several
// the one that was bootstrapped last; nil is none. It holds no flock, so that it may be
// removed meanwhile: what is open can't be lost. Where the entry that is wanted is there and
// renew doesn't say that it is to be made anew, none is looked for.
func (s Store) baseOf(ctx context.Context, in Inputs, renew bool) (best *Entry) {
	if !s.Generate || !s.Derive || in.Bootstrapped || !renew && s.Peek(in) != "" {
		return nil
	}
	files, err := os.ReadDir(s.Dir)
	if err != nil {
		return nil
	}
	var has sidecar
	for _, file := range files {
		if !sidecarName().MatchString(file.Name()) {
			continue
		}
		m, e := s.openBase(ctx, s.namesOf(strings.TrimSuffix(file.Name(), ".json")+".tar"), in)
		switch {
		case e == nil:
		case best == nil || m.isNearer(has):
			if best != nil {
				best.Close()
			}
			best, has = e, m
		default:
			e.Close()
		}
	}
	return best
}

// isNearer tells whether this tree has more than another of what is wanted.
func (m sidecar) isNearer(other sidecar) bool {
	if here, there := len(canonical(m.Inputs.ExtraPkgs)), len(canonical(other.Inputs.ExtraPkgs)); here != there {
		return here > there
	}
	return m.origin().Bootstrapped.After(other.origin().Bootstrapped)
}

// openBase opens an entry that is as it was published, and that a tree of the inputs may be
// derived from; nil is any other.
func (s Store) openBase(ctx context.Context, n names, in Inputs) (m sidecar, e *Entry) {
	if s.checkFile(ctx, n.sidecar) != nil || s.checkFile(ctx, n.tar) != nil {
		return m, nil
	}
	m, err := readSidecar(n.sidecar)
	age := time.Since(m.origin().Bootstrapped)
	if err != nil || m.Key != n.key || m.Format != treeFormat || m.Edited || m.Adopted || len(m.Lacks) > 0 || age < 0 || age > longestRow && in.Snapshot == "" || !m.Inputs.isPartOf(in) {
		return m, nil
	}
	f, err := os.Open(n.tar)
	if err != nil {
		return m, nil
	}
	if st, err := f.Stat(); err != nil || !m.identical(st) {
		f.Close()
		return m, nil
	}
	return m, &Entry{Path: n.tar, File: f, Key: n.key, SHA256: m.SHA256, Digest: m.SHA256, ContentBytes: m.ContentBytes, Inodes: m.Inodes, Made: m.Made, Origin: m.origin(), Source: SourceHit}
}

// origin is what a tree that is derived from this one says of it.
func (m sidecar) origin() Origin {
	o := Origin{Key: m.Key, SHA256: m.SHA256, Bootstrapped: m.Created}
	if m.DerivedFrom != nil {
		o.Bootstrapped = m.DerivedFrom.Bootstrapped
	}
	return o
}

// isPartOf tells whether packages alone are between the tree of these inputs and another.
func (in Inputs) isPartOf(whole Inputs) bool {
	for _, name := range in.ExtraPkgs {
		if !slices.Contains(whole.ExtraPkgs, name) {
			return false
		}
	}
	in.ExtraPkgs, whole.ExtraPkgs = nil, nil
	return in.Key() == whole.Key()
}
