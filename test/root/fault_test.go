//go:build root

package root

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// The fault matrix: each verb, in each layout and way, with each fault at each point that a
// good run comes to. The points are taken from that run, so a new step, or a tool's new call,
// has its cells without more. docs/reliability.md says what is looked at, and what was seen.

// TestAFaultAtAnyPointLeavesNothingHalfDone is FAULT_CELLS cells of it, chosen by FAULT_SEED:
// each next one is the one with the most pairs that none had yet, of verb, layout, way, step or
// tool, and fault. With FAULT_STATE, a file with the cells that are done, it is all others, for
// FAULT_SECONDS at most, and FAULT_CELLS of each case; FAULT_ONLY has those only whose name, or
// whose case's, has a text.
func TestAFaultAtAnyPointLeavesNothingHalfDone(t *testing.T) {
	buildFaulty(t)
	if os.Getenv("FAULT_STATE") != "" {
		allFaults(t, os.Getenv("FAULT_STATE"))
		return
	}
	seed := attackNumber(t, "FAULT_SEED", 1)
	t.Logf("FAULT_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	most := int(attackNumber(t, "FAULT_CELLS", 80))
	cases := sampledCases(random)
	seen, counts := map[string]bool{}, map[string]int{}
	for i, c := range cases {
		t.Run(c.name(), func(t *testing.T) {
			c.ready(t)
			b := c.bench()
			cells := b.cells()
			random.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
			for range most*(i+1)/len(cases) - most*i/len(cases) {
				best := slices.MaxFunc(cells, func(x, y faultCell) int { return newPairs(c, x, seen) - newPairs(c, y, seen) })
				for _, pair := range pairsOf(c, best) {
					seen[pair] = true
				}
				counts[b.report(t, best)]++
			}
		})
	}
	t.Logf("%d cells of %d cases, %d pairs: %v", most, len(cases), len(seen), counts)
}

// sampledCases has each verb, create and import twice.
func sampledCases(random *rand.Rand) (chosen []*faultCase) {
	cases := faultCases()
	random.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
	count := map[string]int{}
	for _, c := range cases {
		if count[c.verb] < map[string]int{"create": 2, "import": 2}[c.verb] || count[c.verb] == 0 {
			count[c.verb]++
			chosen = append(chosen, c)
		}
	}
	return chosen
}

func pairsOf(c *faultCase, cell faultCell) (pairs []string) {
	step, tool := pointOf(cell.point)
	where := step
	if tool != "" {
		where = tool
	}
	sides := []string{c.verb, "layout " + c.layout, "way " + c.path, "at " + where, cell.kind}
	for i, x := range sides {
		for _, y := range sides[i+1:] {
			pairs = append(pairs, x+", "+y)
		}
	}
	return pairs
}

func newPairs(c *faultCase, cell faultCell, seen map[string]bool) (n int) {
	for _, pair := range pairsOf(c, cell) {
		if !seen[pair] {
			n++
		}
	}
	return n
}

// notReached is a cell whose fault didn't come about: its run didn't come to the point, where one
// good run had come, and another one not.
const notReached = "not reached"

// report tries a cell, and says how it went.
func (b *faultBench) report(t *testing.T, cell faultCell) (how string) {
	t.Helper()
	r, wrong := b.try(cell)
	how = fmt.Sprintf("ok, exit status %d", r.exit)
	if !r.reached && slices.Contains(b.points, cell.point) {
		how = notReached
	}
	if wrong != "" {
		t.Errorf("%s\n  %s\n  exit status %d, log:\n%s", b.cellName(cell), wrong, r.exit, r.log)
		how = "FAILED"
	}
	return how
}

func (b *faultBench) cellName(cell faultCell) string {
	return b.name() + ": " + strings.ReplaceAll(cell.point, "|", ", ") + ": " + cell.kind
}

// allFaults runs the cells that the state file doesn't have, and adds each to it, with how it
// ended.
func allFaults(t *testing.T, state string) {
	text, _ := os.ReadFile(state)
	done := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		_, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		done[name] = true
	}
	f, err := os.OpenFile(state, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	must(t, err)
	defer f.Close()
	end := time.Now().Add(time.Duration(attackNumber(t, "FAULT_SECONDS", 1<<20)) * time.Second)
	most := int(attackNumber(t, "FAULT_CELLS", 1<<20))
	all, part, parts := 0, attackNumber(t, "FAULT_PART", 0), attackNumber(t, "FAULT_PARTS", 1)
	begin, counts := time.Now(), map[string]int{}
	cases := append(faultCases(), moreFaultCases()...)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
	for i, c := range cases {
		ofCase, _, _ := strings.Cut(os.Getenv("FAULT_ONLY"), ":")
		if !strings.Contains(c.name(), ofCase) || uint64(i)%parts != part || time.Now().After(end) {
			continue
		}
		t.Run(c.name(), func(t *testing.T) {
			c.ready(t)
			b := c.bench()
			cells := b.cells()
			rand.New(rand.NewPCG(1, 0)).Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
			here := 0
			for _, cell := range cells {
				name := b.cellName(cell)
				if done[name] || !strings.Contains(name, os.Getenv("FAULT_ONLY")) {
					continue
				}
				if here == most || time.Now().After(end) {
					break
				}
				here++
				all++
				how := b.report(t, cell)
				counts[how]++
				fmt.Fprintf(f, "%s\t%s\n", how, name)
			}
			t.Logf("%d of %d cells", here, len(cells))
		})
	}
	t.Logf("FAULTS %d cells in %v: %v", all, time.Since(begin).Round(time.Second), counts)
}
