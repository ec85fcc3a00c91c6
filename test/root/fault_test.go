//go:build root

package root

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"instance-debootstrap/test/fault"
)

// The fault matrix: each verb, in each layout and way, with each fault at each point that a
// good run comes to. The points are taken from that run, so a new step, or a tool's new call,
// has its cells without more. docs/reliability.md says what is looked at, and what was seen.

// TestAFaultAtAnyPointLeavesNothingHalfDone is FAULT_CELLS cells of it, chosen by FAULT_SEED
// (fault.Sample), or with FAULT_STATE, a file with the cells that are done, all others (fault.All).
func TestAFaultAtAnyPointLeavesNothingHalfDone(t *testing.T) {
	buildFaulty(t)
	if state := os.Getenv("FAULT_STATE"); state != "" {
		fault.All(t, state, asCases(append(faultCases(), moreFaultCases()...)))
		return
	}
	seed := fault.Number(t, "FAULT_SEED", 1)
	t.Logf("FAULT_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	fault.Sample(t, asCases(sampledCases(random)), random, int(fault.Number(t, "FAULT_CELLS", 80)))
}

func asCases(list []*faultCase) (cases []fault.Case) {
	for _, c := range list {
		cases = append(cases, c)
	}
	return cases
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

// Sides, Ready and Try are what the matrix asks a case for.
func (c *faultCase) Sides() (verb, layout, path string) { return c.verb, c.layout, c.path }

func (c *faultCase) Ready(t *testing.T) []fault.Cell {
	t.Helper()
	c.ready(t)
	return c.bench().cells()
}

func (c *faultCase) Try(t *testing.T, cell fault.Cell) (r fault.Ran, sure bool, wrong string) {
	t.Helper()
	b := c.bench0
	r, wrong = b.try(cell)
	return r, !slices.Contains(b.points, cell.Point) || slices.Contains(b.sure, cell.Point), wrong
}
