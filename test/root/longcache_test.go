//go:build root

package root

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manyEntries has the cache hold count entries, copies of the one that is there, of trees that
// have a package more each.
func (l *lab) manyEntries(count int) {
	l.Helper()
	path := l.theTar()
	tree, err := os.ReadFile(path)
	must(l, err)
	text, err := os.ReadFile(strings.TrimSuffix(path, ".tar") + ".json")
	must(l, err)
	image, err := os.ReadFile(l.oneFile("cache-*.img"))
	must(l, err)
	for i := 1; i < count; i++ {
		var side map[string]any
		must(l, json.Unmarshal(text, &side))
		key := fmt.Sprintf("%016x", i)
		name := filepath.Join(base, "cache", "cache-trixie-"+tinyArch+"-"+key)
		must(l, os.WriteFile(name+".tar", tree, 0o600))
		must(l, os.WriteFile(name+".ext4-00000000.img", image[:1<<10], 0o600))
		st, err := os.Stat(name + ".tar")
		must(l, err)
		side["key"], side["mtime_ns"] = key, json.Number(fmt.Sprint(st.ModTime().UnixNano()))
		side["inputs"].(map[string]any)["extra_pkgs"] = []string{fmt.Sprint("package", i)}
		raw, err := json.Marshal(side)
		must(l, err)
		must(l, os.WriteFile(name+".json", raw, 0o600))
	}
}

// entryCosts are what is asked of a cache, and how much of a processor's time it took.
type entryCosts map[string]time.Duration

// TestACacheOfManyEntriesCostsLittleForEach has each command that looks at the whole cache do so
// with 10 and with LONG_ENTRIES entries. What grows with the square of their number takes more
// than the time of a processor that each of them may.
func TestACacheOfManyEntriesCostsLittleForEach(t *testing.T) {
	const most = 3 * time.Millisecond
	few, many := 10, int(attackNumber(t, "LONG_ENTRIES", 1000))
	before, after := cacheCosts(t, few), cacheCosts(t, many)
	for name, cost := range after {
		t.Logf("LONG %s: %v with %d entries, %v with %d", name, before[name], few, cost, many)
		if cost > 2*before[name]+time.Duration(many)*most {
			t.Errorf("%s: %v with %d entries, and %v with %d", name, before[name], few, cost, many)
		}
	}
}

func cacheCosts(t *testing.T, count int) entryCosts {
	l := newCacheLab(t)
	l.setting("CACHE_MAX_SIZE=100G")
	costs := entryCosts{}
	l.create()
	l.manyEntries(count)
	l.costs(costs, "create")
	l.env["OSP_EXTRA_PKGS"] = "another"
	l.costs(costs, "create, cold", "create")
	delete(l.env, "OSP_EXTRA_PKGS")
	l.costs(costs, "verify")
	for _, args := range []string{"cache list", "cache list --json", "cache prune --dry-run", "cache prune", "doctor", "plan create"} {
		l.costs(costs, args, append([]string{"instance-debootstrap"}, strings.Fields(args)...)...)
	}
	for _, tar := range l.tars() {
		l.age(filepath.Join(base, "cache", tar), 400)
	}
	for _, args := range []string{"cache prune --dry-run", "cache prune"} {
		l.costs(costs, args+", of old ones", append([]string{"instance-debootstrap"}, strings.Fields(args)...)...)
	}
	if left := l.tars(); len(left) != 0 {
		t.Errorf("%d old trees are left", len(left))
	}
	return costs
}

// costs runs a command and adds what it took of a processor.
func (l *lab) costs(costs entryCosts, name string, args ...string) {
	l.Helper()
	if len(args) == 0 {
		args = []string{name}
	}
	l.blank(l.disk)
	var out bytes.Buffer
	cmd := l.command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	l.finish(cmd)
	if exit := cmd.ProcessState.ExitCode(); exit != 0 && name != "doctor" { // which finds faults of the lab
		l.Fatalf("%s: exit status %d\n%s", name, exit, out.String())
	}
	costs[name] = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Round(time.Millisecond)
}
