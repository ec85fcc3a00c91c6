package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/image"
)

// The states of a listed or verified entry.
const (
	StateOK        = "ok"        // as it was published
	StateEdited    = "edited"    // an admin's edit, adopted or to be adopted at the next use
	StateNew       = "new"       // has no sidecar yet: read through at the next use
	StateAdmin     = "admin"     // an admin's own cache-SUITE-ARCH.tar
	StateCorrupt   = "corrupt"   // damaged
	StateAside     = "set aside" // a damaged entry that was replaced
	StateUnchecked = "unchecked" // can't be opened
)

// Listing is an entry as `cache list` shows it.
type Listing struct {
	Path       string    `json:"path"`
	Key        string    `json:"key,omitempty"` // "" for an admin's own tar
	SizeBytes  int64     `json:"size_bytes"`
	ImageBytes int64     `json:"image_bytes"` // what its filesystem images take on the disk
	Images     []string  `json:"images,omitempty"`
	ModTime    time.Time `json:"built"`
	LastUsed   time.Time `json:"last_used,omitzero"`
	AgeDays    int       `json:"age_days"`  // whole days
	Expired    bool      `json:"expired"`   // past its age
	Protected  bool      `json:"protected"` // read-only: never removed for its age or size
	InUse      bool      `json:"in_use"`
	State      string    `json:"state"`
	SHA256     string    `json:"sha256,omitempty"` // of the tar, when it was published; "" where no sidecar tells
	Made
	Inputs *Inputs `json:"inputs,omitempty"` // nil where no sidecar tells
}

// Suite is the suite of the tree.
func (l Listing) Suite() string {
	if l.Inputs != nil {
		return l.Inputs.Suite
	}
	name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(l.Path), "cache-"), ".tar")
	return name[:max(0, strings.LastIndex(name, "-"))]
}

// List returns the entries, by name. A cache folder that is missing has none.
func (s Store) List() ([]Listing, error) {
	dirEntries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list cache: %w", err)
	}
	var out []Listing
	images := imagesIn(s.Dir, dirEntries)
	for _, d := range dirEntries {
		isTar, isAside := tarName().MatchString(d.Name()), corruptName().MatchString(d.Name())
		path := filepath.Join(s.Dir, d.Name())
		st, err := os.Stat(path)
		if err != nil || !st.Mode().IsRegular() || !isTar && !isAside {
			continue
		}
		l := newListing(path, st)
		if isTar {
			l = s.listTar(l, st, images[strings.TrimSuffix(d.Name(), ".tar")])
		}
		out = append(out, l)
	}
	return out, nil
}

func newListing(path string, st fs.FileInfo) Listing {
	return Listing{
		Path: path, SizeBytes: st.Size(), ModTime: st.ModTime(), AgeDays: int(time.Since(st.ModTime()).Hours() / 24),
		Protected: st.Mode()&0o200 == 0, State: StateAside,
	}
}

// listTar describes a tar; one that another takes the place of meanwhile, whose sidecar is the
// other's, is described as that.
func (s Store) listTar(l Listing, st fs.FileInfo, images []string) Listing {
	for range 3 {
		l.Images, l.Expired = images, s.tooOld(l.Path) != ""
		s.describe(&l, filepath.Base(l.Path), st)
		now, err := os.Stat(l.Path)
		if err != nil || sameIdentity(st, now) {
			break
		}
		st, l = now, newListing(l.Path, now)
	}
	return l
}

// describe fills in what the sidecar and the locks tell.
func (s Store) describe(l *Listing, name string, st fs.FileInfo) {
	l.InUse = inUse(l.Path)
	for _, image := range l.Images {
		l.ImageBytes += diskBytes(image)
	}
	n := s.namesOf(name)
	if l.Key = n.key; l.Key == "" {
		l.State = StateAdmin
		return
	}
	if side, err := os.Stat(n.sidecar); err == nil {
		l.LastUsed = side.ModTime()
	}
	m, err := readSidecar(n.sidecar)
	switch {
	case errors.Is(err, fs.ErrPermission):
		l.State = StateUnchecked
		return
	case err != nil:
		l.State = StateNew
		return
	case !m.identical(st) && isDamaged(l.Path, st.Size()):
		l.State = StateCorrupt
	case m.Edited || !m.identical(st):
		l.State = StateEdited
	default:
		l.State = StateOK
	}
	l.Inputs, l.Made, l.SHA256 = &m.Inputs, m.Made, m.SHA256
}

// isDamaged tells whether a file can't be a whole tar, without reading it through.
func isDamaged(path string, size int64) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return checkEnds(f, size) != nil
}

// diskBytes is what a file takes on the disk, in bytes.
func diskBytes(path string) int64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// inUse tells whether somebody holds the flock of an entry.
func inUse(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(tryFlock(f, unix.LOCK_EX), unix.EWOULDBLOCK)
}

// Result is what Verify found out about one entry. Err says what is wrong with
// it, nil is nothing.
type Result struct {
	Path  string
	State string
	Err   error
}

// Verify reads every entry through: the keyed ones must have the sha256 with
// which they were published, the edited and the admin's must be readable tars, the
// images must have their checksums.
// It changes nothing. What is removed meanwhile is left out. The error is that of the cache
// folder, or of ctx.
func (s Store) Verify(ctx context.Context) ([]Result, error) {
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	var out []Result
	for _, l := range list {
		if l.State == StateAside {
			continue
		}
		r := Result{Path: l.Path, State: l.State}
		r.Err = s.verify(ctx, l)
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		out = r.addTo(out)
		for _, path := range l.Images {
			out = Result{Path: path, State: StateOK, Err: verifyImage(ctx, path)}.addTo(out)
		}
	}
	return out, nil
}

// addTo adds a result with the state that its error is, unless that is that its file is gone.
func (r Result) addTo(list []Result) []Result {
	switch {
	case errors.Is(r.Err, fs.ErrNotExist):
		return list
	case errors.Is(r.Err, errChanging):
		r.State = StateUnchecked
	case r.Err != nil:
		r.State = StateCorrupt
	}
	return append(list, r)
}

// verifyImage reads an image through and compares its checksums.
func verifyImage(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := image.Open(f)
	if err != nil {
		return err
	}
	return m.Verify(ctx)
}

func (s Store) verify(ctx context.Context, l Listing) error {
	f, err := openShared(ctx, l.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := readSidecar(strings.TrimSuffix(l.Path, ".tar") + ".json")
	st, statErr := f.Stat()
	if l.Key == "" || err != nil || statErr != nil || !m.identical(st) {
		_, err := measure(ctx, f)
		return err
	}
	sum := &hashReader{ctx: ctx, r: io.NewSectionReader(f, 0, st.Size()), sum: sha256.New()}
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{sum}, make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("read %s: %w", l.Path, err)
	}
	if got := hex.EncodeToString(sum.sum.Sum(nil)); got != m.SHA256 {
		return fmt.Errorf("its sha256 is %s, but %s was published; remove it, so that it is built anew", got, m.SHA256)
	}
	return nil
}
