package filesystem

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// namesIn are the names in a folder.
func namesIn(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, e := range entries {
		text += e.Name() + " "
	}
	return text
}

// withoutUnnamed has the filesystem know no unnamed files, as NFS, nor a lock of a file that is
// open for reading only.
func withoutUnnamed(t *testing.T) {
	saved, lock := openUnnamed, takeLock
	t.Cleanup(func() { openUnnamed, takeLock = saved, lock })
	takeLock = func(f *os.File) error {
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_ACCMODE == unix.O_RDONLY {
			return unix.EBADF
		}
		return lock(f)
	}
	openUnnamed = func(dir string) (*os.File, error) {
		return nil, &os.PathError{Op: "open", Path: dir, Err: unix.EOPNOTSUPP}
	}
}

func writes(t *testing.T, path, text string) {
	t.Helper()
	if err := WriteDurably(path, []byte(text)); err != nil {
		t.Error(err)
	}
	st, err := os.Stat(path)
	if got, rerr := os.ReadFile(path); err != nil || rerr != nil || string(got) != text || st.Mode().Perm() != 0o600 {
		t.Errorf("%q, %v, %v", got, err, rerr)
	}
}

func TestWhatAKilledRunHasBegunToWriteIsRemovedByTheNextOne(t *testing.T) {
	for _, unnamed := range []bool{true, false} {
		t.Run(fmt.Sprint(unnamed), func(t *testing.T) {
			if !unnamed {
				withoutUnnamed(t)
			}
			dir := filepath.Join(t.TempDir(), "with [a*] name")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			writes(t, dir+"/a", "one")
			f, left, err := openBegun(dir) // a run that is at work
			if err != nil {
				t.Fatal(err)
			}
			if left == "" {
				left = begunName(dir)
				if err := linkUnnamed(f, left); err != nil {
					t.Fatal(err)
				}
			}
			writes(t, dir+"/a", "two")
			if got := namesIn(t, dir); got != filepath.Base(left)+" a " {
				t.Errorf("while another is at work, there are %q", got)
			}
			f.Close() // which is all that a kill leaves
			writes(t, dir+"/b", "three")
			if got := namesIn(t, dir); got != "a b " {
				t.Errorf("left are %q", got)
			}
		})
	}
}

func TestAFileIsWrittenWhereTheFilesystemHasNoLocks(t *testing.T) {
	withoutUnnamed(t)
	tries := 0
	takeLock = func(*os.File) error {
		if tries++; tries > 9 {
			panic("it is tried for ever")
		}
		return unix.ENOLCK
	}
	dir := t.TempDir()
	writes(t, dir+"/a", "one")
	writes(t, dir+"/a", "two")
	if got := namesIn(t, dir); got != "a " {
		t.Errorf("left are %q", got)
	}
}

func TestManyWriteDurablyAtOnce(t *testing.T) {
	for _, unnamed := range []bool{true, false} {
		t.Run(fmt.Sprint(unnamed), func(t *testing.T) {
			if !unnamed {
				withoutUnnamed(t)
			}
			dir := t.TempDir()
			var all sync.WaitGroup
			for i := range 16 {
				all.Go(func() {
					for range 20 {
						if err := WriteDurably(fmt.Sprintf("%s/%d", dir, i%4), fmt.Appendf(nil, "%d", i%4)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			if got := namesIn(t, dir); got != "0 1 2 3 " {
				t.Errorf("left are %q", got)
			}
		})
	}
}
