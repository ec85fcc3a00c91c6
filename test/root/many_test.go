//go:build root

package root

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Many runs at once, with one cache that is cold at first.

// countedBootstrap is a bootstrap that takes a moment, writes down that it was called, and
// writes into its tree which packages it was asked for.
func (l *lab) countedBootstrap() {
	l.Helper()
	l.fakeDebootstrapAgain("0.3")
	path := filepath.Join(l.fakes, "debootstrap")
	text, err := os.ReadFile(path)
	must(l, err)
	noted := fmt.Sprintf("\nmkdir -p \"$target/etc\"; for a; do case $a in --include=*) echo \"$a\" >\"$target/etc/asked\";; esac; done; cat \"$target/etc/asked\" >>%s\necho \"I: Ret", l.calls())
	must(l, os.WriteFile(path, []byte(strings.Replace(string(text), "\necho \"I: Ret", noted, 1)), 0o755))
	must(l, os.WriteFile(l.calls(), nil, 0o600))
}

func (l *lab) calls() string { return filepath.Join(l.fakes, "calls") }

// bootstraps are the packages that each call was for.
func (l *lab) bootstraps() []string {
	l.Helper()
	text, err := os.ReadFile(l.calls())
	must(l, err)
	return strings.Fields(string(text))
}

// guests are instances with a disk each.
func (l *lab) guests(count int) (all []*lab) {
	l.Helper()
	for i := range count {
		g := *l
		g.env = maps.Clone(l.env)
		g.env["INSTANCE_NAME"] = fmt.Sprintf("guest%d.example", i)
		g.env["OSP_PARTITION_STYLE"], g.env["OSP_FILESYSTEM"] = []string{"none", "msdos", "gpt"}[i%3], []string{"ext4", "xfs"}[i%2]
		disk := filepath.Join(filepath.Dir(l.disk), fmt.Sprintf("guest-%d-disk", i))
		must(l, os.WriteFile(disk, nil, 0o600))
		must(l, os.Truncate(disk, 512<<20))
		g.disks(disk)
		all = append(all, &g)
	}
	return all
}

// allAtOnce starts all commands, and waits for all; each must succeed.
func (l *lab) allAtOnce(what string, cmds []*exec.Cmd) {
	l.Helper()
	logs := make([]bytes.Buffer, len(cmds))
	var all sync.WaitGroup
	begin := time.Now()
	for i, cmd := range cmds {
		cmd.Stderr = &logs[i]
		must(l, cmd.Start())
		all.Go(func() { cmd.Wait() })
	}
	late := time.AfterFunc(10*time.Minute, func() {
		for _, cmd := range cmds {
			cmd.Process.Kill()
		}
	})
	all.Wait()
	late.Stop()
	for i, cmd := range cmds {
		if cmd.ProcessState.ExitCode() != 0 {
			l.Errorf("%s, number %d: %v\n%s", what, i, cmd.ProcessState, logs[i].String())
		}
	}
	l.clean(3 * time.Second)
	if locks, _ := filepath.Glob(base + "/lock/*.lock"); len(locks) > 0 {
		l.Errorf("%s: left in the lock folder: %v", what, locks)
	}
	l.Logf("MANY %s: %d at once in %v", what, len(cmds), time.Since(begin).Round(time.Millisecond))
}

// TestAllVerbsAtOnceOnDisksOfTheirOwnWithAColdCache has MANY_COUNT guests: all are created at
// once; then in four rounds each is created anew, exported, imported and renamed in turn, with a
// cache that lacks the tree of each round.
func TestAllVerbsAtOnceOnDisksOfTheirOwnWithAColdCache(t *testing.T) {
	l := newMoveLab(t, 512)
	l.fakeDebootstrap("0.3")
	l.setting("BOOTLOADER=none", "EXTRA_PKGS=round0")
	l.countedBootstrap()
	guests := l.guests(int(attackNumber(t, "MANY_COUNT", 6)))
	var creates []*exec.Cmd
	for _, g := range guests {
		creates = append(creates, g.command("create"))
	}
	l.allAtOnce("create", creates)
	states, streams := map[string]found{}, map[string]exported{}
	for _, g := range guests {
		states[g.disk] = g.isGuest("round0")
		streams[g.disk] = exported{g.export(0, g.disk), states[g.disk]}
	}
	for round := 1; round <= 4; round++ {
		l.round(round, guests, states, streams)
		if calls := l.bootstraps(); len(calls) != round+1 {
			t.Errorf("%d bootstraps for %d trees: %q", len(calls), round+1, calls)
		}
	}
	ids := map[string]bool{}
	for _, f := range states {
		ids[f.uuid] = true
	}
	if len(ids) != len(guests) {
		t.Errorf("%d UUIDs on %d disks", len(ids), len(guests))
	}
}

// exported is a backup, and what it is of.
type exported struct {
	file string
	of   found
}

// round has each guest do what is its turn, all at once, and looks at their disks.
func (l *lab) round(round int, guests []*lab, states map[string]found, streams map[string]exported) {
	l.Helper()
	var cmds []*exec.Cmd
	out := filepath.Join(l.TempDir(), "stream-")
	for i, g := range guests {
		var cmd *exec.Cmd
		switch (i + round) % 4 {
		case 0:
			g.env["OSP_EXTRA_PKGS"] = fmt.Sprint("round", round)
			cmd = g.command("create")
		case 1:
			f, err := os.Create(out + fmt.Sprint(i))
			must(l, err)
			defer f.Close()
			cmd = g.command("export")
			cmd.Env = append(cmd.Env, "EXPORT_INDEX=0", "EXPORT_DEVICE="+g.disk, "EXPORT_DISK_PATH="+g.disk)
			cmd.Stdout = f
		case 2:
			f, err := os.Open(streams[g.disk].file)
			must(l, err)
			defer f.Close()
			cmd = g.importing(0, g.disk)
			cmd.Stdin = f
		case 3:
			g.env["OLD_INSTANCE_NAME"] = g.env["INSTANCE_NAME"]
			g.env["INSTANCE_NAME"] = fmt.Sprintf("guest%d.round%d.example", i, round)
			cmd = g.command("rename")
		}
		cmds = append(cmds, cmd)
	}
	l.allAtOnce(fmt.Sprint("round ", round), cmds)
	for i, g := range guests {
		before := states[g.disk]
		switch (i + round) % 4 {
		case 0:
			states[g.disk] = g.isGuest(fmt.Sprint("round", round))
		case 1:
			if f := l.holds(g.disk); f.uuid != before.uuid || !maps.Equal(f.files, before.files) {
				l.Errorf("guest %d was changed by its export: %s", i, differing(f.files, before.files))
			}
			streams[g.disk] = exported{out + fmt.Sprint(i), before}
		case 2:
			f := l.holds(g.disk)
			if wrong := notWhole(f, streams[g.disk].of); wrong != "" {
				l.Errorf("guest %d is not as it was exported: %s", i, wrong)
			}
			states[g.disk] = f
		case 3:
			after := g.isGuest("")
			if after.uuid != before.uuid {
				l.Errorf("guest %d has another filesystem after its rename", i)
			}
			states[g.disk] = after
		}
	}
}

// isGuest looks whether the disk has this guest, made of the tree with these packages; "" is of
// any.
func (l *lab) isGuest(packages string) (f found) {
	l.Helper()
	f = l.holds(l.disk)
	if f.fault != "" || f.uuid == "" || !f.named {
		l.Errorf("%s: %q, named in its fstab: %v: %s", l.env["INSTANCE_NAME"], f.uuid, f.named, f.fault)
		return f
	}
	l.mounted(func(tree string) {
		name, _ := os.ReadFile(tree + "/etc/hostname")
		asked, _ := os.ReadFile(tree + "/etc/asked")
		if strings.TrimSpace(string(name)) != l.env["INSTANCE_NAME"] || !strings.Contains(string(asked), packages) {
			l.Errorf("the disk of %s has the guest %q, made for %q and not %q", l.env["INSTANCE_NAME"], name, asked, packages)
		}
	})
	return f
}

// TestSettingsThatMeanOneTreeShareItAndOthersNeverMix has three variants created at once, with a
// cold cache: two that say the same in other words, and one that differs by a package.
func TestSettingsThatMeanOneTreeShareItAndOthersNeverMix(t *testing.T) {
	l := newMoveLab(t, 512)
	l.fakeDebootstrap("0.3")
	l.setting("BOOTLOADER=none")
	l.countedBootstrap()
	l.write("conf/variants.list", "default\none\nsame\nother\n", 0o644)
	l.write("conf/variants/one.conf", "EXTRA_PKGS=less,vim\nMIRROR=http://mirror.example/debian\n", 0o644)
	l.write("conf/variants/same.conf", "EXTRA_PKGS=\"vim less vim\"\nMIRROR=http://mirror.example/debian/\nPROXY=\n", 0o644)
	l.write("conf/variants/other.conf", "EXTRA_PKGS=less,nano\n", 0o644)
	variants := []string{"one", "same", "other"}
	var creates []*exec.Cmd
	guests := l.guests(max(6, int(attackNumber(t, "MANY_COUNT", 6))))
	for i, g := range guests {
		g.env["OS_VARIANT"] = variants[i%3]
		g.env["INSTANCE_OS"] = "debootstrap+" + variants[i%3]
		creates = append(creates, g.command("create"))
	}
	l.allAtOnce("create of three variants", creates)
	if calls, trees := l.bootstraps(), l.tars(); len(calls) != 2 || len(trees) != 2 {
		t.Errorf("%d bootstraps and %d trees for two trees: %q", len(calls), len(trees), calls)
	}
	for i, g := range guests {
		g.isGuest([]string{"vim", "vim", "nano"}[i%3])
	}
}
