//go:build root

package root

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/test/fault"
)

// faultBench is where one case's cells run: what there was before, and what a good run has
// made of it.
type faultBench struct {
	*faultCase
	dir    string // the traces, the stand-ins, the copies
	before map[string]string
	old    found
	new    found
	stream string   // of a good export
	names  []string // files beside the disks
	points []string // that the good run came to, in their order
	sure   []string // those of them that another good run came to as well
	took   int64    // bytes that the good run has stored on the disks
	lasted time.Duration
	tracer string // a command that starts the program, by which it is traced
}

// bench makes a case's state, copies it, and learns the points by a good run.
func (c *faultCase) bench() *faultBench {
	l := c.l
	l.Helper()
	b := &faultBench{faultCase: c, dir: l.TempDir()}
	must(l, os.Chmod(b.dir, 0o755))
	l.tool("sh", "-e", "-c", "mkdir -p $0/disks $0/cache; cp -a --sparse=always $1/. $0/cache", b.dir, c.cache)
	for _, disk := range c.disks {
		if _, err := os.Stat(disk); err == nil {
			l.tool("cp", "-a", "--sparse=always", disk, b.dir+"/disks/")
		}
	}
	b.before = b.fingerprint()
	b.old = l.holdsIfThere(c.disks[0])
	b.names = b.strays()
	had := stored(c.disks)
	got := b.run(fault.Cell{}, nil)
	if got.Exit != 0 {
		l.Fatalf("%s: exit status %d\n%s", c.name(), got.Exit, got.Log)
	}
	l.clean(0)
	b.points = got.Points
	b.took = stored(c.disks) - had
	b.new = l.holdsIfThere(c.disks[0])
	if c.verb == "grow" && !b.old.isSmaller(b.new) {
		l.Fatalf("%s: it didn't grow", c.name())
	}
	if c.verb == "export" {
		b.stream = filepath.Join(b.dir, "good-stream")
		l.tool("cp", b.out(), b.stream)
	}
	must(l, fault.StandIns(b.dir, fault.ToolsOf(b.points)))
	c.bench0 = b
	b.restore()
	begin := time.Now()
	again := b.run(fault.Cell{}, nil)
	b.lasted = time.Since(begin)
	if again.Exit != 0 {
		l.Fatalf("%s, again: exit status %d\n%s", c.name(), again.Exit, again.Log)
	}
	for _, point := range b.points {
		if slices.Contains(again.Points, point) {
			b.sure = append(b.sure, point)
		}
	}
	b.restore()
	return b
}

func (b *faultBench) out() string { return filepath.Join(b.dir, "out") }

func (l *lab) holdsIfThere(disk string) (f found) {
	if _, err := os.Stat(disk); err == nil {
		f = l.holds(disk)
	}
	return f
}

// fingerprint tells whether the cache's files are as they were.
func (b *faultBench) fingerprint() map[string]string {
	seen := map[string]string{}
	entries, _ := os.ReadDir(b.cache)
	for _, e := range entries {
		if st, err := os.Stat(filepath.Join(b.cache, e.Name())); err == nil && !st.IsDir() {
			seen[e.Name()] = fmt.Sprint(st.Size(), st.ModTime().UnixNano(), st.Sys().(*syscall.Stat_t).Ino)
		}
	}
	return seen
}

// restore makes all as it was before.
func (b *faultBench) restore() {
	b.l.Helper()
	if now := b.fingerprint(); !maps.Equal(now, b.before) || len(now) == 0 {
		b.l.tool("sh", "-e", "-c", `mkdir -p "$1"; chmod 755 "$1"; find "$1" -mindepth 1 -delete; cp -a --sparse=always "$0/cache/." "$1"`, b.dir, b.cache)
		b.before = b.fingerprint()
	}
	b.l.tool("find", base+"/state", "-mindepth", "1", "-delete")
	for _, disk := range b.disks {
		b.l.tool("sh", "-e", "-c", `rm -f "$1"; [ ! -e "$0" ] || cp -a --sparse=always "$0" "$1"`, filepath.Join(b.dir, "disks", filepath.Base(disk)), disk)
	}
}

// strays are the names of all files that a run could leave somewhere.
func (b *faultBench) strays() (names []string) {
	for _, dir := range []string{base, base + "/conf", base + "/os", filepath.Dir(b.disks[0])} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == b.cache || slices.Contains(b.disks, name) })
}

// run runs the verb with a cell's fault; act is done when the run has stopped at the point.
func (b *faultBench) run(cell fault.Cell, act func(pid int)) (r fault.Ran) {
	b.l.Helper()
	r = b.runUntil(cell, func(done chan struct{}) bool { return act != nil && fault.Dir(b.dir).Stopped(done) }, act)
	if act == nil {
		r.Reached = slices.Contains(r.Points, cell.Point)
	}
	return r
}

// runUntil runs the verb; act is done when until has returned, unless that was false.
func (b *faultBench) runUntil(cell fault.Cell, until func(done chan struct{}) bool, act func(pid int)) (r fault.Ran) {
	l := b.l
	l.Helper()
	for _, disk := range b.disks {
		l.free(disk)
	}
	cmd := b.command()
	defer b.arrange(cell, cmd)()
	if b.verb == "export" {
		out, err := os.Create(b.out())
		must(l, err)
		defer out.Close()
		cmd.Stdout = out
	}
	if b.stdin != "" {
		in, err := os.Open(b.stdin)
		must(l, err)
		defer in.Close()
		cmd.Stdin = in
	}
	r, err := fault.Dir(b.dir).Run(cmd, cell, inside(cell), until, act)
	must(l, err)
	return r
}

// try is one cell: the run, what it leaves, and the next run. wrong is "" when all of that is
// as it should be.
func (b *faultBench) try(cell fault.Cell) (r fault.Ran, wrong string) {
	l := b.l
	l.Helper()
	var act func(int)
	if stops(cell) {
		act = func(pid int) { wrong = b.act(cell.Kind, pid) }
	}
	enlarge := b.smallDisk(cell.Kind)
	r = b.run(cell, act)
	problems := []string{wrong}
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if r.Late {
		add("it didn't end in 40 s")
	}
	problems = append(problems, b.leaves()...)
	if fault.Crashed.MatchString(r.Log) && !strings.HasSuffix(cell.Kind, "threads") { // Go's runtime has no other end for that
		add("it crashed")
	}
	if !r.Reached && slices.Contains(b.sure, cell.Point) {
		add("not reached: two good runs came to this point")
	}
	add("%s", cell.Told(r, stops(cell)))
	add("%s", b.outcome(r.Exit))
	if tars, _ := filepath.Glob(b.cache + "/cache-*.tar"); b.verb == "cache warm" && r.Exit == 0 && len(tars) == 0 && !strings.HasPrefix(cell.Kind, "the cache") { // which another one was
		add("success, and there is no tree")
	}
	enlarge()
	problems = append(problems, b.again(cell, r)...)
	problems = slices.DeleteFunc(problems, func(s string) bool { return s == "" })
	return r, strings.Join(problems, "\n  ")
}

// leaves is what a run that has ended leaves, and must not.
func (b *faultBench) leaves() (problems []string) {
	if left := b.l.left(3 * time.Second); len(left) > 0 {
		problems = append(problems, "left behind: "+strings.Join(left, "; "))
	}
	locks, _ := filepath.Glob(base + "/lock/*")
	for _, path := range append(locks, b.disks...) {
		held := lockHeld(path)
		for deadline := time.Now().Add(3 * time.Second); held != nil && time.Now().Before(deadline); held = lockHeld(path) {
			time.Sleep(5 * time.Millisecond) // the kernel closes a loop device's file when it comes to it
		}
		if held != nil {
			problems = append(problems, fmt.Sprintf("%s is still locked: %v", path, held))
		}
	}
	if names := b.strays(); !slices.Equal(names, b.names) {
		problems = append(problems, fmt.Sprintf("files beside the disks: %q, and before %q", names, b.names))
	}
	return problems
}

// lockHeld tries for all of a file what a lock of the program's, or of QEMU, would forbid.
func lockHeld(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil // a folder, or a disk that isn't there
	}
	defer f.Close()
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB),
		unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
}

// again has the verb run on what the fault has left; after that all is as after a good run.
// A data disk that a killed create was formatting is the exception: nothing tells what is on it
// from data of the admin's.
func (b *faultBench) again(cell fault.Cell, before fault.Ran) (problems []string) {
	if cell.Kind == cacheRemoved || nodeFaults[cell.Kind].spoils || b.verb == "install" { // whose image has its name, or not
		b.restore()
	}
	r := b.run(fault.Cell{}, nil)
	wasKilled := before.Exit < 0 || strings.Contains(before.Log, "the process that did the work was ended")
	if wasKilled && strings.Contains(r.Last(), "only a blank disk is ") {
		b.restore()
		r = b.run(fault.Cell{}, nil)
	}
	if wasKilled && b.verb == "grow" && strings.Contains(r.Last(), "e2fsck can't repair it without asking") && !growsMounted(b.l.T) {
		b.l.mends(b.disks[0], "ext4") // as the admin guide says of resize2fs that works in place
		r = b.run(fault.Cell{}, nil)
	}
	if r.Exit != 0 {
		problems = append(problems, fmt.Sprintf("the next run: exit status %d\n%s", r.Exit, r.Log))
	} else if wrong := b.outcome(0); wrong != "" {
		problems = append(problems, "after the next run: "+wrong)
	}
	if left := b.l.left(time.Second); len(left) > 0 {
		problems = append(problems, "left by the next run: "+strings.Join(left, "; "))
	}
	b.restore()
	return problems
}

// left is what is left behind after so long.
func (l *lab) left(within time.Duration) (left []string) {
	for deadline := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		if left = l.leftovers(); len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

// growsMounted reports whether the kernel lets this process grow an ext4 while it is mounted,
// which takes CAP_SYS_RESOURCE (capabilities(7)).
func growsMounted(t *testing.T) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	must(t, unix.Capget(&header, &data[0]))
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
