package fault

import (
	"cmp"
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
	if strings.Contains(wrong, NotReached) { // how often a tool is called may depend on who answers first
		r, sure, wrong = c.Try(t, cell)
	}
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

// pairs are all pairs of sides, of one verb or of any.
func pairs(verb string, sides ...string) (list []string) {
	for i, x := range sides {
		for j, y := range sides[i+1:] {
			list = append(list, fmt.Sprintf("%s: %d %s, %d %s", verb, i, x, i+1+j, y))
		}
	}
	return list
}

// choose takes the cell out of cells that has the most pairs which none had yet, if one has any.
func choose(cells *[]Cell, seen map[string]bool, pairsOf func(Cell) []string) (best Cell, ok bool) {
	most, at := 0, 0
	for i, cell := range *cells {
		n := 0
		for _, pair := range pairsOf(cell) {
			if !seen[pair] {
				n++
			}
		}
		if n > most {
			most, at = n, i
		}
	}
	if most == 0 {
		return best, false
	}
	best = (*cells)[at]
	*cells = slices.Delete(*cells, at, at+1)
	for _, pair := range pairsOf(best) {
		seen[pair] = true
	}
	return best, true
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
				cell, ok := choose(&cells, seen, func(cell Cell) []string {
					verb, layout, path := c.Sides()
					step, tool := PointOf(cell.Point)
					return pairs("", verb, layout, path, cmp.Or(tool, step), cell.Kind)
				})
				if ok {
					counts[report(t, c, cell)]++
				}
			}
		})
	}
	t.Logf("%d cells of %d cases, %d pairs: %v", most, len(cases), len(seen), counts)
}

// All runs cells until those in the state file, to which each is added with how it ended, have each
// pair of layout, way, point and fault that there is of a verb. FAULT_ONLY, a text of cells' names,
// has all of these instead. It ends after FAULT_SECONDS, and FAULT_CELLS of each case; of several
// FAULT_PARTS, FAULT_PART has some verbs.
func All(t *testing.T, state string, cases []Case) {
	done, f := doneBefore(t, state)
	defer f.Close()
	end := time.Now().Add(time.Duration(Number(t, "FAULT_SECONDS", 1<<20)) * time.Second)
	most, only := int(Number(t, "FAULT_CELLS", 1<<20)), os.Getenv("FAULT_ONLY")
	begin, counts, seen, left := time.Now(), map[string]int{}, map[string]bool{}, ""
	for _, c := range cases {
		for name := range done {
			if cell, is := cellNamed(c, name); is {
				for _, pair := range pairsOfVerb(c, cell) {
					seen[pair] = true
				}
			}
		}
	}
	for _, c := range cases {
		ofCase, _, _ := strings.Cut(only, ":")
		if !strings.Contains(name(c), ofCase) || !isInPart(t, c, cases) {
			continue
		}
		if time.Now().After(end) {
			left = ", and some are left"
			break
		}
		t.Run(name(c), func(t *testing.T) {
			cells := slices.DeleteFunc(c.Ready(t), func(cell Cell) bool {
				return done[cellName(c, cell)] || !strings.Contains(cellName(c, cell), only)
			})
			rand.New(rand.NewPCG(1, 0)).Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
			here, of := 0, len(cells)
			for {
				cell, ok := choose(&cells, seen, func(cell Cell) []string {
					if only != "" {
						return []string{cellName(c, cell)}
					}
					return pairsOfVerb(c, cell)
				})
				if !ok {
					break
				}
				if here == most || time.Now().After(end) {
					left = ", and some are left"
					break
				}
				here++
				how := report(t, c, cell)
				counts[how]++
				fmt.Fprintf(f, "%s\t%s\n", how, cellName(c, cell))
			}
			t.Logf("%d cells, of %d that weren't done", here, of)
		})
	}
	all := 0
	for _, n := range counts {
		all += n
	}
	t.Logf("FAULTS %d cells in %v%s: %v", all, time.Since(begin).Round(time.Second), left, counts)
}

// doneBefore are the cells that a state file has, and the file, to be added to.
func doneBefore(t *testing.T, state string) (done map[string]bool, f *os.File) {
	t.Helper()
	text, _ := os.ReadFile(state)
	done = map[string]bool{}
	for line := range strings.Lines(string(text)) {
		_, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		done[name] = true
	}
	f, err := os.OpenFile(state, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	return done, f
}

// pairsOfVerb are a cell's pairs of what a verb has.
func pairsOfVerb(c Case, cell Cell) []string {
	verb, layout, path := c.Sides()
	return pairs(verb, layout, path, strings.ReplaceAll(cell.Point, "|", ", "), cell.Kind)
}

// cellNamed is a case's cell of a name that cellName has made, as far as pairsOfVerb needs it.
func cellNamed(c Case, text string) (cell Cell, is bool) {
	text, is = strings.CutPrefix(text, name(c)+": ")
	at := strings.LastIndex(text, ": ")
	if !is || at < 0 {
		return cell, false
	}
	return Cell{text[:at], text[at+2:]}, true
}

// isInPart tells whether the case's verb is of this part: the verbs take turns.
func isInPart(t *testing.T, c Case, cases []Case) bool {
	t.Helper()
	var verbs []string
	for _, c := range cases {
		if verb, _, _ := c.Sides(); !slices.Contains(verbs, verb) {
			verbs = append(verbs, verb)
		}
	}
	verb, _, _ := c.Sides()
	return uint64(slices.Index(verbs, verb))%Number(t, "FAULT_PARTS", 1) == Number(t, "FAULT_PART", 0)
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
