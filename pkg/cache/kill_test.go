package cache

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The test binary is its own child: with this variable set it builds an entry
// in the store that the variable describes.
const childVar = "CACHE_TEST_CHILD"

type childJob struct {
	Dir, LockDir string
	NoTmpfile    bool
	Forever      bool
	Image        bool // build an image of the entry, which is there
}

func TestMain(m *testing.M) {
	text := os.Getenv(childVar)
	if text == "" {
		os.Exit(m.Run())
	}
	var job childJob
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		panic(err)
	}
	s := Store{Dir: job.Dir, LockDir: job.LockDir, MaxAgeDays: 14, Generate: true, noTmpfile: job.NoTmpfile}
	if job.Image {
		fmt.Println(buildImageSlowly(s))
		return
	}
	raw, err := os.ReadFile(filepath.Join(job.LockDir, "raw"))
	if err != nil {
		panic(err)
	}
	e, err := s.Get(context.Background(), inputs, func(_ context.Context, f *os.File, _ *Entry) (Made, error) {
		fmt.Println("building")
		if job.Forever {
			time.Sleep(time.Hour)
		}
		for len(raw) > 0 { // in pieces, so that there is time to die in between
			n, err := f.Write(raw[:min(64<<10, len(raw))])
			if err != nil {
				return Made{}, err
			}
			raw = raw[n:]
			time.Sleep(time.Millisecond)
		}
		return Made{}, nil
	})
	fmt.Println(e, err)
}

func startChild(t *testing.T, job childJob) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(job)
	must(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{childVar + "=" + string(text)}
	cmd.Stderr = os.Stderr
	return cmd
}

func TestKilledAtAnyMomentThereIsNoHalfEntry(t *testing.T) {
	for _, noTmpfile := range []bool{false, true} {
		t.Run(fmt.Sprintf("noTmpfile=%v", noTmpfile), func(t *testing.T) {
			s := newStore(t)
			s.noTmpfile = noTmpfile
			raw := big(t)
			must(t, os.MkdirAll(s.LockDir, 0o755))
			must(t, os.WriteFile(filepath.Join(s.LockDir, "raw"), raw, 0o600))
			complete := 0
			for range 40 {
				os.RemoveAll(s.Dir)
				cmd := startChild(t, childJob{Dir: s.Dir, LockDir: s.LockDir, NoTmpfile: noTmpfile})
				must(t, cmd.Start())
				time.Sleep(time.Duration(rand.IntN(130)) * time.Millisecond)
				must(t, cmd.Process.Kill())
				cmd.Wait()
				complete += inspect(t, s, raw)
			}
			t.Logf("%d of 40 had published", complete)
			get(t, s, func(_ context.Context, f *os.File, _ *Entry) (Made, error) {
				_, err := f.Write(raw)
				return Made{}, err
			}, map[bool]string{true: SourceHit, false: SourceBuilt}[exists(filepath.Join(s.Dir, base+".tar"))])
			wantNames(t, s.Dir, base+".json", base+".tar")
		})
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// inspect checks what a killed builder left and returns 1 if that is an entry.
func inspect(t *testing.T, s Store, raw []byte) int {
	t.Helper()
	found := 0
	if !exists(s.Dir) {
		return 0
	}
	for _, name := range names1(t, s.Dir) {
		got, err := os.ReadFile(filepath.Join(s.Dir, name))
		must(t, err)
		switch {
		case name == base+".tar":
			found = 1
			if string(got) != string(raw) {
				t.Fatalf("%s has %d bytes of %d", name, len(got), len(raw))
			}
		case name == base+".json":
			if _, err := readSidecar(filepath.Join(s.Dir, name)); err != nil {
				t.Fatal(err)
			}
		case s.noTmpfile && strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp"):
		default:
			t.Fatalf("left behind: %s", name)
		}
	}
	return found
}

func TestAKilledBuilderFreesTheLock(t *testing.T) {
	s := newStore(t)
	raw := big(t)
	must(t, os.MkdirAll(s.LockDir, 0o755))
	must(t, os.WriteFile(filepath.Join(s.LockDir, "raw"), raw, 0o600))
	cmd := startChild(t, childJob{Dir: s.Dir, LockDir: s.LockDir, Forever: true})
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	_, err = out.Read(make([]byte, 8)) // it builds
	must(t, err)
	time.AfterFunc(200*time.Millisecond, func() { cmd.Process.Kill() })
	start := time.Now()
	get(t, s, func(_ context.Context, f *os.File, _ *Entry) (Made, error) {
		_, err := f.Write(raw)
		return Made{}, err
	}, SourceBuilt)
	if waited := time.Since(start); waited < 150*time.Millisecond || waited > 3*time.Second {
		t.Errorf("waited %s for a builder that died after 0.2 s", waited)
	}
	cmd.Wait()
}
