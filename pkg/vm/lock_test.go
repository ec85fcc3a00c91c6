package vm

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Flock is of the open file, so that two goroutines are as two processes.
func TestALockWhoseFileIsRemovedAtItsReleaseLetsOneHolderInAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vm-web1.lock")
	inside, taken := make(chan struct{}, 1), make([]int, 8)
	var all sync.WaitGroup
	for i := range taken {
		all.Go(func() {
			for deadline := time.Now().Add(10 * time.Second); taken[i] < 50 && time.Now().Before(deadline); {
				lock, err := tryLock(path)
				if err != nil {
					t.Error(err)
					return
				}
				if lock == nil {
					time.Sleep(10 * time.Microsecond)
					continue
				}
				taken[i]++
				select {
				case inside <- struct{}{}:
				default:
					t.Error("two hold it")
					return
				}
				time.Sleep(time.Duration(taken[i]%3) * 10 * time.Microsecond)
				<-inside
				if err := lock.release(); err != nil {
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
