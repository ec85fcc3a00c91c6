package cache

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// An exported entry is a tar of two members: the sidecar, which says what the tree
// is made of and its sha256, and the tree's own tar.

// Export writes the entry that has the key, or whose key begins with it, to out.
func (s Store) Export(ctx context.Context, key string, out io.Writer) error {
	n, m, e, err := s.openPublished(ctx, key)
	if err != nil {
		return err
	}
	defer e.Close()
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	built := time.Unix(0, m.MtimeNs)
	w := tar.NewWriter(out)
	if err := w.WriteHeader(&tar.Header{Name: n.base + ".json", Mode: 0o600, Size: int64(len(raw)), ModTime: built}); err != nil {
		return err
	}
	if _, err := w.Write(raw); err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: n.base + ".tar", Mode: 0o600, Size: m.Size, ModTime: built}); err != nil {
		return err
	}
	sum := &hashReader{ctx: ctx, r: io.NewSectionReader(e.File, 0, m.Size), sum: sha256.New()}
	if _, err := io.Copy(w, sum); err != nil {
		return fmt.Errorf("export %s: %w", n.tar, err)
	}
	if got := hex.EncodeToString(sum.sum.Sum(nil)); got != m.SHA256 {
		return fmt.Errorf("export %s: it is damaged, its sha256 is %s and not %s: what was written is of no use; remove the entry, so that it is built anew", n.tar, got, m.SHA256)
	}
	return w.Close()
}

// openPublished opens the entry that has the key, or whose key begins with it, with what is
// known of it.
func (s Store) openPublished(ctx context.Context, key string) (n names, m sidecar, e *Entry, err error) {
	if n, err = s.find(key); err == nil {
		err = s.checkFolder(ctx)
	}
	if err != nil {
		return n, m, nil, err
	}
	lock, err := s.lock(ctx, n.base)
	if err != nil {
		return n, m, nil, err
	}
	defer lock.Close()
	if m, err = readSidecar(n.sidecar); err == nil {
		e, err = s.use(ctx, n, m.Inputs)
	}
	if err == nil {
		if m, err = readSidecar(n.sidecar); err != nil { // which an edit has changed
			e.Close()
		}
	}
	if err != nil {
		return n, m, nil, fmt.Errorf("cache entry %s: %w; an entry that nothing is known of is an admin's own, a plain tar to copy", n.tar, err)
	}
	return n, m, e, nil
}

// find returns the one entry that has this file name, or whose key begins with the text.
func (s Store) find(key string) (names, error) {
	list, err := s.List()
	if err != nil {
		return names{}, err
	}
	var found []names
	for _, l := range list {
		if l.Key != "" && key != "" && strings.HasPrefix(l.Key, keyIn(key)) {
			found = append(found, s.namesOf(filepath.Base(l.Path)))
		}
	}
	switch len(found) {
	case 0:
		return names{}, fmt.Errorf("no cache entry has a key that begins with %q: `cache list` shows them", key)
	case 1:
		return found[0], nil
	}
	return names{}, fmt.Errorf("%d cache entries have keys that begin with %q: give more of it", len(found), key)
}

// Incoming says where an imported tar goes.
type Incoming struct {
	Suite, Arch string // of a plain tar of a tree; an exported entry has its own
	Force       bool   // in the place of one that is there
}

// ErrSame says that the entry is there already, the same.
var ErrSame = errors.New("it is there already")

// Import puts an exported entry, or a plain tar of a tree, into the cache, whole or
// not at all, and returns its path. A plain tar becomes cache-SUITE-ARCH.tar, the
// admin's own. An entry that is there is replaced by a newer one of the same key, a
// plain tar or an older entry only with Force. One that is there already isn't read: the path
// comes with ErrSame.
func (s Store) Import(ctx context.Context, in io.Reader, how Incoming) (string, error) {
	if err := s.prepare(ctx); err != nil {
		return "", err
	}
	r := bufio.NewReaderSize(in, 1<<20)
	head, err := r.Peek(100) // a ustar header begins with the member's name
	if errors.Is(err, io.EOF) {
		return "", errors.New("it is too short for a tar: copy it anew, whole")
	} else if err != nil {
		return "", err
	}
	name, _, _ := bytes.Cut(head, []byte{0})
	if sidecarName().Match(name) {
		return s.importEntry(ctx, tar.NewReader(r), how)
	}
	return s.importTree(ctx, r, how)
}

// importTree takes a plain tar.
func (s Store) importTree(ctx context.Context, in io.Reader, how Incoming) (string, error) {
	if how.Suite == "" {
		return "", errors.New("this is no exported entry: say which suite the tree is of (--suite)")
	}
	n, err := s.names(Inputs{Suite: how.Suite, Arch: how.Arch})
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(n.admin); err == nil && !how.Force {
		return "", fmt.Errorf("%s is there already: --force replaces it", n.admin)
	}
	own := s.namesOf(filepath.Base(n.admin))
	lock, err := s.lock(ctx, own.base)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	t, err := s.scratchAs(own.tar, own.besidePath())
	if err != nil {
		return "", err
	}
	defer t.discard()
	if err := copyTo(ctx, struct{ io.Writer }{t.f}, in); err != nil {
		return "", err
	}
	found, err := scanFile(ctx, t.f)
	if err != nil {
		return "", err
	}
	if !found.etc {
		return "", errors.New("this is no root filesystem, or one that lies in a folder: there is no /etc at its top (tar -C FOLDER -cf FILE . writes one that has it); a backup of export is none either")
	}
	return own.tar, t.replace(own.besidePath())
}

// copyTo writes what is read to the end, until ctx is done.
func copyTo(ctx context.Context, out io.Writer, in io.Reader) error {
	_, err := io.CopyBuffer(out, readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return in.Read(p)
	}), make([]byte, 1<<20))
	return err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// importEntry takes what Export wrote.
func (s Store) importEntry(ctx context.Context, in *tar.Reader, how Incoming) (string, error) {
	n, m, err := s.readEntry(in)
	if err != nil {
		return "", err
	}
	renewing, err := s.tryLock(n.base + ".renew")
	if err != nil {
		return "", err
	}
	if renewing == nil {
		return "", fmt.Errorf("cache entry %s: %w", n.base, ErrRenewing)
	}
	defer renewing.Close()
	here, sideErr := readSidecar(n.sidecar)
	if st, err := os.Stat(n.tar); err == nil && sideErr == nil { // a tar may have been removed, or edited
		switch {
		case here.SHA256 == m.SHA256 && here.identical(st):
			return n.tar, ErrSame
		case here.MtimeNs >= m.MtimeNs && !how.Force:
			return "", fmt.Errorf("cache entry %s: the one here is newer; --force replaces it", n.base)
		}
	}
	t, err := s.scratchAs(n.tar, n.besidePath())
	if err != nil {
		return "", err
	}
	defer t.discard()
	sum := sha256.New()
	if err := copyTo(ctx, io.MultiWriter(t.f, sum), in); errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("import %s: it is cut off: copy it anew, whole", n.base)
	} else if err != nil {
		return "", fmt.Errorf("import %s: %w", n.base, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != m.SHA256 {
		return "", fmt.Errorf("import %s: its sha256 is %s, and %s was exported: it is damaged, copy it anew", n.base, got, m.SHA256)
	}
	if err := s.publishIncoming(ctx, n, m, t); err != nil {
		return "", fmt.Errorf("import %s: %w", n.base, err)
	}
	return n.tar, nil
}

// publishIncoming puts a tar that has come from elsewhere, whole, in its place.
func (s Store) publishIncoming(ctx context.Context, n names, m sidecar, t *scratch) error {
	found, err := scanFile(ctx, t.f)
	if err != nil {
		return err
	}
	m.ContentBytes, m.Inodes = found.contentBytes, found.inodes // by which a disk is taken for large enough
	built := time.Unix(0, m.MtimeNs)                            // its age is the tree's
	if err := os.Chtimes(fmt.Sprintf("/proc/self/fd/%d", t.f.Fd()), built, built); err != nil {
		return err
	}
	st, err := t.f.Stat()
	if err != nil {
		return err
	}
	m.MtimeNs = st.ModTime().UnixNano() // as this filesystem keeps it
	if err := s.swap(ctx, n, m.Inputs, m, t); err != nil {
		return err
	}
	s.MakeRoom(ctx)
	return nil
}

// readEntry reads an exported entry up to its tree, and checks what it says.
func (s Store) readEntry(in *tar.Reader) (n names, m sidecar, err error) {
	h, err := in.Next()
	if err != nil {
		return n, m, err
	}
	raw, err := io.ReadAll(io.LimitReader(in, sidecarLimit))
	if err != nil {
		return n, m, err
	}
	if n, m, err = s.parseIncoming(h.Name, raw); err != nil {
		return n, m, err
	}
	h, err = in.Next()
	if errors.Is(err, io.EOF) {
		err = errors.New("it ends")
	}
	if err == nil && (h.Name != n.base+".tar" || h.Size != m.Size) {
		err = errors.New("another file does")
	}
	if err != nil {
		return n, m, fmt.Errorf("%s: the tree's tar doesn't follow: %w: copy it anew", n.base, err)
	}
	return n, m, nil
}

// maxAhead is how far another node's clock may be ahead.
const maxAhead = 24 * time.Hour

// parseIncoming checks what another node says of an entry, in a sidecar of that name.
func (s Store) parseIncoming(name string, raw []byte) (n names, m sidecar, err error) {
	if m, err = parseSidecar(name, raw); err != nil {
		return n, m, err
	}
	n = s.namesOf(strings.TrimSuffix(path.Base(name), ".json") + ".tar")
	want, err := s.names(m.Inputs)
	switch {
	case err != nil:
		return n, m, err
	case time.Unix(0, m.MtimeNs).After(time.Now().Add(maxAhead)): // it would never be past its age
		return n, m, fmt.Errorf("%s: it was built in the future: set the clock of this node, or of the other, and build it anew", n.base)
	case m.Format != treeFormat:
		return n, m, fmt.Errorf("%s: its format is %d, and %d is used here: build it with this version", n.base, m.Format, treeFormat)
	// A mirror's password isn't in the sidecar, so that its key can't be reckoned.
	case want.base != n.base && !strings.Contains(m.Inputs.Mirror, "xxxxx@"), !strings.HasPrefix(n.base, strings.TrimSuffix(filepath.Base(want.admin), ".tar")+"-"):
		return n, m, fmt.Errorf("%s: the key is not that of what it says it is made of (%s): export it anew", n.base, want.base)
	}
	return n, m, nil
}
