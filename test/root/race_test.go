//go:build root

package root

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"instance-debootstrap/test/fault"
)

// Races at each lock: a run stops between the opening of a lock's file and its lock, or when it
// has it, and meanwhile something else does what the lock is for. The program of these tests
// stops wherever a lock is taken (testdata/faulty), so a new lock has its races without more.

// raceCases are what stops, by what there is before.
func raceCases() []*faultCase {
	add := func(verb, layout, path string, set func(*lab, *faultCase)) *faultCase {
		return &faultCase{verb: verb, layout: layout, path: path, set: set}
	}
	return []*faultCase{
		add("create", "msdos", "cold", setCachedCreate),
		add("create", "msdos", "image", setCachedCreate),
		add("create", "none", "tar", setCachedCreate),
		add("create", "gpt, swap, data", "image", setCachedCreate),
		add("cache", "warm --expired", "of an old tree", setCacheCommand),
		add("cache", "prune", "of an old tree", setCacheCommand),
		add("cache", "list", "", setCacheCommand),
		add("cache", "verify", "", setCacheCommand),
		add("cache", "import --force BUNDLE", "", setCacheCommand),
		add("cache", "import --force --suite trixie TREE", "", setCacheCommand),
		add("cache", "export KEY OUT", "", setCacheCommand),
		add("import", "gpt, swap, data", "image", setImport),
		add("export", "msdos", "tar", setExport),
		add("rename", "none", "xfs", setRename),
		add("grow", "msdos", "ext4", setGrow),
	}
}

// setCachedCreate has the tree, and its image, in the cache as an entry of ours, or has had it.
func setCachedCreate(l *lab, c *faultCase) {
	c.style(l)
	if c.path == "tar" {
		l.env["OSP_FILESYSTEM"] = "xfs"
	}
	c.command = func() *exec.Cmd { return l.command("create") }
	c.outcome = c.guestOutcome
	l.entry()
	if c.path == "cold" {
		l.tool("find", c.cache, "-type", "f", "-delete")
	}
	for _, disk := range c.disks {
		l.blank(disk)
	}
}

// entry makes an entry of the cache, and keeps it as it was exported.
func (l *lab) entry() {
	l.Helper()
	l.fakeDebootstrapAgain("0.01")
	if log, exit := l.run("create"); exit != 0 {
		l.Fatal(log)
	}
	l.cache("export", keyOf(l.theTar()), l.bundle())
	l.tool("cp", l.theTar(), l.bundle()+".tree")
}

func (l *lab) bundle() string { return filepath.Join(l.fakes, "bundle") }

func setCacheCommand(l *lab, c *faultCase) {
	l.entry()
	if strings.HasSuffix(c.path, "old tree") {
		l.ageEntry(l.theTar(), 400)
	}
	words := strings.NewReplacer("BUNDLE", l.bundle(), "TREE", l.bundle()+".tree", "KEY", keyOf(l.theTar()), "OUT", l.bundle()+".out")
	args := append([]string{"cache"}, strings.Fields(words.Replace(c.layout))...)
	c.command = func() *exec.Cmd {
		os.Remove(l.bundle() + ".out")
		return l.command("instance-debootstrap", args...)
	}
	c.outcome = c.cacheOutcome
}

// rivals are what comes in between. Each may have a command, which has until the run goes on to
// end by itself, and must end in any case.
var rivals = map[string]func(b *faultBench) *exec.Cmd{
	"prune": func(b *faultBench) *exec.Cmd {
		b.touchOld()
		return b.l.command("instance-debootstrap", "cache", "prune")
	},
	"renew": func(b *faultBench) *exec.Cmd {
		b.touchOld()
		return b.l.command("instance-debootstrap", "cache", "warm", "--expired")
	},
	"import": func(b *faultBench) *exec.Cmd {
		return b.l.command("instance-debootstrap", "cache", "import", "--force", b.l.bundle())
	},
	"the cache folder is removed": func(b *faultBench) *exec.Cmd {
		return exec.Command("rm", "-rf", b.cache)
	},
	"the entries are removed": func(b *faultBench) *exec.Cmd {
		return exec.Command("find", b.cache, "-type", "f", "-delete")
	},
	"another create": func(b *faultBench) *exec.Cmd {
		env, disk := b.l.env, filepath.Join(b.dir, "other-disk")
		defer func() { b.l.env = env }()
		must(b.l, os.WriteFile(disk, nil, 0o600))
		must(b.l, os.Truncate(disk, faultMiB<<20))
		b.l.env = maps.Clone(env)
		b.l.env["DISK_0_PATH"], b.l.env["DISK_COUNT"], b.l.env["INSTANCE_NAME"] = disk, "1", "other.example"
		delete(b.l.env, "OSP_DATA_DISKS")
		return b.l.command("create")
	},
	"the lock files are removed": func(b *faultBench) *exec.Cmd {
		return exec.Command("find", base+"/lock", "-type", "f", "-delete")
	},
	"inspect": func(b *faultBench) *exec.Cmd { return exec.Command(program, "inspect", b.disks[0]) },
}

// touchOld makes the trees old.
func (b *faultBench) touchOld() {
	tars, _ := filepath.Glob(b.cache + "/*.tar")
	then := time.Now().AddDate(0, 0, -400)
	for _, path := range tars {
		os.Chtimes(path, then, then) // which the run may have removed meanwhile
	}
}

// lockPoints are the locks that a good run takes, but not those of each byte.
func (b *faultBench) lockPoints() (points []string) {
	if r := b.run(fault.Cell{}, nil); r.Exit != 0 {
		b.l.Fatalf("%s: exit status %d\n%s", b.name(), r.Exit, r.Log)
	}
	b.restore()
	text, _ := os.ReadFile(b.dir + "/trace")
	for line := range strings.Lines(string(text)) {
		point, ok := strings.CutPrefix(strings.TrimSpace(line), "lock\t")
		if ok && !slices.Contains(points, point) && (!strings.Contains(point, "lockAsQEMU") || strings.Contains(point, " #1,")) {
			points = append(points, point)
		}
	}
	return points
}

// TestARaceAtAnyLockHarmsNobody has RACE_CELLS races, chosen by RACE_SEED; RACE_ONLY has those
// only whose name, "CASE: LOCK: RIVAL", has a text.
func TestARaceAtAnyLockHarmsNobody(t *testing.T) {
	buildFaulty(t)
	seed, most := attackNumber(t, "RACE_SEED", 1), int(attackNumber(t, "RACE_CELLS", 24))
	random := rand.New(rand.NewPCG(seed, 0))
	ofCase, _, _ := strings.Cut(os.Getenv("RACE_ONLY"), ":")
	cases := slices.DeleteFunc(raceCases(), func(c *faultCase) bool { return !strings.Contains(c.name(), ofCase) })
	random.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
	cases = cases[:min(len(cases), max(1, most/6))]
	counts, names := map[string]int{}, map[string]bool{}
	for i, c := range cases {
		share := most*(i+1)/len(cases) - most*i/len(cases)
		t.Run(c.name(), func(t *testing.T) {
			c.ready(t)
			b := c.bench()
			var cells []fault.Cell
			for _, point := range b.lockPoints() {
				names[strings.TrimSuffix(strings.TrimSuffix(point, ", before"), ", after")] = true
				for _, rival := range slices.Sorted(maps.Keys(rivals)) {
					_, err := os.Stat(c.l.bundle()) // an entry that could be imported
					if strings.Contains(c.name()+": "+point+": "+rival, os.Getenv("RACE_ONLY")) && (rival != "import" || err == nil) {
						cells = append(cells, fault.Cell{Point: point, Kind: rival})
					}
				}
			}
			random.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
			for _, cell := range cells[:min(len(cells), share)] {
				how := b.race(t, cell)
				counts[how]++
			}
			t.Logf("RACES %d of %d cells", min(len(cells), share), len(cells))
		})
	}
	if all := sumOfCounts(counts); counts[fault.NotReached]*2 > all {
		t.Errorf("%d of %d races didn't come about", counts[fault.NotReached], all)
	}
	t.Logf("RACES RACE_SEED=%d, %d cases, %d locks: %v", seed, len(cases), len(names), counts)
}

// race is one of them.
func (b *faultBench) race(t *testing.T, cell fault.Cell) (how string) {
	t.Helper()
	good := b.command
	b.faultCase.command = func() *exec.Cmd {
		cmd := good()
		cmd.Env = append(cmd.Env, "FAULTY_LOCK="+cell.Point)
		return cmd
	}
	var rival *exec.Cmd
	var said bytes.Buffer
	ended := make(chan struct{})
	r := b.runUntil(fault.Cell{}, func(done chan struct{}) bool { return fault.Dir(b.dir).Stopped(done) }, func(int) {
		rival = rivals[cell.Kind](b)
		rival.Stdout, rival.Stderr = &said, &said
		must(t, rival.Start())
		go func() { rival.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(2 * time.Second): // it waits for the lock
		}
	})
	b.faultCase.command = good
	if !r.Reached {
		b.restore()
		return fault.NotReached
	}
	var problems []string
	if !fault.Ends(rival, ended) {
		problems = append(problems, "what came in between doesn't end")
	}
	problems = append(problems, b.raced(cell, r, rival, said.String())...)
	problems = append(problems, b.leaves()...)
	if locks, _ := filepath.Glob(base + "/lock/*.lock"); len(locks) > 0 {
		problems = append(problems, fmt.Sprint("left in the lock folder: ", locks))
	}
	if wrong := b.outcome(r.Exit); wrong != "" {
		problems = append(problems, wrong)
	}
	os.Remove(filepath.Join(b.dir, "other-disk"))
	problems = append(problems, b.again(fault.Cell{Kind: cacheRemoved}, r)...)
	if len(problems) > 0 {
		t.Errorf("%s, %s: %s\n  %s\n  exit status %d, log:\n%s\n  and of the other, %v:\n%s", b.name(), cell.Point, cell.Kind, strings.Join(problems, "\n  "), r.Exit, r.Log, rival.ProcessState, said.String())
		return "FAILED"
	}
	return fmt.Sprintf("exit status %d and %d", r.Exit, rival.ProcessState.ExitCode())
}

// raced says what isn't as it should be of how the two ended.
func (b *faultBench) raced(cell fault.Cell, r fault.Ran, rival *exec.Cmd, said string) (problems []string) {
	takesAway := strings.HasSuffix(cell.Kind, "removed") || cell.Kind == "prune"
	refused := func(log string) bool {
		return strings.Contains(log, "is in use") || strings.Contains(log, "builds it anew right now")
	}
	switch {
	case r.Late:
		problems = append(problems, "it didn't end in 40 s")
	case fault.Crashed.MatchString(r.Log + said):
		problems = append(problems, "one crashed")
	case r.Exit > 1 || r.Exit < 0 || rival.ProcessState.ExitCode() > 1 || rival.ProcessState.ExitCode() < 0:
		problems = append(problems, "an exit status that is none")
	case r.Exit != 0 && !takesAway && !refused(r.Log):
		problems = append(problems, "it failed, and had no reason to")
	case r.Exit != 0 && b.verb != "cache" && cell.Kind != "inspect" && cell.Kind != "the cache folder is removed":
		problems = append(problems, "it failed, where another tree could have been made")
	case rival.ProcessState.ExitCode() != 0 && !refused(said):
		problems = append(problems, "what came in between failed, and had no reason to")
	}
	return problems
}
