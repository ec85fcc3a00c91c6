package lock

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Flock is of the open file, so that two goroutines are as two processes. The first half of
// them share it.
func TestALockWhoseFileIsRemovedWhenItIsGivenUpLetsOneWriterInOrReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.lock")
	var readers, writers atomic.Int32
	taken := make([]int, 8)
	var all sync.WaitGroup
	for i := range taken {
		how, mine := unix.LOCK_EX, &writers
		if i < len(taken)/2 {
			how, mine = unix.LOCK_SH, &readers
		}
		all.Go(func() {
			for deadline := time.Now().Add(10 * time.Second); taken[i] < 50 && time.Now().Before(deadline); {
				lock, err := Try(path, how)
				if errors.Is(err, unix.EWOULDBLOCK) {
					time.Sleep(10 * time.Microsecond)
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				taken[i]++
				mine.Add(1)
				if w, r := writers.Load(), readers.Load(); w > 1 || w == 1 && r > 0 {
					t.Errorf("%d writers and %d readers hold it", w, r)
				}
				time.Sleep(time.Duration(taken[i]%3) * 10 * time.Microsecond)
				mine.Add(-1)
				if err := lock.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for i, n := range taken {
		if n == 0 {
			t.Errorf("holder %d never had it", i)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
		t.Errorf("it is still there: %v", left)
	}
}

// Who gives up a shared lock has it alone for a moment, since only then is its file removed.
func TestReadersAreNeverInEachOthersWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.lock")
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for range 500 {
				lock, err := Try(path, unix.LOCK_SH)
				if err != nil {
					t.Error(err)
					return
				}
				lock.Close()
			}
		})
	}
	all.Wait()
}

func TestALockWithoutItsFileIsGivenUpAllTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.lock")
	old, err := Try(path, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := Try(path, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("another's file was removed: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}
