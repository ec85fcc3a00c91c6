//go:build root

package root

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeDebootstrap stands in for a bootstrap that takes as long as it is told:
// it makes the tiny tree, and has a child, as the real one does.
func (l *lab) fakeDebootstrap(seconds string) {
	l.Helper()
	l.fake("debootstrap", fmt.Sprintf(`
case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac
target=; for a; do case "$a" in %[1]s/*) target=$a;; esac; done
[ -n "$target" ] || { echo "E: no target in $*" >&2; exit 1; }
echo "I: Retrieving"
(exec -a %[2]s sleep %[3]s) &
mount -t tmpfs fake "$target/mnt" 2>/dev/null
mkdir -p "$target/etc" "$target/usr" && echo 'root:x:0:0:root:/root:/bin/bash' > "$target/etc/passwd" && echo 'root:*:19000:0:99999:7:::' > "$target/etc/shadow"
i=0; while [ $i -lt 200 ]; do echo $i > "$target/usr/$i"; i=$((i+1)); done
wait
umount "$target/mnt" 2>/dev/null; :`, base, mark(), seconds))
	l.write("default", "BOOTSTRAP=debootstrap\nMIRROR=http://mirror.example/debian\n", 0o644)
}

// killed starts create, kills it when the moment has come (a channel that
// yields) and expects the node clean within 2 s. It reports whether create was
// still running.
func (l *lab) killed(moment <-chan time.Time, kill func(pid int)) bool {
	l.Helper()
	return l.killedCommand(l.command("create"), moment, kill)
}

func (l *lab) killedCommand(cmd *exec.Cmd, moment <-chan time.Time, kill func(pid int)) bool {
	l.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(l, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
		l.clean(0)
		return false
	case <-moment:
	}
	kill(cmd.Process.Pid)
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		l.Fatalf("it does not end after the signal:\n%s", out.String())
	}
	l.clean(2 * time.Second)
	return true
}

// running yields when a process that carries the test's mark runs.
func (l *lab) running() <-chan time.Time {
	ch := make(chan time.Time, 1)
	go func() {
		for range 1000 {
			for _, p := range l.processes() {
				if strings.Contains(p, mark()) {
					time.Sleep(50 * time.Millisecond) // let it mount and fork
					ch <- time.Now()
					return
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	return ch
}

var kills = map[string]func(pid int){
	"SIGTERM":              func(pid int) { syscall.Kill(pid, syscall.SIGTERM) },
	"SIGINT":               func(pid int) { syscall.Kill(pid, syscall.SIGINT) },
	"SIGKILL":              func(pid int) { syscall.Kill(pid, syscall.SIGKILL) },
	"SIGKILL to the group": func(pid int) { syscall.Kill(-pid, syscall.SIGKILL) },
	"SIGKILL to the inner process": func(pid int) {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // any may have forked
		for _, thread := range threads {
			b, _ := os.ReadFile(thread)
			for _, child := range strings.Fields(string(b)) {
				if pid, err := strconv.Atoi(child); err == nil {
					syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}
	},
	"SIGTERM to the group": func(pid int) { syscall.Kill(-pid, syscall.SIGTERM) },
}

func TestKilledWhileDebootstrapRuns(t *testing.T) {
	for name, kill := range kills {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 600)
			l.fakeDebootstrap("1000")
			if !l.killed(l.running(), kill) {
				t.Fatal("create ended before it was killed")
			}
			if entries, _ := os.ReadDir(filepath.Join(base, "cache")); len(entries) != 0 {
				t.Errorf("the cache has %v", entries)
			}
		})
	}
}

func TestKilledWhileAHookRuns(t *testing.T) {
	for name, kill := range kills {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 600)
			l.tinyTree()
			l.hook("10-slow", fmt.Sprintf(`trap '' TERM INT; cd "$TARGET"; mount --bind /dev "$TARGET/etc"; setsid bash -c 'trap "" TERM; exec -a %s sleep 1000' & sleep 1000`, mark()))
			if !l.killed(l.running(), kill) {
				t.Fatal("create ended before it was killed")
			}
		})
	}
}

func TestKilledWhileASettingsFileRuns(t *testing.T) {
	for _, args := range [][]string{{"verify"}, {"instance-debootstrap", "plan", "create"}, {"instance-debootstrap", "cache", "list"}, {"instance-debootstrap", "vm", "defaults"}} {
		for name, kill := range kills {
			t.Run(strings.Join(args, " ")+" "+name, func(t *testing.T) {
				l := newLab(t, 600)
				must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
				l.write("default", fmt.Sprintf("A=$( (exec -a %[1]s sleep 1000) )\n", mark()), 0o644)
				if !l.killedCommand(l.command(args[0], args[1:]...), l.running(), kill) {
					t.Fatal("it ended before it was killed")
				}
			})
		}
	}
}

func TestAMountThatIsEndedWhileASettingsFileRunsDoesNotGoOn(t *testing.T) {
	l := newLab(t, 600)
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	l.write("default", fmt.Sprintf("A=$( (exec -a %[1]s sleep 1000) )\n", mark()), 0o644)
	var said bytes.Buffer
	cmd := l.command("instance-debootstrap", "mount", l.disk, t.TempDir())
	cmd.Stderr = &said
	must(t, cmd.Start())
	<-l.running()
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() != 143 || strings.Contains(said.String(), "GUEST_FSCK") {
		t.Errorf("%v:\n%s", err, said.String())
	}
	l.clean(2 * time.Second)
}
