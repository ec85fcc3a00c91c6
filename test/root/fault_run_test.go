//go:build root

package root

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
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
	took   int64    // bytes that the good run has stored on the disks
}

// bench makes a case's state, copies it, and learns the points by a good run.
func (c *faultCase) bench() *faultBench {
	l := c.l
	l.Helper()
	b := &faultBench{faultCase: c, dir: l.TempDir()}
	must(l, os.Chmod(b.dir, 0o755))
	l.tool("sh", "-e", "-c", "mkdir -p $0/disks $0/cache $0/fails $0/garbage; cp -a --sparse=always $1/. $0/cache", b.dir, c.cache)
	for _, disk := range c.disks {
		if _, err := os.Stat(disk); err == nil {
			l.tool("cp", "-a", "--sparse=always", disk, b.dir+"/disks/")
		}
	}
	b.before = b.fingerprint()
	b.old = l.holdsIfThere(c.disks[0])
	b.names = b.strays()
	had := stored(c.disks)
	got := b.run(faultCell{}, nil)
	if got.exit != 0 {
		l.Fatalf("%s: exit status %d\n%s", c.name(), got.exit, got.log)
	}
	l.clean(0)
	b.points = got.points
	b.took = stored(c.disks) - had
	b.new = l.holdsIfThere(c.disks[0])
	if c.verb == "export" {
		b.stream = filepath.Join(b.dir, "good-stream")
		l.tool("cp", b.out(), b.stream)
	}
	var tools []string
	for _, point := range b.points {
		if _, tool := pointOf(point); tool != "" && !slices.Contains(tools, tool) {
			tools = append(tools, tool)
		}
	}
	l.helpers(b.dir, tools)
	c.bench0 = b
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

// pointOf takes a point apart: a step, and the tool that it calls; "" is its begin or end.
func pointOf(point string) (step, tool string) {
	step, at, _ := strings.Cut(point, "|")
	if tool, _, ok := strings.Cut(at, "#"); ok {
		return step, tool
	}
	return step, ""
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

// ran is how a run ended.
type ran struct {
	log     string
	exit    int
	reached bool // it came to the cell's point, and stopped there
	late    bool // it didn't end
	points  []string
}

func (r ran) last() string { return fed{log: r.log}.last() }

// run runs the verb with a cell's fault; act is done when the run has stopped at the point.
func (b *faultBench) run(cell faultCell, act func(pid int)) (r ran) {
	l := b.l
	l.Helper()
	trace := filepath.Join(b.dir, "trace")
	must(l, os.WriteFile(trace, nil, 0o600))
	os.Remove(filepath.Join(b.dir, "go"))
	h := fnv.New32()
	h.Write([]byte(cell.point))
	cmd := b.command()
	cmd.Env = append(cmd.Env, "FAULTY_TRACE="+trace, "FAULTY_DIR="+b.dir, "FAULTY_POINT="+cell.point,
		"FAULTY_KIND="+cell.inside(), fmt.Sprint("FAULTY_MS=", h.Sum32()%12))
	if node, ok := nodeFaults[cell.kind]; ok {
		i := slices.Index(cmd.Args, "-c") + 1
		cmd.Args[i] = b.arrangement(node) + "\n" + cmd.Args[i]
	}
	if cell.kind == missing {
		i := slices.Index(cmd.Args, "-c") + 1
		for _, path := range toolsOnPath(cell.point) {
			cmd.Args[i] = fmt.Sprintf("mount --bind %s/not-a-program %s\n%s", b.dir, path, cmd.Args[i])
		}
		must(l, os.WriteFile(b.dir+"/not-a-program", nil, 0o644))
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
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
	must(l, cmd.Start())
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	r.reached = act != nil && stopped(trace, done)
	if r.reached {
		act(cmd.Process.Pid)
		time.Sleep(20 * time.Millisecond) // a signal is on its way
	}
	must(l, os.WriteFile(filepath.Join(b.dir, "go"), nil, 0o600))
	r.late = !ends(cmd, done)
	r.log, r.exit = log.String(), cmd.ProcessState.ExitCode()
	text, _ := os.ReadFile(trace)
	for line := range strings.Lines(string(text)) {
		if point, ok := strings.CutPrefix(strings.TrimSpace(line), "point\t"); ok {
			r.points = append(r.points, point)
		}
	}
	return r
}

// stopped waits until the run has stopped at its point, or has ended.
func stopped(trace string, done chan struct{}) bool {
	for {
		text, _ := os.ReadFile(trace)
		if bytes.Contains(text, []byte("stopped\n")) {
			return true
		}
		select {
		case <-done:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ends waits for the run's end: for as long as the longest orderly end takes.
func ends(cmd *exec.Cmd, done chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-time.After(40 * time.Second):
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
		return false
	}
}

var crashed = regexp.MustCompile(`(?m)^(panic:|goroutine \d|fatal error:|runtime: )`)

// try is one cell: the run, what it leaves, and the next run. wrong is "" when all of that is
// as it should be.
func (b *faultBench) try(cell faultCell) (r ran, wrong string) {
	l := b.l
	l.Helper()
	var act func(int)
	if cell.stops() {
		act = func(pid int) { wrong = b.act(cell.kind, pid) }
	}
	enlarge := b.smallDisk(cell.kind)
	r = b.run(cell, act)
	problems := []string{wrong}
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if r.late {
		add("it didn't end in 40 s")
	}
	if left := l.left(3 * time.Second); len(left) > 0 {
		add("left behind: %s", strings.Join(left, "; "))
	}
	if names := b.strays(); !slices.Equal(names, b.names) {
		add("files beside the disks: %q, and before %q", names, b.names)
	}
	if crashed.MatchString(r.log) && !strings.HasSuffix(cell.kind, "threads") { // Go's runtime has no other end for that
		add("it crashed")
	}
	add("%s", cell.told(r))
	add("%s", b.outcome(r.exit))
	enlarge()
	problems = append(problems, b.again(cell, r)...)
	problems = slices.DeleteFunc(problems, func(s string) bool { return s == "" })
	return r, strings.Join(problems, "\n  ")
}

// again has the verb run on what the fault has left; after that all is as after a good run.
// A data disk that a killed create was formatting is the exception: nothing tells what is on it
// from data of the admin's.
func (b *faultBench) again(cell faultCell, before ran) (problems []string) {
	if cell.kind == cacheRemoved || nodeFaults[cell.kind].spoils || b.verb == "install" { // whose image has its name, or not
		b.restore()
	}
	r := b.run(faultCell{}, nil)
	wasKilled := before.exit < 0 || strings.Contains(before.log, "the process that did the work was ended")
	if wasKilled && strings.Contains(r.last(), "only a blank disk is formatted") {
		b.restore()
		r = b.run(faultCell{}, nil)
	}
	if r.exit != 0 {
		problems = append(problems, fmt.Sprintf("the next run: exit status %d\n%s", r.exit, r.log))
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
