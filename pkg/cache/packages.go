package cache

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/pattern"
)

// packagesDir is the folder of the cache with what bootstraps have fetched: packages, and
// lists of them, which an archive doesn't change under one address. A file is named
// ADDRESS-CONTENT-NAME by the digests of its address and of its content, so that one that was
// damaged isn't given out. Whether it is what the archive meant, the tools look by themselves,
// as they do with all that is fetched; so nothing has to be durable here.
const packagesDir = "packages"

// packageName is what a file there is called.
var packageName = pattern.New(`^([0-9a-f]{32})-([0-9a-f]{64})-([A-Za-z0-9%._+~-]{1,100})$`)

// newPackage begins the names of files that are being written, where O_TMPFILE is missing.
const newPackage = ".new-"

// byHash are the addresses of lists by their digests ("Debian Repository Format").
var byHash = pattern.New(`/by-hash/SHA256/([0-9a-f]{64})$`)

// Packages is what bootstraps have fetched.
type Packages struct {
	store Store
	dir   string
	mu    sync.Mutex
	names map[string]string // of files, by the digests of their addresses
}

// Packages opens the folder of packages. The first that is kept makes it.
func (s Store) Packages(ctx context.Context) (*Packages, error) {
	p := &Packages{store: s, dir: filepath.Join(s.Dir, packagesDir), names: map[string]string{}}
	if err := s.checkFile(ctx, packagesDir); err != nil {
		return nil, fmt.Errorf("folder of packages: %w", err)
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("folder of packages: %w", err)
	}
	for _, e := range entries {
		if m := packageName().FindStringSubmatch(e.Name()); m != nil {
			p.names[m[1]] = e.Name()
		}
	}
	return p, nil
}

func addressOf(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:16])
}

// Open returns what was fetched from an address, nil is nothing.
func (p *Packages) Open(url string) *os.File {
	name := p.name(url)
	if name == "" {
		return nil
	}
	f, err := os.Open(filepath.Join(p.dir, name))
	if err != nil {
		return nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil || hex.EncodeToString(sum.Sum(nil)) != packageName().FindStringSubmatch(name)[2] {
		f.Close()
		p.Forget(url)
		return nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		f.Close()
		return nil
	}
	now := time.Now()
	_ = os.Chtimes(f.Name(), now, now) // the time of its last use; without it, it is removed sooner
	return f
}

func (p *Packages) name(url string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.names[addressOf(url)]
}

// Forget removes what was fetched from an address.
func (p *Packages) Forget(url string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if name := p.names[addressOf(url)]; name != "" {
		_ = os.Remove(filepath.Join(p.dir, name)) // another run may have been first
	}
	delete(p.names, addressOf(url))
}

// Fetched is a file that is being fetched. What it can't take, for want of space, it does
// without: then nothing is kept.
type Fetched struct {
	packages *Packages
	url      string
	file     *scratch
	sum      hash.Hash
	failed   bool
}

// freeBytes is what the cache's filesystem must have free for packages to be kept: they are to
// take no room from trees.
const freeBytes = 2 << 30

// Create begins to keep what is fetched from an address, so many bytes; nil is that it can't.
func (p *Packages) Create(url string, bytes int64) *Fetched {
	var st unix.Statfs_t
	if unix.Statfs(p.store.Dir, &st) != nil || int64(st.Bavail)*int64(st.Bsize)-bytes < freeBytes {
		return nil
	}
	temp := filepath.Join(p.dir, newPackage+rand.Text())
	if makeDir(p.dir, 0o700) != nil {
		return nil
	}
	file, err := p.store.scratchAs(filepath.Join(p.dir, "new"), temp)
	if err != nil {
		return nil
	}
	return &Fetched{packages: p, url: url, file: file, sum: sha256.New()}
}

// Write takes what comes next. It never fails.
func (f *Fetched) Write(b []byte) (int, error) {
	if !f.failed {
		f.sum.Write(b)
		_, err := f.file.f.Write(b)
		f.failed = err != nil
	}
	return len(b), nil
}

// Keep ends it, and keeps what was written if that is all.
func (f *Fetched) Keep(all bool) {
	defer f.file.discard()
	if !all || f.failed {
		return
	}
	p := f.packages
	if digest := byHash().FindStringSubmatch(f.url); digest != nil && digest[1] != hex.EncodeToString(f.sum.Sum(nil)) {
		return // the archive, or who is between, has given something else
	}
	last := path.Base(f.url)
	last = strings.Map(func(r rune) rune {
		if strings.ContainsRune("%._+~-", r) || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, last)
	name := fmt.Sprintf("%s-%x-%s", addressOf(f.url), f.sum.Sum(nil), last[:min(100, len(last))])
	if !packageName().MatchString(name) {
		return
	}
	f.file.final = filepath.Join(p.dir, name)
	if err := f.file.link(); err != nil && !os.IsExist(err) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.names[addressOf(f.url)] = name
}

// keptPackage is a file in the folder of packages.
type keptPackage struct {
	path  string
	temp  bool // of a run that is at work, or was ended
	bytes int64
	used  time.Time
}

// keptPackages lists the files, the least recently used first.
func (s Store) keptPackages() (list []keptPackage) {
	dir := filepath.Join(s.Dir, packagesDir)
	entries, _ := os.ReadDir(dir) // without the folder there is none
	for _, e := range entries {
		temp := strings.HasPrefix(e.Name(), newPackage)
		if st, err := e.Info(); err == nil && st.Mode().IsRegular() && (temp || packageName().MatchString(e.Name())) {
			path := filepath.Join(dir, e.Name())
			list = append(list, keptPackage{path, temp, diskBytes(path), st.ModTime()})
		}
	}
	slices.SortFunc(list, func(a, b keptPackage) int { return a.used.Compare(b.used) })
	return list
}

// removePackages removes the files, or in a dry run only tells.
func (s Store) removePackages(dryRun bool, list []keptPackage, why string) (gone []Garbage, bytes int64) {
	count := 0
	for _, p := range list {
		if dryRun || os.Remove(p.path) == nil {
			count, bytes = count+1, bytes+p.bytes
		}
	}
	if count == 0 {
		return nil, 0
	}
	return []Garbage{{Path: filepath.Join(s.Dir, packagesDir), Bytes: bytes, Why: fmt.Sprintf("%d packages %s", count, why)}}, bytes
}

// longestDays is how long a package is kept unused where trees live for ever.
const longestDays = 45

// packagesByAge parts those that no bootstrap has used for as long as a tree lives, and what
// killed runs left, from the others.
func (s Store) packagesByAge() (old, others []keptPackage, days int) {
	if days = s.MaxAgeDays; days < 0 {
		days = longestDays
	}
	limit := Store{MaxAgeDays: days}.oldest(time.Now()) // with 0, today's stay, as today's trees do
	for _, p := range s.keptPackages() {
		if p.temp && time.Since(p.used) > abandoned || !p.temp && p.used.Before(limit) {
			old = append(old, p)
		} else {
			others = append(others, p)
		}
	}
	return old, others, days
}

// oldPackages removes the old ones.
func (s Store) oldPackages(dryRun bool) []Garbage {
	old, _, days := s.packagesByAge()
	gone, _ := s.removePackages(dryRun, old, fmt.Sprintf("that no bootstrap has used for %d days", days))
	return gone
}

// trimPackages removes packages that aren't old until the cache is that many bytes smaller.
func (s Store) trimPackages(dryRun bool, bytes int64) ([]Garbage, int64) {
	var out []keptPackage
	_, others, _ := s.packagesByAge()
	for _, p := range others {
		if bytes <= 0 {
			break
		}
		if !p.temp {
			out, bytes = append(out, p), bytes-p.bytes
		}
	}
	return s.removePackages(dryRun, out, "that the last bootstraps used least: the cache is larger than CACHE_MAX_SIZE")
}

// Kept tells how many packages the cache keeps, and their size on the disk in bytes.
func (s Store) Kept() (count int, bytes int64) {
	for _, p := range s.keptPackages() {
		count, bytes = count+1, bytes+p.bytes
	}
	return count, bytes
}
