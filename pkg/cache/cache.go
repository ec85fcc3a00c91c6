// Package cache keeps root trees as tar files, so that only the first guest of a
// kind has to be bootstrapped.
//
// An entry of ours is cache-SUITE-ARCH-KEY.tar, where KEY stands for everything
// that goes into the tree, with a sidecar cache-SUITE-ARCH-KEY.json that says
// what was published. A file cache-SUITE-ARCH.tar is the admin's own (or one
// that the former shell scripts left) and is used as it is.
//
// The process may be killed at any instruction: an entry is written into a file
// without a name, synced, and linked in whole; a tar without a sidecar is
// read through and adopted at its next use.
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/trust"
)

// ErrNoEntry says that there is no entry and that none is to be made
// (GENERATE_CACHE is not yes): the caller bootstraps straight to the disk.
var ErrNoEntry = errors.New("no cache entry, and none is to be generated")

// treeFormat goes into every key: raise it when what is done to a tree between
// the bootstrap and the packing changes.
const treeFormat = 1

// Inputs is everything that goes into a tree and so into its key. The proxy is
// not among them: it decides how files are fetched, not which.
type Inputs struct {
	Suite       string   `json:"suite"`
	Arch        string   `json:"arch"`
	Mirror      string   `json:"mirror"`       // "" is the tool's own default
	Tool        string   `json:"tool"`         // debootstrap, mmdebstrap
	ToolVersion string   `json:"tool_version"` // as the tool tells it
	Keyring     string   `json:"keyring"`      // sha256 of the archive keyring
	Components  []string `json:"components"`
	ExtraPkgs   []string `json:"extra_pkgs"`
	// Files are laid into the tree before its packages: text by path.
	Files map[string]string `json:"files,omitempty"`
	// Security is where security updates come from: SECURITY_MIRROR's words, or a URL.
	Security string `json:"security"`
	// Snapshot is the moment whose archive the tree is made of, "" is that of its making, and
	// SnapshotMirror where it was, "" is the distribution's own.
	Snapshot       string `json:"snapshot,omitempty"`
	SnapshotMirror string `json:"snapshot_mirror,omitempty"`
	// SiteKeys says that the keyring is a site's own, which the guest then has.
	SiteKeys bool `json:"site_keys,omitempty"`
	// Bus is that of the instance's disks, where the tree had to be looked at for
	// it; "" is the usual one.
	Bus string `json:"bus,omitempty"`
	// RefuseExpired says that an archive that is out of date gives no tree: one that
	// was made while such archives were taken isn't what is asked for then.
	RefuseExpired bool `json:"refuse_expired,omitempty"`
	// Bootstrapped says that the tree must not be derived from another.
	Bootstrapped bool `json:"bootstrapped,omitempty"`
}

// Key returns the first 16 hex digits of the sha256 of the inputs' canonical
// JSON: lists sorted and without doubles, the mirror without a trailing slash.
func (in Inputs) Key() string {
	c := in
	c.Mirror = strings.TrimRight(in.Mirror, "/")
	c.Components, c.ExtraPkgs = canonical(in.Components), canonical(in.ExtraPkgs)
	raw, err := json.Marshal(struct {
		Format int `json:"format"`
		Inputs
	}{treeFormat, c})
	if err != nil { // strings and integers always marshal
		panic(err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

func canonical(list []string) []string {
	c := append([]string{}, list...)
	slices.Sort(c)
	return slices.Compact(c)
}

// Store is a cache folder.
type Store struct {
	Dir        string // where the entries are
	LockDir    string // where the lock files are
	MaxAgeDays int    // entries older than this many days are removed; -1 is never
	Generate   bool   // make entries that are missing; existing ones are used anyway
	Derive     bool   // from an entry that has a part of the packages
	Owner      string // who builds, told to those who wait; "" is "pid N"
	Strict     bool   // refuse what a group or another user than root can change
	StaleOK    bool   // use entries older than MaxAgeDays; Renew and Prune see to them
	MaxBytes   int64  // room for the whole cache, in bytes; 0 is no limit

	// Unreachable asks whether what an incomplete tree lacks is still out of reach, since
	// to build it anew is then for nothing. nil: it is taken to be within reach.
	Unreachable func(context.Context) bool

	// Told are the warnings of files that others can change that were given: each is given
	// once. nil is each time.
	Told map[string]bool

	noTmpfile bool // tests: as on a filesystem without O_TMPFILE
}

// Build writes a tree's tar into a file. base is an entry that the tree may be derived from
// by adding packages; nil is none.
type Build func(ctx context.Context, tarOut *os.File, base *Entry) (Made, error)

// Made is what a Build tells of its tree.
type Made struct {
	// Lacks is what it had to go without because no archive of it could be reached, in
	// words for an admin ("security updates").
	Lacks []string `json:"lacks,omitempty"`
	// DerivedFrom is the entry that packages were added to; nil: it was bootstrapped.
	DerivedFrom *Origin `json:"derived_from,omitempty"`
}

// Origin is the entry that a tree was derived from.
type Origin struct {
	Key          string    `json:"key"`
	SHA256       string    `json:"sha256"`
	Bootstrapped time.Time `json:"bootstrapped"` // the first in the row
}

// How an Entry came to be used.
const (
	SourceHit      = "hit"      // it was there
	SourceBuilt    = "built"    // it was built by this call
	SourceEdited   = "edited"   // an entry of ours that an admin has changed
	SourceAdmin    = "admin"    // cache-SUITE-ARCH.tar
	SourceFallback = "fallback" // cache-SUITE-ARCH.tar, since building failed
)

// Entry is a tree ready to be unpacked. While it is open it can't expire.
type Entry struct {
	Path         string
	File         *os.File // open for reading, at its start; holds a shared flock
	Key          string   // "" for an admin's own tar
	SHA256       string   // of the tar, as it was published; "" for an admin's own
	Seen         string   // of all of the tar, as it was unpacked; "" before
	Digest       string   // stands for the content: SHA256, or what is read of an admin's own
	ContentBytes int64    // room the tree takes in blocks of 4096 bytes
	Inodes       int64    // files, folders and other nodes; a hard link is none
	HasKernel    bool     // an admin's own tar has one in /boot
	HasEtc       bool     // and an /etc at its top, as a root filesystem has
	Made                  // as Build returned it
	Origin       Origin   // what is derived from it tells
	Source       string   // hit, built, edited, admin, fallback
}

// Close closes the file and so frees the entry.
func (e *Entry) Close() error { return e.File.Close() }

// Get returns the entry for the inputs. A missing one is made by build, which
// writes a tar into the file it is given: one builder at a time for a key, the
// others wait for it (cancelled with ctx), say so after 2 s and every 30 s, and
// use what was built. A build that fails falls back on the admin's tar, where
// there is one. Without Generate a missing entry is ErrNoEntry.
//
// One that lacks something is built anew after a day. Until that has come to be it
// stays in use, so that an archive that is out of reach again takes nothing away.
func (s Store) Get(ctx context.Context, in Inputs, build Build) (*Entry, error) {
	n, err := s.names(in)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	if in.Snapshot != "" { // or it is removed for its age, and made again as it was
		now := time.Now()
		_ = os.Chtimes(n.sidecar, now, now)
	}
	base := s.useBase(ctx, in, false) // before it is removed for its age
	if base != nil {
		defer base.Close()
	}
	if _, err := s.Clean(ctx); err != nil {
		zerolog.Ctx(ctx).Warn().Err(err).Msg("cache clean-up is not complete")
	}
	if s.adminWins(n) {
		return s.useAdmin(ctx, n, SourceAdmin)
	}
	renewed, err := s.renewIncomplete(ctx, n, in, build)
	if err != nil {
		return nil, err
	}
	e, err := s.keyed(ctx, n, in, build.on(base))
	if err == nil {
		if renewed {
			e.Source = SourceBuilt
		}
		s.used(ctx, n, e)
		return e, nil
	}
	if errors.Is(err, ErrNoEntry) || trust.IsRefused(err) || ctx.Err() != nil {
		return nil, err
	}
	e, adminErr := s.useAdmin(ctx, n, SourceFallback)
	if errors.Is(adminErr, fs.ErrNotExist) {
		return nil, err
	}
	if adminErr != nil {
		return nil, errors.Join(err, adminErr)
	}
	zerolog.Ctx(ctx).Warn().Err(err).Msgf("building %s failed, using %s instead", n.base, n.admin)
	return e, nil
}

// used notes that an entry is used, says when it is too old, and makes room for a
// new one.
func (s Store) used(ctx context.Context, n names, e *Entry) {
	log, now := zerolog.Ctx(ctx), time.Now()
	// The sidecar's own time is that of the last use: access times may be off.
	if err := os.Chtimes(n.sidecar, now, now); err != nil {
		log.Debug().Err(err).Msg("the use of the cache entry is not noted")
	}
	if why := s.tooOld(n.tar); why != "" && s.StaleOK {
		log.Info().Msgf("%s is %s: used all the same (CACHE_STALE_OK); `cache warm --expired` builds it anew", n.tar, why)
	}
	if e.Source == SourceBuilt {
		s.MakeRoom(ctx)
	}
}

// prepare makes the folders. A cache folder that is missing and isn't to be
// made is an empty cache.
func (s Store) prepare(ctx context.Context) error {
	if _, err := os.Stat(s.Dir); errors.Is(err, fs.ErrNotExist) {
		if !s.Generate {
			return ErrNoEntry
		}
		if err := makeDir(s.Dir, 0o755); err != nil {
			return fmt.Errorf("make cache folder: %w", withRemedy(err))
		}
	}
	if err := makeDir(s.LockDir, 0o700); err != nil {
		return fmt.Errorf("make lock folder: %w", err)
	}
	return s.checkFolder(ctx)
}

// makeDir makes a folder that is missing, with this mode whatever the umask.
func makeDir(dir string, mode os.FileMode) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, mode)
}

// keyed returns the entry under the inputs' own key, all under the key's lock.
func (s Store) keyed(ctx context.Context, n names, in Inputs, build builder) (*Entry, error) {
	lock, err := s.lock(ctx, n.base)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	n.sweep()
	built := false
	for range 3 { // again only when somebody else puts a file there or takes it away
		e, err := s.use(ctx, n, in)
		if err == nil && built {
			e.Source = SourceBuilt
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return e, err
		}
		if !s.Generate {
			return nil, ErrNoEntry
		}
		s.announce(lock)
		err = s.build(ctx, n, in, build)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		built = err == nil
	}
	return nil, fmt.Errorf("cache entry %s: keeps coming and going; is another program writing into %s?", n.tar, s.Dir)
}

// adminWins tells whether the admin's own tar goes before the keyed entry: when
// it is read-only or newer, or when there is no keyed one.
func (s Store) adminWins(n names) bool {
	admin, err := os.Stat(n.admin)
	if err != nil || !admin.Mode().IsRegular() {
		return false
	}
	ours, err := os.Stat(n.tar)
	return err != nil || admin.Mode()&0o200 == 0 || admin.ModTime().After(ours.ModTime())
}

// adminFault is why an admin's own tar, which is never replaced, can't be used.
func adminFault(path string, err error) error {
	return fmt.Errorf("cache entry %s, which an admin put there: %w; repair it or remove it", path, err)
}

// useAdmin opens the admin's own tar.
func (s Store) useAdmin(ctx context.Context, n names, source string) (*Entry, error) {
	if err := s.checkFile(ctx, n.admin); err != nil {
		return nil, err
	}
	f, err := openShared(ctx, n.admin)
	if err != nil {
		return nil, fmt.Errorf("open cache entry: %w", err)
	}
	found, err := scanFile(ctx, f)
	var digest string
	if err == nil {
		digest, err = adminDigest(f)
	}
	if err != nil {
		f.Close()
		return nil, adminFault(n.admin, err)
	}
	if source == SourceAdmin {
		zerolog.Ctx(ctx).Info().Msgf("using %s as it is", n.admin)
	}
	return &Entry{Path: n.admin, File: f, Digest: digest, ContentBytes: found.contentBytes, Inodes: found.inodes, HasKernel: found.kernel, HasEtc: found.etc, Source: source}, nil
}
