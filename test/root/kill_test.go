//go:build root

package root

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"instance-debootstrap/test/fault"
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

var kills = fault.Kills

// killVerbs are what is killed at any moment, by the fault matrix's names of cases.
var killVerbs = []struct {
	name  string
	cases []string
}{
	{"create, warm", []string{"create, msdos, image", "create, gpt, swap, data, image"}},
	{"create by a tar", []string{"create, none, tar"}},
	{"create, cold", []string{"create, msdos, cold"}},
	{"create with a hook", []string{"create, gpt, hook"}},
	{"import", []string{"import, gpt, swap, data, ours", "import, msdos, image", "import, none, dump"}},
	{"export", []string{"export, msdos, tar", "export, none, image"}},
	{"rename", []string{"rename, msdos, ext4", "rename, none, xfs"}},
	{"grow", []string{"grow, gpt, swap, data, xfs", "grow, msdos, ext4", "grow, none, btrfs"}},
	{"verify", []string{"verify, none, settings"}},
}

// TestKilledAtAnyMomentNothingIsLeftAndNoDiskLies has each verb killed KILL_COUNT times, at
// moments spread by KILL_SEED over a good run's time and a little more: the process, its group
// and its pid 1 in turn. KILL_ONLY is the name of a verb. After each fiftieth, and the last, the
// verb is run again.
func TestKilledAtAnyMomentNothingIsLeftAndNoDiskLies(t *testing.T) {
	seed, count := attackNumber(t, "KILL_SEED", 1), int(attackNumber(t, "KILL_COUNT", 20))
	cases := map[string]*faultCase{}
	for _, c := range faultCases() {
		cases[c.name()] = c
	}
	for _, verb := range killVerbs {
		for i, name := range verb.cases {
			if !strings.Contains(verb.name, os.Getenv("KILL_ONLY")) {
				continue
			}
			n := count*(i+1)/len(verb.cases) - count*i/len(verb.cases)
			t.Run(strings.ReplaceAll(name, ", ", "/"), func(t *testing.T) {
				begun := time.Now()
				k := killing{t: t, random: rand.New(rand.NewPCG(seed, uint64(i)))}
				k.killAll(cases[name], n)
				t.Logf("KILLS %s: %s: %d kills in %v, KILL_SEED=%d: %v", verb.name, name, n, time.Since(begun).Round(time.Second), seed, k.counts)
				if k.counts["killed"] < n/4 {
					t.Errorf("only %d of %d runs were killed", k.counts["killed"], n)
				}
			})
		}
	}
}

const wasOver = "it was over"

// killing is what becomes of one case's kills.
type killing struct {
	t      *testing.T
	random *rand.Rand
	took   time.Duration // of a good run
	counts map[string]int
}

func (k *killing) killAll(c *faultCase, n int) {
	c.ready(k.t)
	b := c.bench()
	k.counts, k.took = map[string]int{}, b.lasted
	for i, at := range k.random.Perm(n) { // one in each n-th of the time
		moment := time.Duration((float64(at) + k.random.Float64()) / float64(n) * 1.1 * float64(k.took))
		kill := []string{"SIGKILL", "SIGKILL to the group", "SIGKILL to the inner process"}[i%3]
		r, problems := k.one(b, moment, kill)
		switch {
		case i == n-1:
			problems = append(problems, b.again(fault.Cell{}, r)...)
		case i%50 == 49:
			problems = append(problems, b.again(fault.Cell{}, r)...)
			k.measure(b)
		default:
			b.restore()
		}
		if len(problems) > 0 {
			k.t.Errorf("%s after %v (of %v), number %d: exit status %d\n  %s\n%s", kill, moment, k.took, i, r.Exit, strings.Join(problems, "\n  "), r.Log)
			k.counts["FAILED"]++
		}
	}
}

// measure has a good run tell how long it takes at present.
func (k *killing) measure(b *faultBench) {
	begin := time.Now()
	if r := b.run(fault.Cell{}, nil); r.Exit != 0 {
		k.t.Fatalf("%s: exit status %d\n%s", b.name(), r.Exit, r.Log)
	}
	k.took = time.Since(begin)
	b.restore()
}

// unwritten tells by their times that nothing was written to the disks.
func (b *faultBench) unwritten() bool {
	for _, disk := range b.disks {
		now, err := os.Stat(disk)
		old, errOld := os.Stat(filepath.Join(b.dir, "disks", filepath.Base(disk)))
		if (err == nil) != (errOld == nil) || err == nil && (!now.ModTime().Equal(old.ModTime()) || now.Size() != old.Size()) {
			return false
		}
	}
	return true
}

// one kills a run, and says what is wrong after it.
func (k *killing) one(b *faultBench, moment time.Duration, kill string) (r fault.Ran, problems []string) {
	late := func(done chan struct{}) bool {
		select {
		case <-done:
			return false
		case <-time.After(moment):
			return true
		}
	}
	r = b.runUntil(fault.Cell{}, late, kills[kill])
	return r, k.judge(b, r)
}

// judge counts how a run ended that was to be killed, and says what is wrong after it.
func (k *killing) judge(b *faultBench, r fault.Ran) (problems []string) {
	how := "killed"
	switch {
	case !r.Reached || r.Exit == 0: // or what was killed had not begun, or its work was done
		how = wasOver
	case r.Exit > 0:
		how = "its end told"
	}
	k.counts[how]++
	if r.Late {
		problems = append(problems, "it didn't end in 40 s")
	}
	if fault.Crashed.MatchString(r.Log) {
		problems = append(problems, "it crashed")
	}
	if !r.Reached && r.Exit != 0 {
		problems = append(problems, "it failed by itself")
	}
	problems = append(problems, b.leaves()...)
	outcome := b.outcome
	if r.Exit != 0 && b.unwritten() {
		outcome = b.cacheOutcome
	}
	if wrong := outcome(r.Exit); wrong != "" {
		problems = append(problems, wrong)
	}
	return problems
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
