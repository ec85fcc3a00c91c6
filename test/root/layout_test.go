//go:build root

package root

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// serverLayout has what people ask for.
const serverLayout = `# DISK SIZE FILESYSTEM FOLDER
0 128M ext4 /boot
0 64M  swap
0 320M xfs /var
0 100M ext3 /var/log
0 100M ext2 /srv
0 rest ext4 /
`

// layoutParts are its partitions, in their order on the disk: number, name, filesystem.
var layoutParts = []string{"2 /boot ext4", "3 swap swap", "4 /var xfs", "5 /var/log ext3", "6 /srv ext2", "1 root ext4"}

// layoutLab is a lab whose instance has a layout, and a tree with something in each folder.
func layoutLab(t *testing.T, sizeMiB int64, text string) *lab {
	t.Helper()
	l := newMoveLab(t, sizeMiB)
	l.tinyTree()
	l.addToTree(func(tree string) {
		l.tool("sh", "-ec", `cd "$1"; mkdir -p var/log var/lib/a srv var/tmp; chmod 1777 var/tmp
			echo log >var/log/x; chown 7:8 var/log/x; ln var/log/x var/log/y; ln var/log/x var/lib/a/z; setfattr -n user.a -v b var/log/x
			chmod 2750 var/log; chown 0:4 var/log; ln -s ../lib/a var/tmp/link; mkfifo srv/fifo; touch -d 2020-01-02 var/lib/a`, "-", tree)
	})
	l.layout("server", text)
	l.env["OSP_LAYOUT"] = "server"
	return l
}

// layout writes a file of LAYOUT.
func (l *lab) layout(name, text string) {
	l.Helper()
	must(l, os.MkdirAll(filepath.Join(base, "conf/layouts"), 0o755))
	l.Cleanup(func() { os.RemoveAll(filepath.Join(base, "conf/layouts")) })
	l.write("conf/layouts/"+name, text, 0o644)
}

// addToTree changes the admin's own tree.
func (l *lab) addToTree(change func(tree string)) {
	l.Helper()
	dir := l.TempDir()
	l.tool("tar", "--xattrs", "-xf", l.tar(), "-C", dir)
	change(dir)
	l.tool("tar", "--xattrs", "-cf", l.tar(), "-C", dir, ".")
}

// tablePart is a partition, as sfdisk reads it.
type tablePart struct {
	number int
	name   string
	start  int64
}

func (l *lab) tableOf() (parts []tablePart) {
	l.Helper()
	var table struct {
		PartitionTable struct {
			Partitions []struct {
				Node, Name string
				Start      int64
			}
		}
	}
	must(l, json.Unmarshal([]byte(l.tool("sfdisk", "--json", l.disk)), &table))
	for _, p := range table.PartitionTable.Partitions {
		number, err := strconv.Atoi(strings.TrimPrefix(p.Node, l.disk))
		must(l, err)
		parts = append(parts, tablePart{number, p.Name, p.Start})
	}
	return parts
}

// partitionLoop puts a loop device over a partition.
func (l *lab) partitionLoop(number int) string {
	l.Helper()
	offset, size := l.partition(number)
	return l.tool("losetup", "--show", "-f", "-o", fmt.Sprint(offset), "--sizelimit", fmt.Sprint(size), l.disk)
}

// wholeTree mounts the guest as its fstab says, read-only, and calls look with it.
func (l *lab) wholeTree(look func(tree string)) {
	l.Helper()
	byUUID, root := map[string]string{}, ""
	for _, p := range l.tableOf() {
		dev := l.partitionLoop(p.number)
		defer func() { l.tool("losetup", "-d", dev) }()
		if out, err := exec.Command("blkid", "-p", "-s", "UUID", "-o", "value", dev).Output(); err == nil {
			byUUID["UUID="+strings.TrimSpace(string(out))] = dev
		}
		if p.number == 1 {
			root = dev
		}
	}
	dir := l.TempDir()
	l.tool("mount", "-o", "ro", root, dir)
	defer func() { l.tool("umount", "-R", dir) }()
	for line := range strings.Lines(l.tool("findmnt", "--tab-file", dir+"/etc/fstab", "-n", "-r", "-o", "SOURCE,TARGET,FSTYPE,OPTIONS")) {
		f := strings.Fields(line)
		switch dev := byUUID[f[0]]; {
		case f[1] == "/" && dev != root:
			l.Errorf("fstab's root is %s, %q", f[0], dev)
		case f[1] == "/" || f[2] == "swap" || f[2] == "proc" || f[2] == "vfat":
		case dev == "":
			l.Errorf("fstab mounts %s, which isn't there", line)
		default:
			options := "ro"
			if _, name, ok := strings.Cut(f[3], "subvol="); ok {
				options += ",subvol=" + name
			}
			l.tool("mount", "-o", options, "-t", f[2], dev, dir+f[1])
		}
	}
	look(dir)
}

// hasLayout fails unless the disk has the partitions, with those filesystems, all in order.
func (l *lab) hasLayout(want []string) {
	l.Helper()
	l.tool("sfdisk", "--verify", l.disk)
	var got []string
	for _, p := range l.tableOf() {
		if p.name == "BIOS boot" || p.name == "EFI system" {
			continue
		}
		dev := l.partitionLoop(p.number)
		defer func() { l.tool("losetup", "-d", dev) }()
		fstype := l.tool("sh", "-c", "blkid -p -s TYPE -o value "+dev+" || true")
		got = append(got, fmt.Sprintf("%020d %d %s %s", p.start, p.number, p.name, fstype))
		switch fstype {
		case "xfs":
			l.tool("xfs_repair", "-n", dev)
		case "ext2", "ext3", "ext4":
			l.tool("e2fsck", "-fn", dev)
		}
	}
	slices.Sort(got)
	for i := range got {
		got[i] = got[i][21:]
	}
	if !slices.Equal(got, want) {
		l.Errorf("the disk has %q, not %q", got, want)
	}
}

// hasTree fails unless the folders hold what the tree had in them.
func (l *lab) hasTree() {
	l.Helper()
	l.wholeTree(func(tree string) {
		for folder, fstype := range map[string]string{"/boot": "ext4", "/var": "xfs", "/var/log": "ext3", "/srv": "ext2"} {
			if got := l.tool("findmnt", "-n", "-o", "FSTYPE", tree+folder); got != fstype {
				l.Errorf("%s is %s", folder, got)
			}
		}
		for what, want := range map[string]string{
			"stat -c '%u:%g %h' var/log/x": "7:8 2", "stat -c '%a %u:%g' var/log": "2750 0:4", "getfattr --only-values -n user.a var/log/y": "b",
			"stat -c %a var/tmp": "1777", "readlink var/tmp/link": "../lib/a", "stat -c %F srv/fifo": "fifo", "cat var/lib/a/z": "log",
			"date -u -r var/lib/a +%F": "2020-01-02", "cat etc/hostname": "inst1.example", "ls -A boot | grep -v lost": "efi",
			"grep -c instance-debootstrap var/lib/instance-debootstrap/receipt.json": "1",
		} {
			if got := l.tool("sh", "-c", `cd "$1"; `+what+" || true", "-", tree); got != want {
				l.Errorf("%s says %q, not %q", what, got, want)
			}
		}
		l.tool("umount", tree+"/var/log", tree+"/var", tree+"/srv")
		if left := l.tool("find", tree+"/var", tree+"/srv"); left != tree+"/var\n"+tree+"/srv" {
			l.Errorf("the root still has %s", left)
		}
		l.tool("sh", "-c", `grep -v "^#" "$1"/etc/fstab`, "-", tree)
	})
}

func TestALayoutIsMadeAsItsFileSays(t *testing.T) {
	l := layoutLab(t, 1200, serverLayout)
	l.hook("10-hook", `test -s "$TARGET/var/log/x" && test "$PARTITION_STYLE" = gpt && touch "$TARGET/srv/from-hook" && ! mountpoint -q "$TARGET/var"`)
	log := l.create()
	l.matches(log, `is installed on .* \(1200 MiB, layout server\)`)
	l.hasLayout(layoutParts)
	l.hasTree()
	l.wholeTree(func(tree string) {
		l.tool("test", "-e", tree+"/srv/from-hook")
		var receipt struct {
			Disk struct {
				Layout    string
				Folders   []struct{ Folder, Type, UUID string }
				SwapUUIDs []string `json:"swap_uuids"`
			}
		}
		text, err := os.ReadFile(tree + "/var/lib/instance-debootstrap/receipt.json")
		must(t, err)
		must(t, json.Unmarshal(text, &receipt))
		if d := receipt.Disk; d.Layout != "server" || len(d.Folders) != 4 || d.Folders[2].Folder != "/var/log" || len(d.SwapUUIDs) != 1 {
			t.Errorf("%s", text)
		}
	})
	l.create() // over itself
	l.hasTree()
}

func TestALayoutThatCannotBeMadeIsRefusedBeforeAnythingIsTouched(t *testing.T) {
	for text, want := range map[string]string{
		"0 1G ext4 /srv\n0 rest ext4 /":                      "the partitions take .* MiB more than the disk's 800 MiB",
		"0 100M xfs /srv\n0 rest ext4 /":                     `server:1: /srv has 100 MiB, and its xfs needs 3\d\d MiB`,
		"0 rest ext4 /\n1 1G ext4 /srv":                      `server: disk 1 is none of the instance's: give it one more`,
		"0 rest ext4 /\n1 1G ext4 /var":                      `server:2: folder /var: must be on the instance's first disk, 0`,
		"0 1G ext4 /etc\n0 1G what /srv\n0 rest ext4 /":      `(?s)server:1: folder /etc.*server:2: filesystem "what"`,
		"0 700M ext4 /srv\n0 rest ext4 /":                    `server:2: / has \d+ MiB, and its ext4 needs`,
		"0 64M ext4 /var\n0 rest ext4 /":                     `server:1: /var has 64 MiB, and its ext4 needs .* MiB`,
		"0 200M ext4 /var\n0 100M ext4 /srv\n0 68M ext4 /\n": `the root has 68 MiB, and .* all of which lies there until it is finished, needs`,
	} {
		t.Run("", func(t *testing.T) {
			l := layoutLab(t, 800, text)
			l.addToTree(func(tree string) {
				must(t, os.WriteFile(tree+"/var/large", make([]byte, 100<<20), 0o644))
			})
			log, exit := l.run("create")
			if exit != 1 {
				t.Fatal(log)
			}
			l.matches(log, want)
			l.untouched()
		})
	}
	l := layoutLab(t, 800, serverLayout)
	l.env["OSP_LAYOUT"] = "web"
	l.matches(l.fails("LAYOUT=web"), "LAYOUT=web: there is no .*conf/layouts/web: write it, or take one that is there .*server")
	l.untouched()
}

func TestWhatAHookLeavesMountedIsNeitherMovedNorRemoved(t *testing.T) {
	l := layoutLab(t, 1200, serverLayout)
	nodes := t.TempDir()
	must(t, os.WriteFile(nodes+"/of-the-node", []byte("precious"), 0o644))
	l.hook("10-hook", `mount --bind `+nodes+` "$TARGET/var/lib/a"; mount --bind `+nodes+` "$TARGET/srv"; mount -t tmpfs none "$TARGET/var/tmp"; sleep 1000 </dev/null >/dev/null 2>&1 &
cd "$TARGET/srv"; exec -a `+mark()+` sleep 1000 </dev/null >/dev/null 2>&1 & exit 0`)
	l.create()
	if got := l.tool("cat", nodes+"/of-the-node"); got != "precious" {
		t.Error(got)
	}
	l.hasTree()
	l.wholeTree(func(tree string) {
		if got := l.tool("find", tree, "-name", "of-the-node"); got != "" {
			t.Errorf("the guest has the node's %s", got)
		}
	})
}

func TestAFolderThatCannotBeMovedEndsTheCreate(t *testing.T) {
	for script, want := range map[string]string{
		`head -c 150M /dev/zero >"$TARGET/srv/large"`:      "/srv .*server:6.: its filesystem is full: give it more, or have hooks put less there",
		`rm -r "$TARGET/srv"; ln -s var "$TARGET/srv"`:     "/srv .*server:6.: look at /srv in the guest: it is a symbolic link: have it be a folder, or give the one that it leads to a filesystem",
		`rm -r "$TARGET/srv"; echo file >"$TARGET/srv"`:    "make folder /srv|/srv",
		`touch "$TARGET/srv/i"; chattr +i "$TARGET/srv/i"`: `/srv .*: operation not permitted: what is immutable or append-only \(chattr\) can't be moved: have the guest make it so, on its first boot`,
		`cd "$TARGET/srv"; seq 60000 | xargs touch`:        "/srv .*server:6.: its filesystem is full: give it more, or have hooks put less there",
	} {
		t.Run("", func(t *testing.T) {
			l := layoutLab(t, 1200, serverLayout)
			l.hook("10-hook", script)
			l.matches(l.fails("move folders onto their filesystems: "), want)
		})
	}
}

func TestAKilledCreateOfALayoutLeavesNothingOnTheNode(t *testing.T) {
	l := layoutLab(t, 1200, serverLayout)
	begun := time.Now()
	l.create()
	whole, kills := time.Since(begun), 0
	for i := range 8 {
		moment := time.After(whole * time.Duration(i+2) / 10)
		killed := l.killed(moment, func(pid int) { must(t, exec.Command("kill", "-9", fmt.Sprint(pid)).Run()) })
		l.clean(10 * time.Second)
		t.Logf("killed at %d0%%: %v", i+2, killed)
		if killed {
			kills++
		}
	}
	if kills == 0 {
		t.Error("each create had ended before its kill came")
	}
	l.create()
	l.hasTree()
}

func TestAGuestWithALayoutIsRenamedAndInspected(t *testing.T) {
	l := layoutLab(t, 1200, serverLayout)
	l.addToTree(func(tree string) {
		must(t, os.MkdirAll(tree+"/var/lib/dpkg", 0o755))
		must(t, os.WriteFile(tree+"/var/lib/dpkg/status", []byte("Package: less\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n\n"), 0o644))
	})
	l.create()
	in, text := l.inspect()
	if r, _ := in["receipt"].(map[string]any); r == nil || r["instance"] != "inst1.example" {
		t.Error(text)
	}
	l.matches(text, `partition 4: +Linux /var, /var.*xfs`)
	out, exit := l.byHand("inspect", "--packages", l.disk)
	if exit != 0 || !strings.Contains(out, "less") {
		t.Errorf("exit status %d, %s", exit, out)
	}
	l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"] = "inst1.example", "inst2.example"
	if log, exit := l.run("rename"); exit != 0 {
		t.Fatal(log)
	}
	l.wholeTree(func(tree string) {
		if got := l.tool("cat", tree+"/etc/hostname"); got != "inst2.example" {
			t.Error(got)
		}
	})
	l.env["OSP_REINSTALL_KEEP"], l.env["INSTANCE_REINSTALL"] = "/srv/app /etc/ssh", "1"
	l.matches(l.fails("REINSTALL_KEEP"), "of /srv/app the old guest has /srv .partition 6. on a filesystem of its own, and only what is on its root can be kept: leave that out")
	l.env["OSP_REINSTALL_KEEP"] = "/etc/hostname"
	l.create()
	l.wholeTree(func(tree string) {
		if got := l.tool("cat", tree+"/etc/hostname"); got != "inst2.example" {
			t.Error(got)
		}
	})
}

func TestALayoutHasPartitionsOnFurtherDisks(t *testing.T) {
	l := layoutLab(t, 800, "0 rest ext4 /\n1 256M swap\n1 100M ext3 /srv\n1 rest xfs /opt/data\n2 rest btrfs /home\n")
	l.addToTree(func(tree string) { must(t, os.WriteFile(tree+"/srv/from-tree", nil, 0o644)) })
	second, third := l.blankDisk("second-disk", 800), l.blankDisk("third-disk", 600)
	l.disks(l.disk, second, third)
	plan, exit := l.run("create")
	if exit != 0 {
		t.Fatal(plan)
	}
	l.clean(0)
	l.hasLayout([]string{"1 root ext4"})
	l.on(second, func() { l.hasLayout([]string{"1 swap swap", "2 /srv ext3", "3 /opt/data xfs"}) })
	l.on(third, func() { l.hasLayout([]string{"1 /home btrfs"}) })
	var uuids []string
	l.mounted(func(tree string) {
		fstab := l.tool("findmnt", "--tab-file", tree+"/etc/fstab", "-n", "-r", "-o", "TARGET,FSTYPE,OPTIONS,PASSNO")
		l.matches(fstab, "(?s)^/ ext4 .*\n/srv ext3 defaults 2\n/opt/data xfs defaults 0\n/home btrfs defaults 0\n")
		uuids = strings.Fields(l.tool("findmnt", "--tab-file", tree+"/etc/fstab", "-n", "-r", "-o", "SOURCE"))
	})
	l.on(second, func() {
		dev, dir := l.partitionLoop(2), t.TempDir()
		l.tool("mount", dev, dir)
		l.tool("sh", "-c", `test -e "$0/from-tree" && echo mine >"$0/mine"`, dir)
		l.tool("umount", dir)
		l.tool("losetup", "-d", dev)
	})
	sums := sumOf(t, second)
	l.free(second)
	l.matches(l.create(), `disk 1 .*: has what the layout says, and is taken as it is`)
	if sumOf(t, second) != sums {
		t.Error("a reinstall has changed the second disk")
	}
	l.mounted(func(tree string) {
		now := strings.Fields(l.tool("findmnt", "--tab-file", tree+"/etc/fstab", "-n", "-r", "-o", "SOURCE"))
		for _, uuid := range uuids[2:] {
			if !slices.Contains(now, uuid) && len(uuid) > len("UUID=1234-ABCD") { // the EFI system partition is the root disk's
				t.Errorf("%v, and now %v", uuids, now)
			}
		}
	})
	l.on(third, func() {
		stream := l.export(2, third)
		must(t, os.Remove(third))
		must(t, os.WriteFile(third, nil, 0o600))
		must(t, os.Truncate(third, 700<<20))
		f, err := os.Open(stream)
		must(t, err)
		defer f.Close()
		l.imports(f, 2, third)
		l.hasLayout([]string{"1 /home btrfs"})
	})
	l.on(second, func() {
		l.enlarge(second, 1000)
		l.matches(l.grow(), "partition 3 from")
		l.tool("mkfs.ext4", "-q", "-F", second)
	})
	before := sumOf(t, second)
	l.matches(l.fails("disk 1 ("), `holds ext4.*which isn't what the layout says .*only a blank disk is partitioned`)
	if sumOf(t, second) != before {
		t.Error("the second disk was changed")
	}
}

func TestABackupOfALayoutIsTheSameGuestOnALargerDisk(t *testing.T) {
	for name, mib := range map[string]int64{"as large": 1200, "larger": 2000, "raw and larger": 2000} {
		t.Run(name, func(t *testing.T) {
			l := layoutLab(t, 1200, serverLayout)
			l.create()
			dump := l.disk
			if !strings.HasPrefix(name, "raw") {
				dump = l.export(0, l.disk)
			}
			l.disk = filepath.Join(t.TempDir(), "new-disk")
			must(t, os.WriteFile(l.disk, nil, 0o600))
			must(t, os.Truncate(l.disk, mib<<20))
			l.disks(l.disk)
			log := l.importFile(dump)
			if mib > 1200 {
				l.matches(log, `grew partition 1 from 423 MiB to 12\d\d MiB, its ext4`)
			}
			l.hasLayout(layoutParts)
			l.hasTree()
			l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"], l.env["DISK_0_PATH"] = "inst1.example", "inst2.example", l.disk
			if log, exit := l.run("rename"); exit != 0 {
				t.Fatal(log)
			}
			l.matches(l.grow(), "nothing to grow|fills|already")
		})
	}
}

func TestGrowEnlargesTheLastPartitionOfALayout(t *testing.T) {
	for name, c := range map[string]struct {
		text, last string
		part       int
	}{
		"the root":     {serverLayout, "partition 1 from", 1},
		"another":      {"0 300M ext4 /\n0 64M swap\n0 rest xfs /srv\n", "partition 3 from", 3},
		"a fixed size": {"0 300M ext4 /\n0 350M btrfs /opt\n", "partition 2 from", 2},
	} {
		t.Run(name, func(t *testing.T) {
			l := layoutLab(t, 1200, c.text)
			l.create()
			_, before := l.partition(c.part)
			l.enlarge(l.disk, 2000)
			said := l.grow()
			l.matches(said, c.last)
			if _, now := l.partition(c.part); now < before+(799<<20) {
				t.Errorf("partition %d had %d bytes, and has %d", c.part, before, now)
			}
			l.wholeTree(func(tree string) {
				folder := map[int]string{1: "/", 2: "/opt", 3: "/srv"}[c.part]
				var mib int64
				fmt.Sscan(l.tool("sh", "-c", "df -B 1M --output=size \"$1\" | tail -1", "-", tree+folder), &mib)
				if mib < (before>>20)+700 {
					t.Errorf("%s has %d MiB", folder, mib)
				}
			})
			l.tool("sfdisk", "--verify", l.disk)
			l.matches(l.grow(), "nothing to grow|fills|already")
		})
	}
}
