package fault

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Cell is one fault of a case: at a point of the good run, or of the node. For a tool that is
// missing, Point is its name.
type Cell struct{ Point, Kind string }

// Kinds of faults besides signals and the node's.
const (
	Fails   = "fails"
	Garbage = "garbage"
	Killed  = "killed"
	Hangs   = "hangs"
	Missing = "missing"
	// Lost is a call that was carried out, and fails.
	Lost = "lost"
	// OnTheNode is the point of what is wrong with the node.
	OnTheNode = "the node"
)

// Kills are what ends a run.
var Kills = map[string]func(pid int){
	"SIGTERM":                      func(pid int) { syscall.Kill(pid, syscall.SIGTERM) },
	"SIGINT":                       func(pid int) { syscall.Kill(pid, syscall.SIGINT) },
	"SIGKILL":                      func(pid int) { syscall.Kill(pid, syscall.SIGKILL) },
	"SIGKILL to the group":         func(pid int) { syscall.Kill(-pid, syscall.SIGKILL) },
	"SIGKILL to the inner process": killChildren,
	"SIGTERM to the group":         func(pid int) { syscall.Kill(-pid, syscall.SIGTERM) },
}

func killChildren(pid int) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // any may have forked
	for _, thread := range threads {
		b, _ := os.ReadFile(thread)
		for _, child := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(child); err == nil {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

// Signals are what ends a run, beside what Kills has.
var Signals = func() map[string]func(pid int) {
	all := maps.Clone(Kills)
	for name, number := range map[string]syscall.Signal{"SIGHUP": syscall.SIGHUP, "SIGINT": syscall.SIGINT} {
		all[name] = func(pid int) { syscall.Kill(pid, number) }
		all[name+" to the group"] = func(pid int) { syscall.Kill(-pid, number) }
	}
	return all
}()

// PointOf takes a point apart: a step, and the tool that it calls; "" is its begin or end.
func PointOf(point string) (step, tool string) {
	step, at, _ := strings.Cut(point, "|")
	if tool, _, ok := strings.Cut(at, "#"); ok {
		return step, tool
	}
	return step, ""
}

// ToolsOf are the tools of points.
func ToolsOf(points []string) (tools []string) {
	for _, point := range points {
		if _, tool := PointOf(point); tool != "" && !slices.Contains(tools, tool) {
			tools = append(tools, tool)
		}
	}
	return tools
}

// Cells are the cells of points: those that each case has, and further kinds, by the point.
func Cells(points []string, more func(step, tool, point string) (kinds []string)) (cells []Cell) {
	add := func(point string, kinds ...string) {
		for _, kind := range kinds {
			cells = append(cells, Cell{point, kind})
		}
	}
	signals := slices.Sorted(maps.Keys(Signals))
	missing := map[string]bool{}
	for _, point := range points {
		step, tool := PointOf(point)
		switch {
		case tool != "":
			if !strings.HasSuffix(tool, " in the guest") {
				add(point, Fails, Garbage, Killed)
			}
			add(point, Hangs)
			if !missing[tool] && len(ToolsOnPath(tool)) > 0 { // not the admin's hook
				missing[tool] = true
				add(tool, Missing)
			}
		case point != step+"|begin":
			add(point, Fails)
		}
		add(point, more(step, tool, point)...)
		add(point, signals...)
	}
	return cells
}

var unprintable = regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]`)

// Crashed is what Go's runtime says of a program that did.
var Crashed = regexp.MustCompile(`(?m)^(panic:|goroutine \d|fatal error:|runtime: )`)

// Told says what is wrong with what a run says at its end; stopped tells whether it was stopped at
// the cell's point.
func (c Cell) Told(r Ran, stopped bool) string {
	if unprintable.MatchString(r.Log) {
		return fmt.Sprintf("the log has %q", unprintable.FindString(r.Log))
	}
	_, tool := PointOf(c.Point)
	step, _, _ := strings.Cut(c.Point, "|")
	names := func(texts ...string) string {
		for _, text := range texts {
			if strings.Contains(r.Last(), text) {
				return ""
			}
		}
		return fmt.Sprintf("exit status %d, and the last line %q names none of %q", r.Exit, r.Last(), texts)
	}
	signal, _, _ := strings.Cut(c.Kind, " ")
	if c.Kind == Hangs {
		signal = "SIGTERM"
	}
	switch {
	case r.Exit == 0 && c.Kind == Fails && tool == "":
		return "success, though a step has failed"
	case strings.HasSuffix(c.Kind, "threads") && Crashed.MatchString(r.Log):
		return ""
	case r.Exit < 0 && strings.HasSuffix(c.Kind, " of memory"): // the kernel has ended it by SIGKILL
		return ""
	case r.Exit == 0, stopped && signal == "SIGKILL":
		return ""
	case r.Exit != 1 && !(stopped && r.Exit > 128):
		return fmt.Sprintf("exit status %d", r.Exit)
	case r.Last() == "" && !strings.Contains(c.Kind, "stderr"):
		return fmt.Sprintf("exit status %d without a word", r.Exit)
	case stopped && strings.HasPrefix(signal, "SIG"):
		return names("interrupted by " + signal)
	case c.Kind == Fails && tool == "":
		return names(step + ": made to fail")
	case c.Kind == Missing:
		return names(c.Point)
	case c.Kind == Fails, c.Kind == Garbage, c.Kind == Killed, c.Kind == Lost:
		return names(tool, step)
	}
	return ""
}
