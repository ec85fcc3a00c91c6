package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// Garbage is a file that Prune removes, with what belongs to it.
type Garbage struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"` // that it takes on the disk, with what belongs to it
	Why   string `json:"why"`
}

// abandoned is the age from which on nobody writes to a temporary file any more.
const abandoned = 24 * time.Hour

// Prune removes what is of no more use: tars past their age, damaged ones, what has
// lost its tar, what killed runs left, and then the least recently used entries
// until the cache takes no more than MaxBytes. What is read-only, in use or being
// built stays. A dry run only tells.
func (s Store) Prune(ctx context.Context, dryRun bool) ([]Garbage, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = makeDir(s.LockDir, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("prune cache: %w", err)
	}
	var out []Garbage
	var faults []error
	images := imagesIn(s.Dir, entries)
	for _, d := range entries {
		base, ok := s.lockBase(d.Name())
		if !ok || ctx.Err() != nil {
			continue
		}
		g := Garbage{Path: filepath.Join(s.Dir, d.Name()), Why: s.useless(d)}
		if g.Why == "" {
			continue
		}
		g.Bytes = s.entryBytes(d.Name(), images)
		gone, err := s.removeUnless(dryRun, d.Name(), base)
		if err != nil {
			faults = append(faults, fmt.Errorf("prune cache: %w", err))
		}
		if gone {
			out = append(out, g)
		}
	}
	out = append(out, s.oldPackages(dryRun)...)
	more, err := s.trim(ctx, dryRun, out)
	return append(out, more...), errors.Join(append(faults, err, context.Cause(ctx))...)
}

// removeUnless is remove, or in a dry run only tells whether it would.
func (s Store) removeUnless(dryRun bool, name, base string) (bool, error) {
	writable := func(st fs.FileInfo) bool { return st.Mode().IsRegular() && st.Mode()&0o200 != 0 }
	if !dryRun {
		return s.remove(name, base, writable)
	}
	path := filepath.Join(s.Dir, name)
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) { // another run was first
		return false, nil
	}
	if err != nil {
		return false, err
	}
	lock, err := s.tryLock(base)
	if err != nil || lock == nil {
		return false, err
	}
	defer lock.Close()
	return writable(st) && !inUse(path), nil
}

// useless says why a file of the cache is of no more use, "" is that it is.
func (s Store) useless(d fs.DirEntry) string {
	name := d.Name()
	path := filepath.Join(s.Dir, name)
	st, err := d.Info()
	switch {
	case err != nil || !st.Mode().IsRegular():
		return ""
	case corruptName().MatchString(name):
		return "damaged, and replaced"
	case tempName().MatchString(name):
		if time.Since(st.ModTime()) < abandoned {
			return ""
		}
		return "left by a run that was ended"
	case !tarName().MatchString(name): // lockBase names only those that have lost their tar
		return "its tar is gone"
	}
	if s.isOld(path) { // not one that is only incomplete: it is in use until there is a better one
		return s.tooOld(path)
	}
	if err := s.sampleTar(name, st); err != nil {
		return "damaged: " + err.Error()
	}
	return ""
}

// sampleTar compares samples of a keyed tar that looks as it was published.
func (s Store) sampleTar(name string, st fs.FileInfo) error {
	n := s.namesOf(name)
	m, err := readSidecar(n.sidecar)
	if n.key == "" || err != nil || !m.identical(st) {
		return nil
	}
	f, err := os.Open(n.tar)
	if err != nil {
		return nil
	}
	defer f.Close()
	return m.checkChunks(f)
}

// entryBytes is what a file takes on the disk, in bytes, and a tar's sidecar and
// images with it.
func (s Store) entryBytes(name string, images map[string][]string) int64 {
	path := filepath.Join(s.Dir, name)
	total := diskBytes(path)
	if tarName().MatchString(name) {
		total += diskBytes(s.namesOf(name).sidecar)
		for _, image := range images[strings.TrimSuffix(name, ".tar")] {
			total += diskBytes(image)
		}
	}
	return total
}

// MakeRoom removes old packages, and keeps the cache below MaxBytes after something was added.
func (s Store) MakeRoom(ctx context.Context) {
	log := zerolog.Ctx(ctx)
	old := s.oldPackages(false)
	gone, err := s.trim(ctx, false, nil)
	for _, g := range append(old, gone...) {
		log.Info().Msgf("removed %s: %s", g.Path, g.Why)
	}
	if err != nil {
		log.Warn().Err(err).Msg("the cache may be larger than CACHE_MAX_SIZE")
	}
}

// entryUse is a keyed entry, and when it was used last.
type entryUse struct {
	name, base string
	bytes      int64
	used       time.Time
}

// trim removes packages and then keyed entries, the least recently used first, until the
// cache takes no more than MaxBytes; gone is what a dry run has taken away already. An admin's
// own tars count, and stay.
func (s Store) trim(ctx context.Context, dryRun bool, gone []Garbage) ([]Garbage, error) {
	if s.MaxBytes <= 0 {
		return nil, nil
	}
	entries, total, err := s.uses(dryRun, gone)
	if err != nil {
		return nil, fmt.Errorf("make room in the cache: %w", err)
	}
	out, bytes := s.trimPackages(dryRun, total-s.MaxBytes)
	total -= bytes
	var faults []error
	for _, e := range entries {
		if total <= s.MaxBytes || ctx.Err() != nil {
			break
		}
		ok, err := s.removeUnless(dryRun, e.name, e.base)
		if err != nil {
			faults = append(faults, err)
		}
		if ok {
			total -= e.bytes
			out = append(out, Garbage{Path: filepath.Join(s.Dir, e.name), Bytes: e.bytes,
				Why: fmt.Sprintf("last used on %s, and the cache is larger than CACHE_MAX_SIZE", e.used.Format(time.DateOnly))})
		}
	}
	if total > s.MaxBytes {
		zerolog.Ctx(ctx).Warn().Msgf("the cache takes %d MiB, more than CACHE_MAX_SIZE: the rest is in use, read-only, or an admin's own", total>>20)
	}
	return out, errors.Join(faults...)
}

// uses lists the keyed entries, the least recently used first, and what the whole
// cache takes.
func (s Store) uses(dryRun bool, gone []Garbage) (out []entryUse, total int64, err error) {
	dirEntries, err := os.ReadDir(s.Dir)
	if err != nil {
		return nil, 0, err
	}
	images, away := imagesIn(s.Dir, dirEntries), map[string]bool{}
	for _, g := range gone {
		away[filepath.Base(g.Path)] = dryRun
	}
	for _, d := range dirEntries {
		path := filepath.Join(s.Dir, d.Name())
		base, _ := s.lockBase(d.Name())
		if away[d.Name()] || away[base+".tar"] || !strings.HasPrefix(strings.TrimPrefix(d.Name(), "."), "cache-") {
			continue
		}
		total += diskBytes(path)
		if !keyedName().MatchString(d.Name()) {
			continue
		}
		n := s.namesOf(d.Name())
		e := entryUse{name: d.Name(), base: n.base, bytes: s.entryBytes(d.Name(), images)}
		for _, p := range []string{n.tar, n.sidecar} {
			if st, err := os.Stat(p); err == nil && st.ModTime().After(e.used) {
				e.used = st.ModTime()
			}
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b entryUse) int { return a.used.Compare(b.used) })
	_, packages, _ := s.packagesByAge() // the old ones go in any case
	for _, p := range packages {
		total += p.bytes
	}
	return out, total, nil
}
