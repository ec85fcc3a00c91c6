//go:build root

package root

import (
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"instance-debootstrap/test/fault"
)

// Kinds of faults besides those that each matrix has.
const (
	cacheRemoved = "the cache folder is removed"
	secondRun    = "a second run"
)

// cells are all cells of a case, from the points that its good run has come to.
func (b *faultBench) cells() []fault.Cell {
	cells := fault.Cells(b.points, func(step, tool, point string) []string {
		if point == step+"|begin" {
			return []string{cacheRemoved, secondRun}
		}
		return nil
	})
	for _, name := range slices.Sorted(maps.Keys(nodeFaults)) {
		f := nodeFaults[name]
		if (f.only == "" || slices.Contains(strings.Split(f.only, " "), b.verb)) && (!f.cold || b.path == "cold") {
			cells = append(cells, fault.Cell{Point: fault.OnTheNode, Kind: name})
		}
	}
	return cells
}

// inside is what the program itself has to do at the point.
func inside(c fault.Cell) string {
	if stops(c) {
		return "stop"
	}
	return c.Kind
}

// stops tells whether the test does something when the run has come to the point.
func stops(c fault.Cell) bool {
	return fault.Signals[c.Kind] != nil || c.Kind == fault.Hangs || c.Kind == cacheRemoved || c.Kind == secondRun
}

// act does it.
func (b *faultBench) act(kind string, pid int) (wrong string) {
	switch kind {
	case fault.Hangs: // whatever has a limit of its own that is as short ends by itself
		time.Sleep(time.Second)
		syscall.Kill(pid, syscall.SIGTERM)
	case cacheRemoved:
		b.l.tool("sh", "-c", `find "$0" -mindepth 1 -delete; rmdir "$0" || :`, b.cache)
	case secondRun:
		return b.second()
	default:
		fault.Signals[kind](pid)
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
