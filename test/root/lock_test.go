//go:build root

package root

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// asNobody runs a command as a user without rights.
func asNobody(args ...string) *exec.Cmd {
	return exec.Command("setpriv", append([]string{"--reuid=65534", "--regid=65534", "--clear-groups"}, args...)...)
}

func TestNoOtherUserCanHoldALockAndItsFileGoesWithIt(t *testing.T) {
	l := newCacheLab(t)
	must(t, os.RemoveAll(filepath.Join(base, "lock")))
	l.fakeDebootstrapAgain("1")
	l.hook("10-waits", fmt.Sprintf("exec -a %s sleep 1", mark()))
	seen := map[string]bool{}
	cmd := l.command("create")
	must(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for running := true; running; time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-done:
			must(t, err)
			running = false
		default:
		}
		locks, err := filepath.Glob(filepath.Join(base, "lock/*.lock"))
		must(t, err)
		for _, path := range locks {
			st, err := os.Stat(path)
			if err != nil || seen[filepath.Base(path)] {
				continue
			}
			seen[filepath.Base(path)] = true
			if st.Mode()&0o077 != 0 {
				t.Errorf("%s: mode %v", path, st.Mode())
			}
			if out, err := asNobody("flock", "--shared", "--nonblock", path, "true").CombinedOutput(); err == nil {
				t.Errorf("another user can lock %s: %s", path, out)
			}
		}
	}
	if len(seen) < 2 { // of the disk and of the tree
		t.Errorf("the locks that were seen are %v", seen)
	}
	if st, err := os.Stat(filepath.Join(base, "lock")); err != nil || st.Mode()&0o077 != 0 {
		t.Errorf("the lock folder: %v, %v", st, err)
	}
	l.clean(0)
	l.mount()
	if left, err := os.ReadDir(filepath.Join(base, "lock")); err != nil || len(left) > 0 {
		t.Errorf("left in the lock folder: %v, %v", left, err)
	}
}

func TestAUserWhoLocksTheAdminsTarHoldsUpNoCreate(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	must(t, os.Chmod(l.tar(), 0o644))
	hold := asNobody("flock", "--exclusive", l.tar(), "sleep", "60")
	must(t, hold.Start())
	t.Cleanup(func() { hold.Process.Kill(); hold.Wait() })
	for exec.Command("flock", "--shared", "--nonblock", l.tar(), "true").Run() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	begin := time.Now()
	log := l.create()
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("the create took %v", took)
	}
	l.matches(log, "locked by another program, and used all the same")
}
