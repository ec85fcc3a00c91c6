package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// Clean removes entries older than MaxAgeDays with their sidecars, and by the
// same rule what damage, killed runs and the former shell scripts left. It
// returns the paths removed. Read-only files (chmod u-w), entries in use and
// entries being built stay. With MaxAgeDays -1 nothing is removed, with StaleOK no
// tar.
func (s Store) Clean(ctx context.Context) ([]string, error) {
	if s.MaxAgeDays < 0 {
		return nil, nil
	}
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("clean cache: %w", err)
	}
	var removed []string
	var faults []error
	limit := s.oldest(time.Now())
	for _, d := range entries {
		base, ok := s.lockBase(d.Name())
		stays := tarName().MatchString(d.Name()) && (s.StaleOK || s.usedAgain(d.Name(), limit))
		if !ok || stays || !expired(d, limit) || ctx.Err() != nil {
			continue
		}
		gone, err := s.remove(d.Name(), base, func(st fs.FileInfo) bool { return old(st, limit) })
		if err != nil {
			faults = append(faults, fmt.Errorf("clean cache: %w", err))
		}
		if gone {
			path := filepath.Join(s.Dir, d.Name())
			removed = append(removed, path)
			zerolog.Ctx(ctx).Info().Msgf("removed %s: older than %d days", path, s.MaxAgeDays)
		}
	}
	return removed, errors.Join(append(faults, context.Cause(ctx))...)
}

// isOld tells whether a tar is past its age.
func (s Store) isOld(path string) bool {
	st, err := os.Lstat(path)
	limit := s.oldest(time.Now())
	return err == nil && s.MaxAgeDays >= 0 && old(st, limit) && !s.usedAgain(filepath.Base(path), limit)
}

// usedAgain tells whether a tar is of a snapshot and was used since. Made anew it would be the
// same, so that its age is that of its last use.
func (s Store) usedAgain(name string, limit time.Time) bool {
	n := s.namesOf(name)
	if n.key == "" {
		return false
	}
	m, err := readSidecar(n.sidecar)
	if err != nil || m.Inputs.Snapshot == "" {
		return false
	}
	st, err := os.Stat(n.sidecar)
	return err == nil && !st.ModTime().Before(limit)
}

// incompleteLife is how long a tree that lacks something is used, whatever MaxAgeDays
// says, before Get and Renew build it anew.
const incompleteLife = 24 * time.Hour

// isIncomplete tells whether a tar has lacked something for longer than that. An
// admin's edit, and a read-only file, are left alone.
func (s Store) isIncomplete(path string) bool {
	st, err := os.Lstat(path)
	if err != nil || !old(st, time.Now().Add(-incompleteLife)) {
		return false
	}
	m, err := readSidecar(s.namesOf(filepath.Base(path)).sidecar)
	return err == nil && len(m.Lacks) > 0 && !m.Edited && m.identical(st)
}

// tooOld says in what way a tar is past its age, "" is that it isn't.
func (s Store) tooOld(path string) string {
	switch {
	case s.isOld(path):
		return fmt.Sprintf("older than %d days", s.MaxAgeDays)
	case s.isIncomplete(path):
		return "older than a day, and without " + strings.Join(s.Lacks(path), " and ")
	}
	return ""
}

// Lacks is what the tree of a tar lacks, as its sidecar tells.
func (s Store) Lacks(path string) []string {
	m, err := readSidecar(s.namesOf(filepath.Base(path)).sidecar)
	if err != nil {
		return nil
	}
	return m.Lacks
}

// oldest is the time before which a file is too old: that of find(1)'s
// -daystart -mtime +N, N days before the last midnight.
func (s Store) oldest(now time.Time) time.Time {
	y, m, d := now.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, now.Location()).Add(-time.Duration(s.MaxAgeDays) * 24 * time.Hour)
}

// expired tells whether a file is too old and may be removed.
func expired(d fs.DirEntry, limit time.Time) bool {
	st, err := d.Info()
	return err == nil && old(st, limit)
}

func old(st fs.FileInfo, limit time.Time) bool {
	return st.Mode().IsRegular() && st.Mode()&0o200 != 0 && st.ModTime().Before(limit)
}

// lockBase returns the name of the lock that guards a file of the cache, and
// whether the file is one of those that expire. A sidecar and an image go with
// their tar, on their own only when they have lost that.
func (s Store) lockBase(name string) (string, bool) {
	switch {
	case tarName().MatchString(name):
		return strings.TrimSuffix(name, ".tar"), true
	case corruptName().MatchString(name):
		return strings.TrimSuffix(name, ".tar.corrupt"), true
	case sidecarName().MatchString(name):
		base := strings.TrimSuffix(name, ".json")
		_, err := os.Lstat(filepath.Join(s.Dir, base+".tar"))
		return base, errors.Is(err, fs.ErrNotExist)
	case imageName().MatchString(name):
		base := imageName().FindStringSubmatch(name)[1]
		_, err := os.Lstat(filepath.Join(s.Dir, base+".tar"))
		return base, errors.Is(err, fs.ErrNotExist)
	case tempName().MatchString(name):
		if m := imageName().FindStringSubmatch(strings.TrimSuffix(strings.TrimPrefix(name, "."), ".tmp")); m != nil {
			return m[1], true
		}
		base, _, _ := strings.Cut(strings.TrimPrefix(name, "."), ".tar")
		return strings.TrimSuffix(base, ".json.tmp"), true
	}
	return "", false
}

// remove removes one file, a tar with what belongs to it, if that is still meant to
// go, unless somebody builds or uses it.
func (s Store) remove(name, base string, goes func(fs.FileInfo) bool) (bool, error) {
	lock, err := s.tryLock(base)
	if err != nil || lock == nil {
		return false, err
	}
	defer lock.Close()
	gone, err := s.removeLocked(name, goes)
	if errors.Is(err, fs.ErrNotExist) { // another run, or an admin, was first
		return false, nil
	}
	return gone, err
}

// removeLocked is remove; the key's lock is held.
func (s Store) removeLocked(name string, goes func(fs.FileInfo) bool) (bool, error) {
	path := filepath.Join(s.Dir, name)
	// flock over NFS wants a descriptor that may write for an exclusive lock.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if err := tryFlock(f, unix.LOCK_EX); err != nil && !noFlock(err) {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		return false, fmt.Errorf("flock %s: %w", path, err)
	}
	// Again, now that nobody else is at it.
	if st, err := os.Lstat(path); err != nil || !goes(st) {
		return false, err
	}
	if keyedName().MatchString(name) {
		// First the sidecar: a tar without one is adopted, should we die here.
		if err := os.Remove(s.namesOf(name).sidecar); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	if tarName().MatchString(name) {
		for _, image := range Images(path) {
			if err := os.Remove(image); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return false, err
			}
		}
	}
	return true, os.Remove(path)
}
