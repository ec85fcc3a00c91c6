//go:build root

package root

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// subvolumeLayout has what Debian's, Ubuntu's and openSUSE's installers make of a btrfs, and
// another btrfs with two.
const subvolumeLayout = `0 64M  swap
0 200M btrfs /var      @var
0 -    btrfs /var/log  @log
0 rest btrfs /         @rootfs
0 -    btrfs /home     @home
0 -    btrfs /srv      @srv
0 -    btrfs /srv/www  @www
`

// inTop mounts the top of the btrfs of a partition, whatever its default subvolume is.
func (l *lab) inTop(number int, look func(top string)) {
	l.Helper()
	dev, dir := l.partitionLoop(number), l.TempDir()
	defer func() { l.tool("losetup", "-d", dev) }()
	l.tool("mount", "-o", "subvolid=5", dev, dir)
	defer func() { l.tool("umount", dir) }()
	look(dir)
}

// subvolumesOf lists those of a partition, as btrfs-progs do, and the default one last.
func (l *lab) subvolumesOf(number int) (list string) {
	l.Helper()
	l.inTop(number, func(top string) {
		list = l.tool("sh", "-ec", `btrfs subvolume list "$0" | sed 's/.* path //' | sort | tr '\n' ' '; btrfs subvolume get-default "$0" | sed 's/.* path //'`, top)
	})
	return list
}

// hasSubvolumes fails unless the guest of subvolumeLayout is whole, as the tree was.
func (l *lab) hasSubvolumes() {
	l.Helper()
	l.hasLayout([]string{"2 swap swap", "3 /var btrfs", "1 root btrfs"})
	for number, want := range map[int]string{1: "@home @rootfs @srv @www @rootfs", 3: "@log @var @var"} {
		if got := l.subvolumesOf(number); got != want {
			l.Errorf("partition %d has the subvolumes %s, not %s", number, got, want)
		}
		dev := l.partitionLoop(number)
		l.tool("btrfs", "check", "--readonly", dev)
		l.tool("losetup", "-d", dev)
	}
	l.wholeTree(func(tree string) {
		for folder, want := range map[string]string{"": "/@rootfs", "/home": "/@home", "/srv": "/@srv", "/srv/www": "/@www", "/var": "/@var", "/var/log": "/@log"} {
			if got := l.tool("findmnt", "-n", "-o", "FSROOT", tree+folder); got != want {
				l.Errorf("%s is %s, not %s", folder, got, want)
			}
		}
		for what, want := range map[string]string{
			"stat -c '%u:%g %h' var/log/x": "7:8 2", "stat -c '%a %u:%g' var/log": "2750 0:4", "getfattr --only-values -n user.a var/log/y": "b",
			"stat -c %a var/tmp": "1777", "stat -c %F srv/fifo": "fifo", "cat var/lib/a/z": "log", "date -u -r var/lib/a +%F": "2020-01-02",
			"cat srv/www/page": "page", "stat -c %a home": "755",
			"grep -c instance-debootstrap var/lib/instance-debootstrap/receipt.json": "1",
		} {
			if got := l.tool("sh", "-c", `cd "$1"; `+what+" || true", "-", tree); got != want {
				l.Errorf("%s says %q, not %q", what, got, want)
			}
		}
	})
	l.inTop(1, func(top string) {
		if left := l.tool("sh", "-ec", `cd "$0"; ls -A; find @rootfs/var @rootfs/srv @rootfs/home @srv/www`, top); left != "@home\n@rootfs\n@srv\n@www\n@rootfs/var\n@rootfs/srv\n@rootfs/home\n@srv/www" {
			l.Errorf("the root still has %s", left)
		}
	})
}

func subvolumeLab(t *testing.T) *lab {
	t.Helper()
	l := layoutLab(t, 1200, subvolumeLayout)
	l.addToTree(func(tree string) { l.tool("sh", "-ec", `mkdir -p "$0/srv/www"; echo page >"$0/srv/www/page"`, tree) })
	return l
}

func TestALayoutOfSubvolumesIsMadeAsItsFileSays(t *testing.T) {
	l := subvolumeLab(t)
	l.hook("10-hook", `test -s "$TARGET/var/log/x" && touch "$TARGET/srv/from-hook" && ! mountpoint -q "$TARGET/var" && test "$(findmnt -n -o FSROOT "$TARGET")" = /@rootfs`)
	log := l.create()
	l.matches(log, `is installed on .* \(1200 MiB, layout server\)`)
	l.hasSubvolumes()
	l.wholeTree(func(tree string) {
		l.tool("test", "-e", tree+"/srv/from-hook")
		fstab := l.tool("findmnt", "--tab-file", tree+"/etc/fstab", "-n", "-r", "-o", "TARGET,FSTYPE,OPTIONS,PASSNO")
		l.matches(fstab, `(?s)^/ btrfs defaults,subvol=@rootfs 0\n.*/var btrfs defaults,subvol=@var 0\n/var/log btrfs defaults,subvol=@log 0\n/home btrfs defaults,subvol=@home 0\n`)
		if got := l.tool("sh", "-c", `grep -c '"subvolume": "@' "$0"/var/lib/instance-debootstrap/receipt.json`, tree); got != "6" {
			t.Error(got)
		}
	})
	l.create() // over itself
	l.hasSubvolumes()
}

func TestAKilledCreateOfSubvolumesLeavesNothingOnTheNode(t *testing.T) {
	l := subvolumeLab(t)
	begun := time.Now()
	l.create()
	whole := time.Since(begun)
	for i := range 12 {
		moment := time.After(whole * time.Duration(i+2) / 14)
		killed := l.killed(moment, func(pid int) { must(t, exec.Command("kill", "-9", fmt.Sprint(pid)).Run()) })
		l.clean(10 * time.Second)
		t.Logf("killed at %d/14: %v", i+2, killed)
	}
	l.create()
	l.hasSubvolumes()
}

func TestAGuestInSubvolumesIsPlannedRenamedInspectedGrownAndMoves(t *testing.T) {
	l := subvolumeLab(t)
	l.matches(l.planned("plan", "create"), `/var 200 MiB, btrfs subvolume @var; /var/log in the btrfs of line 2, btrfs subvolume @log; / the rest, btrfs subvolume @rootfs; /home in the btrfs of line 4, btrfs subvolume @home`)
	l.untouched()
	l.create()
	in, text := l.inspect()
	if r, _ := in["receipt"].(map[string]any); r == nil || r["instance"] != "inst1.example" {
		t.Error(text)
	}
	dump := l.export(0, l.disk)
	l.disk = filepath.Join(t.TempDir(), "new-disk")
	must(t, os.WriteFile(l.disk, nil, 0o600))
	must(t, os.Truncate(l.disk, 2000<<20))
	l.disks(l.disk)
	l.matches(l.importFile(dump), `grew partition 1 from .* its btrfs`)
	l.hasSubvolumes()
	l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"], l.env["DISK_0_PATH"] = "inst1.example", "inst2.example", l.disk
	if log, exit := l.run("rename"); exit != 0 {
		t.Fatal(log)
	}
	l.hasSubvolumes()
	l.enlarge(l.disk, 2200)
	l.matches(l.grow(), "grew partition 1|partition 1 from")
	l.hasSubvolumes()
	l.wholeTree(func(tree string) {
		if got := l.tool("cat", tree+"/etc/hostname"); got != "inst2.example" {
			t.Error(got)
		}
		var mib int64
		if fmt.Sscan(l.tool("sh", "-c", `df -B 1M --output=size "$0" | tail -1`, tree+"/home"), &mib); mib < 1800 {
			t.Errorf("/home has %d MiB", mib)
		}
	})
}

// homeLayout has all of a guest in one btrfs.
const homeLayout = "0 rest btrfs / @rootfs\n0 - btrfs /home @home\n0 - btrfs /var @var\n0 - btrfs /home/data @data\n"

// onSubvolumes mounts the guest as its fstab says, for writing, and calls a shell's script with it.
func (l *lab) onSubvolumes(script string) {
	l.Helper()
	dev, dir := l.partitionLoop(1), l.TempDir()
	defer func() { l.tool("losetup", "-d", dev) }()
	for _, place := range []string{"", "/home", "/var", "/home/data"} {
		l.tool("mount", "-o", "subvol="+map[string]string{"": "@rootfs", "/home": "@home", "/var": "@var", "/home/data": "@data"}[place], dev, dir+place)
	}
	defer func() { l.tool("umount", "-R", dir) }()
	l.tool("sh", "-ec", script, dir)
}

func TestWhatIsInSubvolumesOfTheRootIsFoundRenamedAndKept(t *testing.T) {
	l := layoutLab(t, 900, homeLayout)
	l.addToTree(func(tree string) {
		l.tool("sh", "-ec", `mkdir -p "$0/var/lib/dpkg" "$0/home" "$0/var/lib/cloud/seed/nocloud"
			printf 'Package: less\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n\n' >"$0/var/lib/dpkg/status"
			printf 'local-hostname: inst1.example\n' >"$0/var/lib/cloud/seed/nocloud/meta-data"`, tree)
	})
	l.create()
	in, text := l.inspect()
	if r, _ := in["receipt"].(map[string]any); r == nil || r["instance"] != "inst1.example" {
		t.Error(text)
	}
	if out, exit := l.byHand("inspect", "--packages", l.disk); exit != 0 || !strings.Contains(out, "less") {
		t.Errorf("exit status %d, %s", exit, out)
	}
	l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"] = "inst1.example", "inst2.example"
	if log, exit := l.run("rename"); exit != 0 {
		t.Fatal(log)
	}
	l.onSubvolumes(`grep -q inst2 "$0/var/lib/cloud/seed/nocloud/meta-data"; mkdir "$0/home/joe"; echo mine >"$0/home/joe/file"; echo deep >"$0/home/data/file"; setfattr -n user.a -v b "$0/home/data/file"`)
	l.env["OSP_REINSTALL_KEEP"], l.env["INSTANCE_REINSTALL"] = "/home /etc/hostname", "1"
	l.create()
	kept := `test "$(cat "$0/home/joe/file" "$0/home/data/file" | tr '\n' ' ')" = "mine deep "; getfattr --only-values -n user.a "$0/home/data/file" | grep -q b`
	l.onSubvolumes(kept)
	l.holdsNothing()
	l.layout("server", "0 rest ext4 /\n") // onto another layout, and back
	l.create()
	l.change(func(tree string) { l.tool("sh", "-ec", kept, tree) })
	l.layout("server", homeLayout)
	l.create()
	l.onSubvolumes(kept)
}

// A subvolume that is filled half hides what the root still has.
func TestAReinstallThatEndedWhileSubvolumesWereFilledGoesOnWithWhatItKept(t *testing.T) {
	l := layoutLab(t, 900, homeLayout)
	l.create()
	l.onSubvolumes(`mkdir "$0/home/joe"; echo mine >"$0/home/joe/file"; echo deep >"$0/home/data/file"`)
	l.env["OSP_REINSTALL_KEEP"], l.env["INSTANCE_REINSTALL"] = "/home", "1"
	l.fake("cp", `case "$*" in */home/.*) exit 1;; esac; exec /bin/cp "$@"`)
	l.fails("move folders onto their filesystems: /home ")
	must(t, os.Remove(filepath.Join(l.fakes, "cp")))
	l.matches(l.create(), "what an earlier run has read is kept")
	l.holdsNothing()
	l.onSubvolumes(`test "$(cat "$0/home/joe/file" "$0/home/data/file" | tr '\n' ' ')" = "mine deep "`)
}

func TestAFurtherDiskWithoutALayoutsSubvolumesIsRefused(t *testing.T) {
	l := layoutLab(t, 800, "0 rest ext4 /\n1 rest btrfs /srv @srv\n1 - btrfs /home @home\n")
	second := l.blankDisk("second-disk", 600)
	l.disks(l.disk, second)
	l.create()
	l.on(second, func() {
		l.hasLayout([]string{"1 /srv btrfs"})
		if got := l.subvolumesOf(1); got != "@home @srv @srv" {
			t.Error(got)
		}
	})
	before := sumOf(t, second)
	l.matches(l.create(), `disk 1 .*: has what the layout says, and is taken as it is`)
	if sumOf(t, second) != before {
		t.Error("a reinstall has changed the second disk")
	}
	l.layout("server", "0 rest ext4 /\n1 rest btrfs /srv @srv\n1 - btrfs /home @data\n")
	l.matches(l.fails("disk 1 ("), `isn't what the layout says \(its partition 1 has no subvolume @data\)`)
	if sumOf(t, second) != before {
		t.Error("the second disk was changed")
	}
}
