package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"instance-debootstrap/pkg/image"
)

const kind = "ext4-0123abcd"

// seals returns a build that seals an image of 1 MiB with the byte in it, and
// counts its calls.
func seals(e *Entry, fill byte, calls *atomic.Int32) func(context.Context, *os.File) error {
	return func(ctx context.Context, out *os.File) error {
		calls.Add(1)
		if _, err := out.Write(bytes.Repeat([]byte{fill}, 1<<20)); err != nil {
			return err
		}
		return image.Seal(ctx, out, image.List{Tree: e.Digest, TreeSeen: "seen", SizeBytes: 1 << 20}, []image.Range{{Bytes: 1 << 20}})
	}
}

// getImage must get an image with the byte in it.
func getImage(t *testing.T, s Store, e *Entry, fill byte, calls *atomic.Int32) {
	t.Helper()
	m, err := s.Image(context.Background(), e, kind, seals(e, fill, calls))
	must(t, err)
	defer m.Close()
	must(t, m.Verify(context.Background()))
	b := make([]byte, 1)
	_, err = m.File.ReadAt(b, 12345)
	must(t, err)
	if b[0] != fill {
		t.Errorf("the image has %d, not %d", b[0], fill)
	}
}

func TestManyThatWantAnImageBuildItOnce(t *testing.T) {
	raw := big(t)
	s, _ := published(t, raw)
	var calls atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			e, err := s.Get(context.Background(), inputs, noBuild(t))
			if err != nil {
				t.Error(err)
				return
			}
			defer e.Close()
			m, err := s.Image(context.Background(), e, kind, func(ctx context.Context, out *os.File) error {
				time.Sleep(100 * time.Millisecond)
				return seals(e, 7, &calls)(ctx, out)
			})
			if err != nil {
				t.Error(err)
				return
			}
			m.Close()
		})
	}
	wg.Wait()
	if calls.Load() != 1 {
		t.Errorf("built %d times", calls.Load())
	}
	wantNames(t, s.Dir, base+"."+kind+".img", base+".json", base+".tar")
}

func TestAnImageFollowsItsTree(t *testing.T) {
	for name, admin := range map[string]bool{"keyed": false, "an admin's own": true} {
		t.Run(name, func(t *testing.T) {
			raw := big(t)
			s, path := published(t, raw)
			if admin {
				path = filepath.Join(s.Dir, "cache-trixie-amd64.tar")
				must(t, os.WriteFile(path, raw, 0o600))
				setTime(t, path, time.Now().Add(time.Minute))
			}
			var calls atomic.Int32
			e, err := s.Get(context.Background(), inputs, noBuild(t))
			must(t, err)
			getImage(t, s, e, 1, &calls)
			getImage(t, s, e, 1, &calls)
			other, err := s.Image(context.Background(), e, "ext3-99999999", seals(e, 9, new(atomic.Int32)))
			must(t, err)
			other.Close()
			e.Close()
			edited := tarOf(t, map[string]string{"other": string(bytes.Repeat([]byte("tree"), 1<<18))})
			must(t, os.WriteFile(path+".new", edited, 0o600))
			setTime(t, path+".new", time.Now().Add(2*time.Minute))
			must(t, os.Rename(path+".new", path))
			e, err = s.Get(context.Background(), inputs, noBuild(t))
			must(t, err)
			defer e.Close()
			getImage(t, s, e, 2, &calls)
			if calls.Load() != 2 {
				t.Errorf("built %d times, not twice", calls.Load())
			}
			if exists(imagePath(path, "ext3-99999999")) {
				t.Error("an image of another kind of the old tree is still there")
			}
		})
	}
}

func TestADamagedImageIsMadeAnew(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"cut off": func(path string) error { return os.Truncate(path, 1<<19) },
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"changed": func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err == nil {
				_, err = f.WriteAt([]byte{0}, 777)
			}
			return err
		},
		"another file": func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("x"), 1<<20), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := published(t, big(t))
			e, err := s.Get(context.Background(), inputs, noBuild(t))
			must(t, err)
			defer e.Close()
			var calls atomic.Int32
			getImage(t, s, e, 1, &calls)
			must(t, damage(imagePath(e.Path, kind)))
			getImage(t, s, e, 2, &calls)
			getImage(t, s, e, 2, &calls)
		})
	}
}

func TestAnImageThatCantBeMadeLeavesNothing(t *testing.T) {
	s, _ := published(t, big(t))
	e, err := s.Get(context.Background(), inputs, noBuild(t))
	must(t, err)
	defer e.Close()
	why := errors.New("no room")
	if _, err := s.Image(context.Background(), e, kind, func(_ context.Context, out *os.File) error {
		out.Write(make([]byte, 1000))
		return why
	}); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
	s.Generate = false
	if _, err := s.Image(context.Background(), e, kind, seals(e, 1, new(atomic.Int32))); !errors.Is(err, ErrNoEntry) {
		t.Errorf("without Generate: %v", err)
	}
	wantNames(t, s.Dir, base+".json", base+".tar")
}

// TestATreeThatChangesWhileItIsReadGivesNoImage edits a tar in place.
func TestATreeThatChangesWhileItIsReadGivesNoImage(t *testing.T) {
	s, path := published(t, big(t))
	e, err := s.Get(context.Background(), inputs, noBuild(t))
	must(t, err)
	defer e.Close()
	_, err = s.Image(context.Background(), e, kind, func(ctx context.Context, out *os.File) error {
		setTime(t, path, time.Now().Add(time.Hour))
		return seals(e, 1, new(atomic.Int32))(ctx, out)
	})
	if !errors.Is(err, errChanging) {
		t.Errorf("error %v", err)
	}
	wantNames(t, s.Dir, base+".json", base+".tar")
}

func TestAnImageExpiresWithItsTarAndNotBefore(t *testing.T) {
	s, path := published(t, big(t))
	s.MaxAgeDays = 14
	e, err := s.Get(context.Background(), inputs, noBuild(t))
	must(t, err)
	getImage(t, s, e, 1, new(atomic.Int32))
	e.Close()
	old := time.Now().Add(-30 * 24 * time.Hour)
	setTime(t, imagePath(path, kind), old)
	_, err = s.Clean(context.Background())
	must(t, err)
	wantNames(t, s.Dir, base+"."+kind+".img", base+".json", base+".tar")
	setTime(t, path, old)
	_, err = s.Clean(context.Background())
	must(t, err)
	wantNames(t, s.Dir)
	// One whose tar an admin removed goes by its own age.
	must(t, os.WriteFile(imagePath(path, kind), nil, 0o600))
	must(t, os.WriteFile(tempPath(imagePath(path, kind)), nil, 0o600))
	setTime(t, imagePath(path, kind), old)
	setTime(t, tempPath(imagePath(path, kind)), old)
	_, err = s.Clean(context.Background())
	must(t, err)
	wantNames(t, s.Dir)
}

func TestKilledAtAnyMomentThereIsNoHalfImage(t *testing.T) {
	for _, noTmpfile := range []bool{false, true} {
		t.Run(fmt.Sprintf("noTmpfile=%v", noTmpfile), func(t *testing.T) {
			s, path := published(t, big(t))
			s.noTmpfile = noTmpfile
			complete := 0
			for range 30 {
				os.Remove(imagePath(path, kind))
				cmd := startChild(t, childJob{Dir: s.Dir, LockDir: s.LockDir, NoTmpfile: noTmpfile, Image: true})
				must(t, cmd.Start())
				time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
				must(t, cmd.Process.Kill())
				cmd.Wait()
				f, err := os.Open(imagePath(path, kind))
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				must(t, err)
				m, err := image.Open(f)
				must(t, err)
				must(t, m.Verify(context.Background()))
				m.Close()
				complete++
			}
			t.Logf("%d of 30 had published", complete)
			e, err := s.Get(context.Background(), inputs, noBuild(t))
			must(t, err)
			defer e.Close()
			os.Remove(imagePath(path, kind))
			getImage(t, s, e, 3, new(atomic.Int32))
			wantNames(t, s.Dir, base+"."+kind+".img", base+".json", base+".tar")
		})
	}
}

// buildImageSlowly is what the child of TestKilledAtAnyMomentThereIsNoHalfImage does.
func buildImageSlowly(s Store) error {
	e, err := s.Get(context.Background(), inputs, nil)
	if err != nil {
		return err
	}
	_, err = s.Image(context.Background(), e, kind, func(ctx context.Context, out *os.File) error {
		for range 16 {
			if _, err := out.Write(bytes.Repeat([]byte{5}, 1<<16)); err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
		}
		return image.Seal(ctx, out, image.List{Tree: e.Digest, TreeSeen: "seen", SizeBytes: 1 << 20}, []image.Range{{Bytes: 1 << 20}})
	})
	return err
}
