//go:build root

package root

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Long use: what a node has after many runs is what it had after a few. docs/reliability.md
// says what was seen.

// TestWhatANodeHoldsIsLevelAfterManyRuns does LONG_COUNT creates and exports one after the
// other, each on a disk of its own and for a guest of its own, as a node sees them in years.
func TestWhatANodeHoldsIsLevelAfterManyRuns(t *testing.T) {
	l := newMoveLab(t, 512)
	l.fakeDebootstrap("0.01")
	l.setting("BOOTLOADER=none")
	count := int(attackNumber(t, "LONG_COUNT", 15))
	first := min(10, count/2)
	var before map[string]int64
	var took []time.Duration
	for i := 1; i <= count; i++ {
		begin := time.Now()
		l.once(i)
		took = append(took, time.Since(begin))
		if i == first {
			before = l.holdings()
		}
		if i > first && (i%100 == 0 || i == count) {
			now := l.holdings()
			l.level(before, now, i-first)
			t.Logf("LONG after %d runs: %s", i, changes(before, now))
		}
	}
	few := min(first, count-first)
	early, late := middle(took[:2*few]), middle(took[count-2*few:])
	t.Logf("LONG %d creates and exports, %v each at first, %v at last", count, early, late)
	if count > 10*first && late > 3*early {
		t.Errorf("a create and an export took %v at first, and %v at last", early, late)
	}
}

func middle(took []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(took))[len(took)/2].Round(time.Millisecond)
}

// once creates and exports the i-th guest, by turns of each kind, on a new disk.
func (l *lab) once(i int) {
	l.Helper()
	style, fstype := []string{"none", "msdos", "gpt"}[i%3], []string{"ext4", "xfs"}[i/3%2]
	l.env["INSTANCE_NAME"], l.env["OSP_PARTITION_STYLE"], l.env["OSP_FILESYSTEM"] = fmt.Sprintf("guest%d.example", i), style, fstype
	disk := filepath.Join(filepath.Dir(l.disk), fmt.Sprint("disk-", i))
	must(l, os.WriteFile(disk, nil, 0o600))
	must(l, os.Truncate(disk, 512<<20))
	must(l, os.Remove(l.disk))
	l.disks(disk)
	if log, exit := l.run("create"); exit != 0 {
		l.Fatalf("create number %d: exit status %d\n%s", i, exit, log)
	}
	var stream, log bytes.Buffer
	l.free(disk)
	cmd := l.command("export")
	cmd.Env = append(cmd.Env, "EXPORT_INDEX=0", "EXPORT_DEVICE="+disk, "EXPORT_DISK_PATH="+disk)
	cmd.Stdout, cmd.Stderr = &stream, &log
	if l.finish(cmd); cmd.ProcessState.ExitCode() != 0 || stream.Len() < 1<<10 {
		l.Fatalf("export number %d: %v, %d bytes\n%s", i, cmd.ProcessState, stream.Len(), log.String())
	}
}

// ours are the holdings that nobody else changes: they stay the same. Of the others, which
// all programs of the machine change, not one more may come in each second run.
var ours = []string{"loop devices over our files", "files in the lock folder", "files in the run folder", "files in the cache", "KiB in the cache", "mounts of ours", "processes of ours", "our open files", "files in TMPDIR"}

// holdings counts what a run could leave.
func (l *lab) holdings() map[string]int64 {
	l.Helper()
	l.clean(5 * time.Second)
	h := map[string]int64{}
	for name, dir := range map[string]string{"files in the lock folder": "lock", "files in the run folder": "run", "files in the cache": "cache"} {
		filepath.WalkDir(filepath.Join(base, dir), func(_ string, d fs.DirEntry, err error) error { h[name]++; return nil })
	}
	kib, _, _ := strings.Cut(l.tool("du", "-sk", base+"/cache"), "\t")
	h["KiB in the cache"], _ = strconv.ParseInt(kib, 10, 64)
	h["loop devices over our files"] = int64(strings.Count(l.tool("losetup", "-n", "-O", "BACK-FILE"), filepath.Dir(l.disk)))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(l, err)
	h["mounts of ours"], h["mounts"] = int64(bytes.Count(mounts, []byte(base))), int64(bytes.Count(mounts, []byte("\n")))
	h["processes of ours"] = int64(len(l.processes()))
	for name, glob := range map[string]string{
		"our open files": "/proc/self/fd/*", "files in TMPDIR": os.TempDir() + "/*", "processes": "/proc/[0-9]*",
		"block devices": "/sys/class/block/*", "backing devices": "/sys/class/bdi/*", "nodes in /dev": "/dev/*", "files in /run": "/run/*", "files in /dev/shm": "/dev/shm/*",
	} {
		found, err := filepath.Glob(glob)
		must(l, err)
		h[name] = int64(len(found))
	}
	namespaces := map[string]bool{}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/*")
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil {
			namespaces[to] = true
		}
	}
	h["namespaces"] = int64(len(namespaces))
	filepath.WalkDir("/sys/fs/cgroup", func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			h["control groups"]++
		}
		return nil
	})
	l.kernelHoldings(h)
	return h
}

// kernelHoldings are what the kernel says of itself.
func (l *lab) kernelHoldings(h map[string]int64) {
	os.WriteFile("/proc/sys/vm/drop_caches", []byte("2\n"), 0) // or slab has what could be given up as well
	open, err := os.ReadFile("/proc/sys/fs/file-nr")
	must(l, err)
	h["open files"], _ = strconv.ParseInt(strings.Fields(string(open))[0], 10, 64)
	memory, err := os.ReadFile("/proc/meminfo")
	must(l, err)
	for line := range strings.Lines(string(memory)) {
		if f := strings.Fields(line); slices.Contains([]string{"Shmem:", "SUnreclaim:", "KernelStack:", "PageTables:", "Percpu:"}, f[0]) {
			h["MiB of "+strings.TrimSuffix(f[0], ":")], _ = strconv.ParseInt(f[1], 10, 64)
			h["MiB of "+strings.TrimSuffix(f[0], ":")] >>= 10
		}
	}
	slabs, err := os.ReadFile("/proc/slabinfo") // not every kernel has it
	if err != nil {
		return
	}
	for line := range strings.Lines(string(slabs)) {
		if f := strings.Fields(line); len(f) > 2 && slices.Contains([]string{"mnt_cache", "nsproxy", "pid_namespace", "net_namespace", "pid", "xfs_mount"}, f[0]) {
			h["slab "+f[0]], _ = strconv.ParseInt(f[1], 10, 64)
		}
	}
}

// level fails for what has grown in that many runs.
func (l *lab) level(before, now map[string]int64, runs int) {
	l.Helper()
	for name, n := range now {
		grown := n - before[name]
		switch {
		case slices.Contains(ours, name) && grown != 0:
			l.Errorf("%s: %d, and %d runs before %d", name, n, runs, before[name])
		case name == "open files": // go up and down by thousands while others build
		case runs >= 100 && grown > int64(runs)/2:
			l.Errorf("%s: %d, and %d runs before %d, which is more than one in each second run", name, n, runs, before[name])
		}
	}
}

func changes(before, now map[string]int64) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(now)) {
		all = append(all, fmt.Sprintf("%s %d (%+d)", name, now[name], now[name]-before[name]))
	}
	return strings.Join(all, ", ")
}
