//go:build root

package root

import (
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

func TestNoOtherUserCanHoldALock(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	must(t, os.RemoveAll(filepath.Join(base, "lock")))
	for range 2 { // the second run meets the files that the first one made
		l.create()
	}
	if out, exit := l.here("cache", "prune"); exit != 0 {
		t.Errorf("cache prune: exit status %d\n%s", exit, out)
	}
	l.mount()
	locks, err := filepath.Glob(filepath.Join(base, "lock/*.lock"))
	must(t, err)
	if len(locks) == 0 {
		t.Fatal("no lock file is left")
	}
	for _, path := range append(locks, filepath.Join(base, "lock")) {
		st, err := os.Stat(path)
		must(t, err)
		if st.Mode()&0o077 != 0 {
			t.Errorf("%s: mode %v", path, st.Mode())
		}
		if out, err := asNobody("flock", "--shared", "--nonblock", path, "true").CombinedOutput(); err == nil {
			t.Errorf("another user can lock %s: %s", path, out)
		}
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
