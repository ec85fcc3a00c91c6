package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// growthRuns is how often a point of a growth table is measured, at most.
const growthRuns = 2

// trees has trees from the smallest that the shell provider takes (it wants the folder
// /etc/network) to 2 GB, as an admin's own tars.
func (b *bench) trees(r row) error {
	base, err := b.tree(plain...)
	if err != nil {
		return err
	}
	kernel, err := b.tree("PARTITION_STYLE=msdos")
	if err != nil {
		return err
	}
	dir := b.work + "/disks/trees"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	minimal := dir + "/minbase.tar"
	if _, err := tool("mmdebstrap", "--quiet", "--variant=minbase", "--include=ifupdown", "--mode=root", b.suite, minimal, b.mirror); err != nil {
		return err
	}
	points := []struct{ name, tar string }{{"minbase", minimal}, {"the default packages", base}, {"with kernel and GRUB", kernel}}
	for _, copies := range []int{4, 9} {
		tar, err := padTree(base, dir, copies)
		if err != nil {
			return err
		}
		points = append(points, struct{ name, tar string }{fmt.Sprintf("the default packages and %d copies of /usr", copies-1), tar})
	}
	for i, point := range points {
		st, err := os.Stat(point.tar)
		if err != nil {
			return err
		}
		r.text = fmt.Sprintf("%d MB: %s", st.Size()/1e6, point.name)
		if err := b.treePoint(r, point.tar, fmt.Sprintf("%s/cache%d", dir, i)); err != nil {
			return err
		}
	}
	return nil
}

// treePoint measures one tree; cache is a folder for it alone.
func (b *bench) treePoint(r row, tar, cache string) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	if err := copyDir(tar, cache+"/cache-"+b.suite+"-"+b.arch+".tar"); err != nil {
		return err
	}
	return b.compete(r, min(b.runs, growthRuns),
		b.shellCreates(creation{disks: []string{b.disk("shell")}, tar: tar, fresh: true}),
		b.weCreate(creation{disks: []string{b.disk("ours")}, cache: cache, settings: plain, fresh: true}),
		b.limit(tar, true, b.disk("limit")))
}

// padTree makes a tar of the tree with further copies of its /usr, until it is
// about factor times as large.
func padTree(tar, dir string, factor int) (string, error) {
	root, padded := dir+"/root", fmt.Sprintf("%s/times%d.tar", dir, factor)
	err := os.RemoveAll(root)
	if err == nil {
		err = os.MkdirAll(root, 0o755)
	}
	if err == nil {
		_, err = tool("tar", "-xf", tar, "-C", root)
	}
	for i := 1; i < factor && err == nil; i++ {
		_, err = tool("cp", "-a", root+"/usr", fmt.Sprintf("%s/srv/copy%d", root, i))
	}
	if err == nil {
		_, err = tool("tar", "--numeric-owner", "-cf", padded, "-C", root, ".")
	}
	return padded, errors.Join(err, os.RemoveAll(root))
}

// diskSizes has sparse disks from 1 GiB to 1 TiB.
func (b *bench) diskSizes(r row) error {
	tar, err := b.tree(plain...)
	if err != nil {
		return err
	}
	for _, gib := range []int64{1, 4, 16, 64, 256, 1024} {
		r.text = fmt.Sprintf("%d GiB", gib)
		if err := b.compete(r, min(b.runs, growthRuns),
			b.shellCreates(creation{disks: []string{b.disk("shell")}, tar: tar, fresh: true, sizeGiB: gib}),
			b.weCreate(creation{disks: []string{b.disk("ours")}, settings: plain, fresh: true, sizeGiB: gib})); err != nil {
			return err
		}
	}
	return nil
}

// concurrency has 1 to 16 creates at once.
func (b *bench) concurrency(r row) error {
	tar, err := b.tree(plain...)
	if err != nil {
		return err
	}
	for _, n := range []int{1, 2, 4, 8, 16} {
		r.text = fmt.Sprint(n)
		contenders := []contender{
			b.shellCreates(creation{disks: b.manyDisks("shell", n), tar: tar, fresh: true}),
			b.weCreate(creation{disks: b.manyDisks("ours", n), settings: plain, fresh: true}),
		}
		if err := b.turns(r, 0, min(b.runs, growthRuns), contenders); err != nil {
			return err
		}
	}
	return nil
}

// stepTable is how long each step of our create took, by its own log.
type stepTable struct {
	text  string
	names []string // in their order
	times []time.Duration
}

func (b *bench) stepTimes(row) error {
	for _, kind := range []struct {
		text     string
		settings []string
		cold     bool
	}{
		{"warm create, without a kernel", []string{"BOOTLOADER=none"}, false},
		{"warm create of a guest that boots", []string{"PARTITION_STYLE=msdos"}, false},
		{"cold create, without a kernel", []string{"BOOTLOADER=none"}, true},
	} {
		runs, how := b.runs, creation{settings: kind.settings, disks: []string{b.disk("ours")}, fresh: true}
		if kind.cold {
			runs, how.reset, how.cache = 1, os.RemoveAll, b.work+"/disks/cold-cache"
		} else if _, err := b.tree(kind.settings...); err != nil {
			return err
		}
		table, err := b.stepsOf(b.weCreate(how), how.disks[0], runs)
		if err != nil {
			return err
		}
		table.text = kind.text
		b.steps = append(b.steps, table)
		fmt.Print(table)
	}
	return nil
}

// stepsOf runs install, whose recipe is create's and which can log in JSON.
func (b *bench) stepsOf(c contender, disk string, runs int) (stepTable, error) {
	var t stepTable
	all := map[string][]time.Duration{}
	for range runs {
		if err := c.before(); err != nil {
			return t, err
		}
		cmd := exec.Command(b.work+"/ours/instance-debootstrap", "--log-format", "json", "install", "--hostname", guestName, disk)
		cmd.Dir = filepath.Dir(disk)
		cmd.Env = []string{"PATH=/sbin:/bin:/usr/sbin:/usr/bin"}
		if err := b.ours.run(cmd); err != nil {
			return t, err
		}
		log, err := os.ReadFile(b.ours.log)
		if err != nil {
			return t, err
		}
		t.names = t.names[:0]
		for lines := bufio.NewScanner(bytes.NewReader(log)); lines.Scan(); {
			var event struct {
				Step string
				Ms   *int64
			}
			if json.Unmarshal(lines.Bytes(), &event) == nil && event.Step != "" && event.Ms != nil {
				t.names = append(t.names, event.Step)
				all[event.Step] = append(all[event.Step], time.Duration(*event.Ms)*time.Millisecond)
			}
		}
	}
	if len(t.names) == 0 {
		return t, errors.New("the log tells of no step")
	}
	for _, name := range t.names {
		t.times = append(t.times, median(all[name]))
	}
	return t, nil
}

func (t stepTable) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "\nsteps: %s\n", t.text)
	for i, name := range t.names {
		fmt.Fprintf(&out, "  %-40s %s\n", name, seconds(t.times[i]))
	}
	return out.String()
}
