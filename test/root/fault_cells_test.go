//go:build root

package root

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// faultCell is one fault of a case: at a point of the good run, or of the node. For a tool
// that is missing, point is its name.
type faultCell struct{ point, kind string }

// Kinds of faults besides signals and the node's.
const (
	fails        = "fails"
	garbage      = "garbage"
	killed       = "killed"
	hangs        = "hangs"
	missing      = "missing"
	cacheRemoved = "the cache folder is removed"
	secondRun    = "a second run"
	onTheNode    = "the node"
)

// signals are what ends a run, beside what kills has.
var faultSignals = func() map[string]func(pid int) {
	all := maps.Clone(kills)
	for name, number := range map[string]syscall.Signal{"SIGHUP": syscall.SIGHUP, "SIGINT": syscall.SIGINT} {
		all[name] = func(pid int) { syscall.Kill(pid, number) }
		all[name+" to the group"] = func(pid int) { syscall.Kill(-pid, number) }
	}
	return all
}()

// cells are all cells of a case, from the points that its good run has come to.
func (b *faultBench) cells() (cells []faultCell) {
	add := func(point string, kinds ...string) {
		for _, kind := range kinds {
			cells = append(cells, faultCell{point, kind})
		}
	}
	signals := slices.Sorted(maps.Keys(faultSignals))
	var tools []string
	for _, point := range b.points {
		step, tool := pointOf(point)
		switch {
		case tool != "":
			if !strings.HasSuffix(tool, " in the guest") {
				add(point, fails, garbage, killed)
			}
			add(point, hangs)
			if !slices.Contains(tools, tool) && len(toolsOnPath(tool)) > 0 { // not the admin's hook
				tools = append(tools, tool)
				add(tool, missing)
			}
		case point == step+"|begin":
			add(point, cacheRemoved, secondRun)
		default:
			add(point, fails)
		}
		add(point, signals...)
	}
	for _, name := range slices.Sorted(maps.Keys(nodeFaults)) {
		if only := nodeFaults[name].only; only == "" || slices.Contains(strings.Split(only, " "), b.verb) {
			add(onTheNode, name)
		}
	}
	return cells
}

// inside is what the program itself has to do at the point.
func (c faultCell) inside() string {
	if c.stops() {
		return "stop"
	}
	return c.kind
}

// stops tells whether the test does something when the run has come to the point.
func (c faultCell) stops() bool {
	return faultSignals[c.kind] != nil || c.kind == hangs || c.kind == cacheRemoved || c.kind == secondRun
}

// act does it.
func (b *faultBench) act(kind string, pid int) (wrong string) {
	switch kind {
	case hangs: // whatever has a limit of its own that is as short ends by itself
		time.Sleep(time.Second)
		syscall.Kill(pid, syscall.SIGTERM)
	case cacheRemoved:
		b.l.tool("sh", "-c", `find "$0" -mindepth 1 -delete; rmdir "$0" || :`, b.cache)
	case secondRun:
		return b.second()
	default:
		faultSignals[kind](pid)
	}
	return ""
}

// second runs the verb once more, while the first one is at its point. It is refused, or
// does all of its work: what comes of the disk is looked at afterwards.
func (b *faultBench) second() string {
	cmd := b.command()
	out, err := b.output(cmd)
	if last := (fed{log: out}).last(); err != nil && !strings.Contains(last, "in use") && !strings.Contains(last, "another") {
		return "the second run is refused by: " + last
	}
	return ""
}

var unprintable = regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]`)

// told says what is wrong with what a run says at its end.
func (c faultCell) told(r ran) string {
	if unprintable.MatchString(r.log) {
		return fmt.Sprintf("the log has %q", unprintable.FindString(r.log))
	}
	_, tool := pointOf(c.point)
	step, _, _ := strings.Cut(c.point, "|")
	names := func(texts ...string) string {
		for _, text := range texts {
			if strings.Contains(r.last(), text) {
				return ""
			}
		}
		return fmt.Sprintf("exit status %d, and the last line %q names none of %q", r.exit, r.last(), texts)
	}
	signal, _, _ := strings.Cut(c.kind, " ")
	if c.kind == hangs {
		signal = "SIGTERM"
	}
	switch {
	case r.exit == 0 && c.kind == fails && tool == "":
		return "success, though a step has failed"
	case strings.HasSuffix(c.kind, "threads") && crashed.MatchString(r.log):
		return ""
	case r.exit < 0 && strings.HasSuffix(c.kind, " of memory"): // the kernel has ended it by SIGKILL
		return ""
	case r.exit == 0, c.stops() && signal == "SIGKILL":
		return ""
	case r.exit != 1 && !(c.stops() && r.exit > 128):
		return fmt.Sprintf("exit status %d", r.exit)
	case r.last() == "" && !strings.Contains(c.kind, "stderr"):
		return fmt.Sprintf("exit status %d without a word", r.exit)
	case c.stops() && strings.HasPrefix(signal, "SIG"):
		return names("interrupted by " + signal)
	case c.kind == fails && tool == "":
		return names(step + ": made to fail")
	case c.kind == missing:
		return names(c.point)
	case c.kind == fails, c.kind == garbage, c.kind == killed:
		return names(tool, step)
	}
	return ""
}
