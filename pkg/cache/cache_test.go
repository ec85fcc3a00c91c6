package cache

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

var inputs = Inputs{
	Suite: "trixie", Arch: "amd64", Mirror: "http://mirror.example/debian", Tool: "mmdebstrap", ToolVersion: "1.3.5",
	Keyring: strings.Repeat("a", 64), Components: []string{"main"}, ExtraPkgs: []string{"ssh"},
}

func newStore(t *testing.T) Store {
	t.Helper()
	return Store{Dir: filepath.Join(t.TempDir(), "cache"), LockDir: filepath.Join(t.TempDir(), "lock"), MaxAgeDays: -1, Generate: true}
}

// tarOf returns a tar with a folder and the files name=content.
func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	must(t, w.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}))
	var names []string
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		must(t, w.WriteHeader(&tar.Header{Name: "./" + name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[name]))}))
		_, err := io.WriteString(w, files[name])
		must(t, err)
	}
	must(t, w.Close())
	return buf.Bytes()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// writes returns a build that writes raw, and counts its calls.
func writes(raw []byte, calls *atomic.Int32) Build {
	return func(_ context.Context, f *os.File, _ *Entry) (Made, error) {
		calls.Add(1)
		_, err := f.Write(raw)
		return Made{}, err
	}
}

func noBuild(t *testing.T) Build {
	return func(context.Context, *os.File, *Entry) (Made, error) {
		t.Error("built although there was an entry to use")
		return Made{}, errors.New("not to be built")
	}
}

func get(t *testing.T, s Store, build Build, source string) *Entry {
	t.Helper()
	e, err := s.Get(t.Context(), inputs, build)
	must(t, err)
	t.Cleanup(func() { e.Close() })
	if e.Source != source {
		t.Fatalf("source is %s, want %s", e.Source, source)
	}
	return e
}

func content(t *testing.T, e *Entry) []byte {
	t.Helper()
	raw, err := io.ReadAll(e.File)
	must(t, err)
	return raw
}

func names1(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	var out []string
	for _, d := range list {
		out = append(out, d.Name())
	}
	return out
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	sort.Strings(want)
	if got := names1(t, dir); !reflect.DeepEqual(got, want) {
		t.Fatalf("%s holds %q, want %q", dir, got, want)
	}
}

func TestEachInputChangedAloneGivesAnotherKey(t *testing.T) {
	seen := map[string]string{inputs.Key(): "nothing"}
	typ := reflect.TypeFor[Inputs]()
	for i := range typ.NumField() {
		in := inputs
		switch f := reflect.ValueOf(&in).Elem().Field(i); f.Kind() {
		case reflect.String:
			f.SetString(f.String() + "x")
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{"main", "other"}))
		case reflect.Bool:
			f.SetBool(!f.Bool())
		case reflect.Map:
			f.Set(reflect.ValueOf(map[string]string{"/etc/file": "text"}))
		default:
			t.Fatalf("field %s: teach this test about %s", typ.Field(i).Name, f.Kind())
		}
		if other, dup := seen[in.Key()]; dup {
			t.Errorf("changing %s gives the key of changing %s", typ.Field(i).Name, other)
		}
		seen[in.Key()] = typ.Field(i).Name
	}
}

func TestOrderDoublesAndATrailingSlashAreNoChange(t *testing.T) {
	a, b := inputs, inputs
	a.Components, b.Components = []string{"main", "contrib"}, []string{"contrib", "main", "main"}
	b.Mirror += "/"
	if a.Key() != b.Key() {
		t.Error("the same tree has two keys")
	}
	a.ExtraPkgs, b.ExtraPkgs = nil, []string{}
	if a.Key() != b.Key() {
		t.Error("no packages and an empty list of them have two keys")
	}
}

func TestAMissIsBuiltOnceAndHitAfterwards(t *testing.T) {
	for _, noTmpfile := range []bool{false, true} {
		s := newStore(t)
		s.noTmpfile = noTmpfile
		raw := tarOf(t, map[string]string{"etc/hostname": "x\n"})
		var calls atomic.Int32
		built := get(t, s, writes(raw, &calls), SourceBuilt)
		hit := get(t, s, noBuild(t), SourceHit)
		if calls.Load() != 1 || !bytes.Equal(content(t, built), raw) || !bytes.Equal(content(t, hit), raw) {
			t.Fatalf("built %d times, or another content", calls.Load())
		}
		if hit.SHA256 != built.SHA256 || len(hit.SHA256) != 64 || hit.Inodes != 2 || hit.ContentBytes != 8192 || hit.Key != inputs.Key() {
			t.Fatalf("entry %+v", hit)
		}
		base := "cache-trixie-amd64-" + inputs.Key()
		wantNames(t, s.Dir, base+".json", base+".tar")
	}
}

func TestTheSidecarHidesTheMirrorsPassword(t *testing.T) {
	s := newStore(t)
	in := inputs
	in.Mirror = "http://user:secret@mirror.example/debian"
	var calls atomic.Int32
	e, err := s.Get(t.Context(), in, writes(tarOf(t, nil), &calls))
	must(t, err)
	e.Close()
	raw, err := os.ReadFile(filepath.Join(s.Dir, "cache-trixie-amd64-"+in.Key()+".json"))
	must(t, err)
	if bytes.Contains(raw, []byte("secret")) || !bytes.Contains(raw, []byte("mirror.example")) {
		t.Errorf("sidecar: %s", raw)
	}
}

func TestASuiteThatIsNoFileNameIsRefused(t *testing.T) {
	for _, suite := range []string{"", "../x", "a/b", "-x", "a\nb"} {
		in := inputs
		in.Suite = suite
		if _, err := newStore(t).Get(t.Context(), in, noBuild(t)); err == nil {
			t.Errorf("suite %q was taken", suite)
		}
	}
}

func TestAFailedBuildLeavesNothingAndSaysWhy(t *testing.T) {
	for _, noTmpfile := range []bool{false, true} {
		s := newStore(t)
		s.noTmpfile = noTmpfile
		_, err := s.Get(t.Context(), inputs, func(_ context.Context, f *os.File, _ *Entry) (Made, error) {
			f.WriteString("half")
			return Made{}, errors.New("mirror is down")
		})
		if err == nil || !strings.Contains(err.Error(), "mirror is down") {
			t.Fatalf("error %v", err)
		}
		_, err = s.Get(t.Context(), inputs, func(_ context.Context, f *os.File, _ *Entry) (Made, error) {
			_, err := f.WriteString("this is no tar")
			return Made{}, err
		})
		if err == nil || !strings.Contains(err.Error(), "not a whole tar") {
			t.Fatalf("error %v", err)
		}
		wantNames(t, s.Dir)
	}
}

func TestWithoutGenerateExistingEntriesAreUsedAndNoneIsMade(t *testing.T) {
	s := newStore(t)
	s.Generate = false
	for range 2 { // without the folder, then with it
		if e, err := s.Get(t.Context(), inputs, noBuild(t)); !errors.Is(err, ErrNoEntry) || e != nil {
			t.Fatalf("got %v, %v", e, err)
		}
		must(t, os.MkdirAll(s.Dir, 0o755))
	}
	s.Generate = true
	var calls atomic.Int32
	get(t, s, writes(tarOf(t, nil), &calls), SourceBuilt)
	s.Generate = false
	get(t, s, noBuild(t), SourceHit)
}

// syncBuffer is a log that goroutines share.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestOthersWaitForTheBuilderSayForWhomAndUseWhatItBuilt(t *testing.T) {
	s := newStore(t)
	s.Owner = "web1"
	raw := tarOf(t, map[string]string{"f": "x"})
	var calls atomic.Int32
	building, finish := make(chan bool), make(chan bool)
	var wg sync.WaitGroup
	wg.Go(func() {
		get(t, s, func(ctx context.Context, f *os.File, _ *Entry) (Made, error) {
			close(building)
			<-finish
			return writes(raw, &calls)(ctx, f, nil)
		}, SourceBuilt)
	})
	<-building
	var log syncBuffer
	ctx := zerolog.New(&log).WithContext(t.Context())
	for range 4 {
		wg.Go(func() {
			e, err := s.Get(ctx, inputs, noBuild(t))
			if err != nil || e.Source != SourceHit {
				t.Errorf("got %+v, %v", e, err)
				return
			}
			defer e.Close()
			if !bytes.Equal(content(t, e), raw) {
				t.Error("another content than was built")
			}
		})
	}
	for start := time.Now(); strings.Count(log.String(), "waiting for another run (web1, since ") < 4; {
		if time.Since(start) > 5*time.Second {
			t.Errorf("nobody says that it waits: %s", log.String())
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	close(finish)
	wg.Wait()
	if calls.Load() != 1 {
		t.Errorf("built %d times", calls.Load())
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	s := newStore(t)
	must(t, os.MkdirAll(s.LockDir, 0o755))
	lock, err := s.lock(t.Context(), "cache-trixie-amd64-"+inputs.Key())
	must(t, err)
	defer lock.Close()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("told to stop"))
	defer cancel()
	if _, err := s.Get(ctx, inputs, noBuild(t)); err == nil || !strings.Contains(err.Error(), "told to stop") {
		t.Errorf("error %v", err)
	}
}

func TestFilesOfATreeAreCopiedOutOfItsTar(t *testing.T) {
	s := newStore(t)
	var calls atomic.Int32
	e := get(t, s, writes(tarOf(t, map[string]string{"boot/vmlinuz-1": "kernel", "usr/lib/modules/1/modules.dep": "a.ko:", "etc/motd": "hello"}), &calls), SourceBuilt)
	dir := t.TempDir()
	must(t, e.Extract(t.Context(), dir, func(name string) (string, bool) {
		switch name {
		case "boot/vmlinuz-1":
			return name, false
		case "usr/lib/modules/1/modules.dep":
			return "lib/deps", true
		}
		return "", false
	}))
	for name, want := range map[string]string{"boot/vmlinuz-1": "", "lib/deps": "a.ko:"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	wantNames(t, dir, "boot", "lib")
	if raw := content(t, e); len(raw) == 0 {
		t.Error("the entry isn't at its start any more")
	}
}

// A tree that was copied with its hard links (cp -al, rsync -H) has modules.dep by several names.
func TestAHardLinkInAnAdminsTarComesOutWithItsContent(t *testing.T) {
	s, tree := newStore(t), t.TempDir()
	must(t, os.MkdirAll(filepath.Join(tree, "lib/modules/1"), 0o755))
	must(t, os.WriteFile(filepath.Join(tree, "lib/modules/1/modules.dep"), []byte("a.ko:"), 0o644))
	must(t, os.Mkdir(filepath.Join(tree, "boot"), 0o755))
	for _, name := range []string{"lib/modules/1/again", "lib/modules/1/other", "boot/vmlinuz-1"} {
		must(t, os.Link(filepath.Join(tree, "lib/modules/1/modules.dep"), filepath.Join(tree, name)))
	}
	must(t, os.MkdirAll(s.Dir, 0o755))
	for _, format := range []string{"gnu", "pax", "ustar"} {
		path := filepath.Join(s.Dir, "cache-trixie-amd64.tar")
		out, err := exec.Command("tar", "--format="+format, "-C", tree, "-cf", path, "./lib/modules/1/other", "./lib/modules/1/again", "./boot", "./lib/modules/1/modules.dep").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		e := get(t, s, noBuild(t), SourceAdmin)
		if !e.HasKernel {
			t.Errorf("%s: the kernel, another name of a file, isn't seen", format)
		}
		dir := t.TempDir()
		must(t, e.Extract(t.Context(), dir, func(name string) (string, bool) {
			if strings.HasSuffix(name, "/other") {
				return "", false
			}
			return name, strings.HasSuffix(name, "modules.dep")
		}))
		for name, want := range map[string]string{"lib/modules/1/modules.dep": "a.ko:", "lib/modules/1/again": ""} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
				t.Errorf("%s: %s: %q, %v", format, name, got, err)
			}
		}
	}
}

// A renewal, or an import --force, puts another tar in the place of the one that was opened.
func TestATarThatIsReplacedWhileItIsOpenedIsTheNewOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache-trixie-amd64.tar")
	must(t, os.WriteFile(path, []byte("old"), 0o600))
	old, err := os.Open(path)
	must(t, err)
	must(t, tryFlock(old, unix.LOCK_EX))
	time.AfterFunc(100*time.Millisecond, func() {
		os.WriteFile(path+".new", []byte("new"), 0o600)
		os.Rename(path+".new", path)
		old.Close()
	})
	f, err := openShared(t.Context(), path)
	must(t, err)
	defer f.Close()
	if text, err := io.ReadAll(f); err != nil || string(text) != "new" {
		t.Errorf("%q, %v", text, err)
	}
}
