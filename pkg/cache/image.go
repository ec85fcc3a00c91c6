package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/image"
)

// Beside a tar may be filesystem images that were filled from it, one of each
// kind: BASE.KIND.img beside BASE.tar. They are made when one is wanted, and are
// only there to save time: what is damaged or was filled from another tree than
// the tar holds now is removed and made anew, and they go with their tar.

// imagePath is where the image of a kind is kept. A kind is a filesystem's type,
// a dash and hexadecimal digits.
func imagePath(tarPath, kind string) string {
	return strings.TrimSuffix(tarPath, ".tar") + "." + kind + ".img"
}

// Images returns the paths of the images beside a tar.
func Images(tarPath string) []string {
	entries, _ := os.ReadDir(filepath.Dir(tarPath)) // without the folder there is none
	return imagesIn(filepath.Dir(tarPath), entries)[strings.TrimSuffix(filepath.Base(tarPath), ".tar")]
}

// imagesIn returns the paths of all images in a folder that was read, by the BASE of their
// tars. Who looks at many tars reads the folder once.
func imagesIn(dir string, entries []fs.DirEntry) map[string][]string {
	found := map[string][]string{}
	for _, d := range entries {
		if !strings.HasSuffix(d.Name(), ".img") {
			continue
		}
		if m := imageName().FindStringSubmatch(d.Name()); m != nil {
			found[m[1]] = append(found[m[1]], filepath.Join(dir, d.Name()))
		}
	}
	return found
}

// Image returns the image of a kind for an open entry. One that is missing is
// made by build, which is given an empty file and seals it: one builder at a time
// for a key, the others wait for it. Without Generate a missing one is ErrNoEntry.
func (s Store) Image(ctx context.Context, e *Entry, kind string, build func(ctx context.Context, out *os.File) error) (*image.Image, error) {
	path := imagePath(e.Path, kind)
	m, err := s.openImage(ctx, path, e.Digest)
	if err == nil || ctx.Err() != nil {
		return m, err
	}
	if !s.Generate {
		return nil, ErrNoEntry
	}
	base := strings.TrimSuffix(filepath.Base(e.Path), ".tar")
	lock, err := s.lock(ctx, base)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	os.Remove(tempPath(path)) // of a killed run
	m, err = s.openImage(ctx, path, e.Digest)
	if err == nil || ctx.Err() != nil {
		return m, err // somebody else made it meanwhile
	}
	if !errors.Is(err, fs.ErrNotExist) {
		zerolog.Ctx(ctx).Info().Msgf("making %s anew: %v", path, err)
	}
	s.removeStale(ctx, e)
	s.announce(lock)
	if err := s.buildImage(ctx, e, path, build); err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	s.MakeRoom(ctx)
	return s.openImage(ctx, path, e.Digest)
}

func (s Store) buildImage(ctx context.Context, e *Entry, path string, build func(context.Context, *os.File) error) error {
	before, err := e.File.Stat()
	if err != nil {
		return err
	}
	t, err := s.scratch(path)
	if err != nil {
		return err
	}
	defer t.discard()
	if err := build(ctx, t.f); err != nil {
		return err
	}
	if after, err := e.File.Stat(); err != nil || !sameIdentity(before, after) {
		return errors.Join(err, errChanging)
	}
	return t.publish()
}

// errOtherTree says that an image was not filled from the tree it stands beside.
var errOtherTree = errors.New("it was made from another tree")

// errUnseenTree says that nobody has seen all of the tree that an image is of.
var errUnseenTree = errors.New("it was made of a tree that was not checked on the way")

// openImage opens an image, reads its list and samples of its content, and
// compares the tree it was filled from. One that others could change is an error: it
// is made anew.
func (s Store) openImage(ctx context.Context, path, tree string) (*image.Image, error) {
	if err := s.checkFile(ctx, path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	m, err := image.Open(f)
	switch {
	case err == nil && m.Tree != tree:
		err = errOtherTree
	case err == nil && m.TreeSeen == "": // of an older version
		err = errUnseenTree
	}
	if err == nil {
		err = m.Sample(ctx)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return m, nil
}

// removeStale removes the images of a tar, of all kinds, that can't be used with it
// any more; its key's lock is held.
func (s Store) removeStale(ctx context.Context, e *Entry) {
	for _, path := range Images(e.Path) {
		m, err := s.openImage(ctx, path, e.Digest)
		if err == nil {
			m.Close()
		} else if ctx.Err() == nil {
			os.Remove(path)
		}
	}
}

// RemoveImage removes an image that turned out to be damaged.
func (e *Entry) RemoveImage(m *image.Image) error { return os.Remove(m.File.Name()) }

// adminDigest stands for the content of an admin's own tar, which isn't read
// through at every use: its size, its time, and samples of it.
func adminDigest(f *os.File) (string, error) {
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, st.Size(), st.ModTime().UnixNano())
	chunks, err := sumChunks(f, placeChunks(st.Size(), sum.Sum(nil)))
	if err != nil {
		return "", err
	}
	for _, c := range chunks {
		fmt.Fprintln(sum, c)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
