//go:build root

package root

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cgroup is a control group for one run: where it is, and the limits, by the names of their
// files. The zero value is none.
type cgroup struct {
	dir   string
	files map[string]string
	enter string // what a shell does to be limited
}

// controlGroups are the folders where groups with the controllers are made, by what is mounted:
// version 1 has a hierarchy for a controller, version 2 has one for all.
func controlGroups(mounted string) (dirs map[string]string, version map[string]int) {
	dirs, version = map[string]string{}, map[string]int{}
	for line := range strings.Lines(mounted) {
		f := strings.Fields(line)
		switch {
		case len(f) < 4:
		case f[2] == "cgroup":
			for _, option := range strings.Split(f[3], ",") {
				dirs[option], version[option] = f[1], 1
			}
		case f[2] == "cgroup2":
			text, _ := os.ReadFile(f[1] + "/cgroup.controllers")
			for _, name := range strings.Fields(string(text)) {
				dirs[name], version[name] = f[1], 2
			}
		}
	}
	return dirs, version
}

// limits are memory and threads, by the name of their fault. Where no group can be made, a
// limit of each process's own data is left, and none of threads, since root isn't held to it.
func limits() map[string]cgroup {
	mounted, _ := os.ReadFile("/proc/self/mounts")
	dirs, version := controlGroups(string(mounted))
	for _, dir := range dirs { // what a run that was killed has left
		left, _ := filepath.Glob(dir + "/faults-*")
		for _, group := range left {
			if !isThere("/proc/" + strings.TrimPrefix(filepath.Base(group), "faults-")) {
				os.Remove(group)
			}
		}
	}
	groups := map[string]cgroup{}
	add := func(name, controller, own string, files map[string]string) {
		dir := dirs[controller]
		if dir == "" && own == "" {
			return
		}
		g := cgroup{enter: own}
		if dir != "" {
			g.dir, g.files = fmt.Sprintf("%s/faults-%d", dir, os.Getpid()), files
			g.enter = fmt.Sprintf("echo $$ >%s/cgroup.procs", g.dir)
			if version[controller] == 2 { // refused where it is on already, or the folder has processes
				os.WriteFile(dir+"/cgroup.subtree_control", []byte("+"+controller), 0o644)
			}
		}
		groups[name] = g
	}
	for _, mib := range []int{4, 8, 16, 32} {
		files := map[string]string{"memory.limit_in_bytes": fmt.Sprint(mib << 20)}
		if version["memory"] == 2 {
			files = map[string]string{"memory.max": fmt.Sprint(mib << 20)}
		}
		add(fmt.Sprintf("%d MiB of memory", mib), "memory", fmt.Sprintf("ulimit -d %d", mib<<10), files)
	}
	for _, n := range []int{6, 10, 14} {
		add(fmt.Sprintf("%d threads", n), "pids", "", map[string]string{"pids.max": fmt.Sprint(n)})
	}
	return groups
}

// make makes the group, and returns how it goes: with all that is in it.
func (g cgroup) make(l *lab) (remove func()) {
	l.Helper()
	if g.dir == "" {
		return func() {}
	}
	must(l, os.Mkdir(g.dir, 0o755))
	remove = func() {
		for range 500 {
			if os.Remove(g.dir); !isThere(g.dir) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		text, _ := os.ReadFile(g.dir + "/cgroup.procs")
		for _, pid := range strings.Fields(string(text)) {
			l.Errorf("process %s is left in the control group", pid)
			var n int
			fmt.Sscan(pid, &n)
			syscall.Kill(n, syscall.SIGKILL)
		}
		time.Sleep(time.Second)
		must(l, os.Remove(g.dir))
	}
	for _, name := range slices.Sorted(maps.Keys(g.files)) {
		if err := os.WriteFile(filepath.Join(g.dir, name), []byte(g.files[name]), 0o644); err != nil {
			remove()
			l.Fatal(err)
		}
	}
	return remove
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestALimitIsMadeInWhicheverControlGroupsThereAre(t *testing.T) {
	unified := t.TempDir()
	must(t, os.WriteFile(unified+"/cgroup.controllers", []byte("cpu pids\n"), 0o644))
	dirs, version := controlGroups("cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\ncgroup2 " + unified + " cgroup2 rw 0 0\n")
	if dirs["memory"] != "/sys/fs/cgroup/memory" || version["memory"] != 1 || dirs["pids"] != unified || version["pids"] != 2 {
		t.Errorf("%v %v", dirs, version)
	}
	for name, g := range limits() {
		if g.dir == "" {
			t.Logf("%s: no control group", name)
			continue
		}
		l := newLab(t, 64)
		remove := g.make(l)
		if out := l.tool("sh", "-c", g.enter+"; cat "+g.dir+"/cgroup.procs"); out == "" {
			t.Errorf("%s: nothing is in the group", name)
		}
		if remove(); isThere(g.dir) {
			t.Errorf("%s is left", g.dir)
		}
	}
}
