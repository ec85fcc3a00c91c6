//go:build root

package root

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"instance-debootstrap/test/fault"
)

// TestKilledAtEachSystemCallOfAWindow has each verb killed at KILL_CALLS system calls of the
// program's own, one after the other, in windows of 50 calls and returns that begin where
// KILL_SEED says: the process, its group and its pid 1 in turn. KILL_ONLY is the name of a verb.
// testdata/tracer counts the calls; two runs don't make just the same ones.
func TestKilledAtEachSystemCallOfAWindow(t *testing.T) {
	seed, count := attackNumber(t, "KILL_SEED", 1), int(attackNumber(t, "KILL_CALLS", 4))
	tracer := filepath.Join(t.TempDir(), "tracer")
	if out, err := exec.Command("go", "build", "-o", tracer, "./testdata/tracer").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cases := map[string]*faultCase{}
	for _, c := range faultCases() {
		cases[c.name()] = c
	}
	for i, verb := range killVerbs {
		if !strings.Contains(verb.name, os.Getenv("KILL_ONLY")) {
			continue
		}
		name := verb.cases[0]
		t.Run(strings.ReplaceAll(name, ", ", "/"), func(t *testing.T) {
			begun := time.Now()
			k := killing{t: t, random: rand.New(rand.NewPCG(seed, uint64(i))), counts: map[string]int{}}
			calls := k.killAtCalls(cases[name], tracer, count)
			t.Logf("KILLS %s: %s: at %d of %d system calls in %v, KILL_SEED=%d: %v", verb.name, name, count, calls, time.Since(begun).Round(time.Second), seed, k.counts)
			if k.counts["killed"]+k.counts["its end told"] < max(1, count/4) { // two runs make other calls
				t.Errorf("only %d of %d runs were killed", k.counts["killed"], count)
			}
		})
	}
}

// killAtCalls returns how many calls and returns a good run has.
func (k *killing) killAtCalls(c *faultCase, tracer string, count int) (calls int) {
	c.ready(k.t)
	b := c.bench()
	seen := filepath.Join(b.dir, "seen")
	traced := func(at int, how string) fault.Ran {
		b.tracer = fmt.Sprintf("%s %d %s %s", tracer, at, how, seen)
		r := b.runUntil(fault.Cell{}, func(chan struct{}) bool { return true }, func(int) {})
		text, err := os.ReadFile(seen)
		if err != nil {
			k.t.Fatalf("%v\n%s", err, r.Log)
		}
		if calls, err = strconv.Atoi(string(text)); err != nil {
			k.t.Fatal(err)
		}
		os.Remove(seen)
		r.Reached = at > 0 && calls >= at
		return r
	}
	if r := traced(0, "process"); r.Exit != 0 {
		k.t.Fatalf("%s, traced: exit status %d\n%s", c.name(), r.Exit, r.Log)
	}
	b.restore()
	all, at := calls, 0
	for i := range count {
		if i%50 == 0 {
			at = 1 + k.random.IntN(max(1, all*19/20-50)) // no two runs make as many
		}
		how := []string{"process", "group", "inner"}[i%3]
		r := traced(at+i%50, how)
		problems := k.judge(b, r)
		if i%50 == 49 || i == count-1 {
			b.tracer = ""
			problems = append(problems, b.again(fault.Cell{}, r)...)
		} else {
			b.restore()
		}
		if len(problems) > 0 {
			k.t.Errorf("the %s killed at call %d (of some %d): exit status %d\n  %s\n%s", how, at+i%50, all, r.Exit, strings.Join(problems, "\n  "), r.Log)
			k.counts["FAILED"]++
		}
	}
	return all
}
