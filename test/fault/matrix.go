package fault

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Case is one run of a command, which is repeated with each fault.
type Case interface {
	// Sides are what cells of other cases may share with its own: the verb, the layout, the way.
	Sides() (verb, layout, path string)
	// Ready makes what there is before, learns the points by a good run, and returns the cells.
	Ready(t *testing.T) []Cell
	// Try tries a cell. wrong is "" when all is as it should be, and sure tells that each good run
	// came to the cell's point, or that the cell has none.
	Try(t *testing.T, c Cell) (r Ran, sure bool, wrong string)
}

// NotReached is a cell whose fault didn't come about: its run didn't come to the point, where one
// good run had come, and another one not.
const NotReached = "not reached"

func name(c Case) string {
	verb, layout, path := c.Sides()
	return verb + ", " + layout + ", " + path
}

// report tries a cell, and says how it went.
func report(t *testing.T, c Case, cell Cell) (how string) {
	t.Helper()
	r, sure, wrong := c.Try(t, cell)
	how = fmt.Sprintf("ok, exit status %d", r.Exit)
	if !r.Reached && !sure {
		how = NotReached
	}
	if wrong != "" {
		t.Errorf("%s\n  %s\n  exit status %d, log:\n%s", cellName(c, cell), wrong, r.Exit, r.Log)
		how = "FAILED"
	}
	return how
}

func cellName(c Case, cell Cell) string {
	return name(c) + ": " + strings.ReplaceAll(cell.Point, "|", ", ") + ": " + cell.Kind
}

// Sample tries so many cells, chosen by the seed: each next one is the one with the most pairs that
// none had yet, of verb, layout, way, step or tool, and fault.
func Sample(t *testing.T, cases []Case, random *rand.Rand, most int) {
	seen, counts := map[string]bool{}, map[string]int{}
	for i, c := range cases {
		here := most*(i+1)/len(cases) - most*i/len(cases)
		if here == 0 {
			continue
		}
		t.Run(name(c), func(t *testing.T) {
			cells := c.Ready(t)
			random.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
			for range here {
				best := slices.MaxFunc(cells, func(x, y Cell) int { return newPairs(c, x, seen) - newPairs(c, y, seen) })
				for _, pair := range pairsOf(c, best) {
					seen[pair] = true
				}
				counts[report(t, c, best)]++
			}
		})
	}
	t.Logf("%d cells of %d cases, %d pairs: %v", most, len(cases), len(seen), counts)
}

func pairsOf(c Case, cell Cell) (pairs []string) {
	step, tool := PointOf(cell.Point)
	where := step
	if tool != "" {
		where = tool
	}
	verb, layout, path := c.Sides()
	sides := []string{verb, "layout " + layout, "way " + path, "at " + where, cell.Kind}
	for i, x := range sides {
		for _, y := range sides[i+1:] {
			pairs = append(pairs, x+", "+y)
		}
	}
	return pairs
}

func newPairs(c Case, cell Cell, seen map[string]bool) (n int) {
	for _, pair := range pairsOf(c, cell) {
		if !seen[pair] {
			n++
		}
	}
	return n
}

// All runs the cells that the state file doesn't have, and adds each to it, with how it ended: for
// FAULT_SECONDS at most, and FAULT_CELLS of each case. FAULT_ONLY has those only whose name, or
// whose case's, has a text.
func All(t *testing.T, state string, cases []Case) {
	text, _ := os.ReadFile(state)
	done := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		_, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		done[name] = true
	}
	f, err := os.OpenFile(state, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	end := time.Now().Add(time.Duration(Number(t, "FAULT_SECONDS", 1<<20)) * time.Second)
	most := int(Number(t, "FAULT_CELLS", 1<<20))
	all, part, parts := 0, Number(t, "FAULT_PART", 0), Number(t, "FAULT_PARTS", 1)
	begin, counts := time.Now(), map[string]int{}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
	for i, c := range cases {
		ofCase, _, _ := strings.Cut(os.Getenv("FAULT_ONLY"), ":")
		if !strings.Contains(name(c), ofCase) || uint64(i)%parts != part || time.Now().After(end) {
			continue
		}
		t.Run(name(c), func(t *testing.T) {
			cells := c.Ready(t)
			rand.New(rand.NewPCG(1, 0)).Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
			here := 0
			for _, cell := range cells {
				name := cellName(c, cell)
				if done[name] || !strings.Contains(name, os.Getenv("FAULT_ONLY")) {
					continue
				}
				if here == most || time.Now().After(end) {
					break
				}
				here++
				all++
				how := report(t, c, cell)
				counts[how]++
				fmt.Fprintf(f, "%s\t%s\n", how, name)
			}
			t.Logf("%d of %d cells", here, len(cells))
		})
	}
	t.Logf("FAULTS %d cells in %v: %v", all, time.Since(begin).Round(time.Second), counts)
}

// Number is what the environment says, or another number without that.
func Number(t *testing.T, name string, without uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return without
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
