package fault

import (
	"path/filepath"
	"testing"
)

// madeUp is a case whose cells only note that they were tried.
type madeUp struct {
	layout string
	tried  map[string]int
}

func (m madeUp) Sides() (verb, layout, path string) { return "grow", m.layout, "ext4" }

func (m madeUp) Ready(*testing.T) (cells []Cell) {
	for _, point := range []string{"claim|begin", "claim|sfdisk#1", "claim|end"} {
		for _, kind := range []string{Fails, Killed, "SIGTERM", "SIGKILL to the group"} {
			cells = append(cells, Cell{point, kind})
		}
	}
	return cells
}

func (m madeUp) Try(_ *testing.T, c Cell) (r Ran, sure bool, wrong string) {
	m.tried[cellName(m, c)]++
	return Ran{}, true, ""
}

func TestEachPairOfAVerbIsTriedOnceOverSeveralRuns(t *testing.T) {
	t.Setenv("FAULT_CELLS", "3")
	t.Setenv("FAULT_ONLY", "")
	state, tried := filepath.Join(t.TempDir(), "done"), map[string]int{}
	cases := func() []Case { return []Case{madeUp{"msdos", tried}, madeUp{"gpt", tried}, madeUp{"none", tried}} }
	for range 6 {
		All(t, state, cases())
	}
	wanted, seen := map[string]bool{}, map[string]bool{}
	for _, c := range cases() {
		for _, cell := range c.Ready(t) {
			for _, pair := range pairsOfVerb(c, cell) {
				wanted[pair] = true
				seen[pair] = seen[pair] || tried[cellName(c, cell)] == 1
			}
		}
	}
	for pair := range wanted {
		if !seen[pair] {
			t.Errorf("not tried, or more than once: %s", pair)
		}
	}
	if len(tried) >= 36 {
		t.Errorf("%d cells were tried, of 36", len(tried))
	}
	t.Setenv("FAULT_ONLY", "grow, gpt, ext4: ")
	t.Setenv("FAULT_CELLS", "36")
	before := len(tried)
	if All(t, state, cases()); before == len(tried) || tried["grow, gpt, ext4: claim, sfdisk#1: SIGTERM"] != 1 {
		t.Errorf("not all cells of a name were tried: %v", tried)
	}
}

// rare is a case whose run comes to its point the second time.
type rare struct{ madeUp }

func (r rare) Try(_ *testing.T, c Cell) (Ran, bool, string) {
	if r.tried[c.Kind]++; r.tried[c.Kind] == 1 {
		return Ran{}, true, NotReached + ": two good runs came to this point"
	}
	return Ran{Reached: true}, true, ""
}

func TestACellThatIsNotReachedIsTriedOnceMore(t *testing.T) {
	c := rare{madeUp{"msdos", map[string]int{}}}
	if how := report(t, c, Cell{"claim|wget#6", "SIGINT"}); how != "ok, exit status 0" || c.tried["SIGINT"] != 2 {
		t.Errorf("%s, tried %d times", how, c.tried["SIGINT"])
	}
}
