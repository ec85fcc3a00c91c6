package cache

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A tree that differs from a cached one by further packages alone is made of that: which
// takes seconds, where the base system is unpacked and configured already.

// longestRow is how long after a bootstrap trees are derived from it. What a package's
// upgrade leaves behind in a tree, and a new one hasn't, so stays within bounds.
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

// baseOf returns the entry that has the most of what is wanted and nothing else; nil is
// none. It holds no flock, so that it may be removed meanwhile: what is open can't be lost.
// Where the entry that is wanted is there and renew doesn't say that it is to be made anew,
// none is looked for.
func (s Store) baseOf(ctx context.Context, in Inputs, renew bool) (best *Entry) {
	if !s.Generate || !s.Derive || in.Bootstrapped || !renew && s.Peek(in) != "" {
		return nil
	}
	entries, err := filepath.Glob(filepath.Join(s.Dir, "cache-"+in.Suite+"-"+in.Arch+"-*.json"))
	if err != nil {
		return nil
	}
	var has int
	for _, path := range entries {
		m, err := readSidecar(path)
		if err != nil || m.Edited || len(m.Lacks) > 0 || time.Since(m.origin().Bootstrapped) > longestRow || best != nil && len(m.Inputs.ExtraPkgs) <= has || !m.Inputs.isPartOf(in) {
			continue
		}
		if e := s.openBase(ctx, s.namesOf(m.name()), m); e != nil {
			if best != nil {
				best.Close()
			}
			best, has = e, len(m.Inputs.ExtraPkgs)
		}
	}
	return best
}

// openBase opens an entry that is as it was published.
func (s Store) openBase(ctx context.Context, n names, m sidecar) *Entry {
	if s.checkFile(ctx, n.tar) != nil || s.checkFile(ctx, n.sidecar) != nil {
		return nil
	}
	f, err := os.Open(n.tar)
	if err != nil {
		return nil
	}
	if st, err := f.Stat(); err != nil || !m.identical(st) {
		f.Close()
		return nil
	}
	return &Entry{Path: n.tar, File: f, Key: n.key, SHA256: m.SHA256, Digest: m.SHA256, ContentBytes: m.ContentBytes, Inodes: m.Inodes, Made: m.Made, Origin: m.origin(), Source: SourceHit}
}

// name is that of the tar.
func (m sidecar) name() string {
	return "cache-" + m.Inputs.Suite + "-" + m.Inputs.Arch + "-" + m.Key + ".tar"
}

// origin is what a tree that is derived from this one says of it.
func (m sidecar) origin() Origin {
	o := Origin{Key: m.Key, SHA256: m.SHA256, Bootstrapped: m.Created}
	if m.DerivedFrom != nil {
		o.Bootstrapped = m.DerivedFrom.Bootstrapped
	}
	return o
}

// isPartOf tells whether packages and files alone are between the tree of these inputs and
// another.
func (in Inputs) isPartOf(whole Inputs) bool {
	for _, name := range in.ExtraPkgs {
		if !slices.Contains(whole.ExtraPkgs, name) {
			return false
		}
	}
	for name, text := range in.Files {
		if other, ok := whole.Files[name]; !ok || other != text {
			return false
		}
	}
	return in.withoutExtras().Key() == whole.withoutExtras().Key()
}

func (in Inputs) withoutExtras() Inputs {
	in.ExtraPkgs, in.Files = nil, nil
	return in
}
