//go:build root

package root

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// dataLab is a lab whose instance has a second disk, called data.
func dataLab(t *testing.T, sizeMiB int64, setting string) (l *lab, data string) {
	t.Helper()
	l = newLab(t, 600)
	l.tinyTree()
	data = l.blankDisk("data-disk", sizeMiB)
	l.disks(l.disk, data)
	l.env["DISK_1_NAME"], l.env["OSP_DATA_DISKS"] = "data", setting
	return l, data
}

// on has a call look at another disk than the root.
func (l *lab) on(disk string, call func()) {
	l.Helper()
	root := l.disk
	l.disk = disk
	defer func() { l.disk = root }()
	call()
}

// mountsData fails unless the guest's fstab mounts the disk by its UUID on an
// empty folder, as findmnt reads it.
func (l *lab) mountsData(data, folder, fstype, pass string) {
	l.Helper()
	uuid := l.tool("blkid", "-p", "-s", "UUID", "-o", "value", data)
	l.mounted(func(tree string) {
		got := strings.Join(strings.Fields(l.tool("findmnt", "--tab-file", tree+"/etc/fstab", "-n", "-o", "SOURCE,FSTYPE,OPTIONS,FREQ,PASSNO", "--target", folder)), " ")
		if want := "UUID=" + uuid + " " + fstype + " defaults,nofail 0 " + pass; got != want {
			l.Errorf("fstab has %q, not %q", got, want)
		}
		if mode := l.tool("stat", "-c", "%a %U %h", tree+folder); mode != "755 root 2" {
			l.Errorf("%s is %s", folder, mode)
		}
	})
}

func TestABlankDataDiskIsFormattedAndAFileOnItSurvivesAReinstall(t *testing.T) {
	for _, c := range []struct {
		fstype, folder, pass string
		mib                  int64
	}{
		{"ext4", "/srv", "2", 128}, {"ext4", "/var/lib/data", "2", 700}, {"ext3", "/home", "2", 100}, {"ext2", "/a/b/c", "2", 100},
		{"xfs", "/srv/x", "0", 320}, {"btrfs", "/opt", "0", 256},
	} {
		t.Run(c.fstype+c.folder, func(t *testing.T) {
			l, data := dataLab(t, c.mib, "data="+c.folder+":"+c.fstype)
			l.hook("10-hook", `test -d "$TARGET/`+c.folder+`" && ! mountpoint -q "$TARGET/`+c.folder+`"`)
			log := l.create()
			if !strings.Contains(log, "blank until now") {
				t.Errorf("the log doesn't tell:\n%s", log)
			}
			l.mountsData(data, c.folder, c.fstype, c.pass)
			l.on(data, func() {
				l.checkFilesystem(c.fstype)
				l.fillsDisk()
				l.change(func(tree string) { richTree(t, tree) })
				before, sum := l.snapshot(without{}), sumOf(t, data)
				l.free(data)
				l.on(l.env["DISK_0_PATH"], func() {
					l.env["INSTANCE_REINSTALL"] = "1"
					l.create()
					l.mountsData(data, c.folder, c.fstype, c.pass)
				})
				if sumOf(t, data) != sum {
					t.Error("the reinstall changed the data disk")
				}
				sameManifest(t, before, l.snapshot(without{}))
			})
		})
	}
}

// foreign is what a data disk must never be formatted over, or mounted as ext4.
var foreign = map[string]struct{ script, want string }{
	"another filesystem of ours": {"mkfs.xfs -q $disk", "holds xfs .*DATA_DISKS=data=/srv:xfs"},
	"ext3":                       {"mke2fs -q -F -t ext3 $disk", "holds ext3 .*DATA_DISKS=data=/srv:ext3"},
	"vfat":                       {"mkfs.vfat -n DATA $disk", "holds vfat .label DATA.*mkfs.ext4"},
	"swap":                       {"mkswap -q $disk", "holds swap"},
	"LVM":                        {"dev=$(losetup --show -f $disk); pvcreate -qq -ff -y $dev; losetup -d $dev", "holds LVM2_member"},
	"a partition with ext4":      {"echo 2048,,L | sfdisk -q $disk; mke2fs -q -F -t ext4 -E offset=1048576 $disk 300M", "holds a dos partition table"},
	"a gpt":                      {"echo ,,L | sfdisk -q -X gpt $disk", "holds a gpt partition table"},
	"unknown data":               {"printf data | dd of=$disk bs=1 seek=123456 conv=notrunc", "holds data of an unknown kind"},
	"two things at once":         {"mke2fs -q -F -t ext4 $disk; head -c 4096 $disk > $disk.s; mkfs.btrfs -q -f $disk; dd if=$disk.s of=$disk conv=notrunc; rm $disk.s", "ambiguous"},
	"ext4 without a UUID":        {"mke2fs -q -F -t ext4 $disk; tune2fs -U clear $disk", "holds ext4"},
}

func TestADataDiskWithAnythingElseIsRefusedBeforeAnythingIsTouched(t *testing.T) {
	for name, c := range foreign {
		t.Run(name, func(t *testing.T) {
			l, data := dataLab(t, 320, "data=/srv")
			l.tool("sh", "-e", "-c", "disk="+data+"; "+c.script)
			before := sumOf(t, data)
			log := l.fails("data disk data (" + data + ")")
			l.matches(log, c.want)
			if sumOf(t, data) != before {
				t.Error("the data disk was changed")
			}
			l.untouched()
		})
	}
	for name, c := range map[string]struct{ setting, want string }{
		"too small for xfs":     {"data=/srv:xfs", "too small: it has 64 MiB, and xfs needs 3.. MiB"},
		"the swap disk as well": {"data=/srv", "to become swap already"},
		"the root as well":      {"data=/srv", "the root disk already"},
		"two disks in one":      {"data=/srv,more=/opt", "data disk more.* is data disk data .* already"},
		"a copy of another":     {"data=/srv,more=/opt", "copy of data disk data .*same UUID"},
	} {
		t.Run(name, func(t *testing.T) {
			l, data := dataLab(t, 64, c.setting)
			switch name {
			case "the swap disk as well":
				l.env["SWAPDEV"] = ""
				l.write("default", "swapdev=$DISK_1_PATH\n", 0o644)
			case "the root as well":
				must(t, os.Remove(data))
				must(t, os.Symlink(l.disk, data))
			case "two disks in one", "a copy of another":
				more := data + "-more"
				must(t, os.Symlink(data, more))
				if name == "a copy of another" {
					must(t, os.Remove(more))
					l.tool("mke2fs", "-q", "-F", "-t", "ext4", data)
					l.tool("cp", "--sparse=always", data, more)
				}
				l.disks(l.disk, data, more)
				l.env["DISK_2_NAME"] = "more"
			}
			l.matches(l.fails("data disk"), c.want)
			l.untouched()
		})
	}
}

func TestADataDiskThatTheInstanceLacksIsLeftOut(t *testing.T) {
	l, data := dataLab(t, 64, "db=/var/lib/db,data=/srv")
	log := l.create()
	l.matches(log, "DATA_DISKS names db, and no disk beside the root is called so .there is data.: it is left out")
	l.mountsData(data, "/srv", "ext4", "2")
	l.mounted(func(tree string) {
		if got := l.tool("cat", tree+"/etc/fstab"); strings.Contains(got, "/var/lib/db") {
			t.Errorf("fstab mounts what isn't there:\n%s", got)
		}
	})
}

func TestADataDiskThatIsABlockDevice(t *testing.T) {
	l, data := dataLab(t, 64, "data=/srv")
	dev := l.tool("losetup", "--show", "-f", "--sector-size", "4096", data)
	t.Cleanup(func() { exec.Command("losetup", "-d", dev).Run() })
	l.env["DISK_1_PATH"] = dev
	log, exit := l.run("create")
	if exit != 0 {
		t.Fatalf("exit status %d\n%s", exit, log)
	}
	l.tool("e2fsck", "-fn", dev)
	dir := t.TempDir()
	l.tool("mount", dev, dir)
	log, exit = l.run("create")
	if exit != 1 || !strings.Contains(log, "mounted on "+dir) {
		t.Errorf("a mounted data disk: exit status %d\n%s", exit, log)
	}
	l.tool("umount", dir)
	l.tool("losetup", "-d", dev) // which fails if the run still has it
	l.mountsData(data, "/srv", "ext4", "2")
}

func TestADataDiskThatHidesFilesOfTheGuestIsWarnedOf(t *testing.T) {
	l, _ := dataLab(t, 64, "data=/usr/share")
	l.matches(l.create(), "the guest has big in /usr/share, which its data disk will hide")
}

func TestPlanTellsWhatIsKnownOfEachDataDisk(t *testing.T) {
	l, data := dataLab(t, 64, "data=/srv,more=/opt:xfs,db=/db")
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	more := l.blankDisk("more", 320)
	l.disks(l.disk, data, more)
	l.env["DISK_2_NAME"] = "more"
	l.tool("mkfs.xfs", "-q", more)
	uuid := l.tool("blkid", "-p", "-s", "UUID", "-o", "value", more)
	text, exit := l.run("instance-debootstrap", "plan", "create")
	if exit != 0 {
		t.Errorf("exit status %d\n%s", exit, text)
	}
	l.matches(text, "filesystems: data on /srv, more on /opt .*data disk data .*: blank, gets ext4; data disk more .*: xfs with UUID "+uuid+", taken as it is; no disk is named db")
	l.tool("mkswap", "-q", data)
	text, _ = l.run("instance-debootstrap", "plan", "create")
	l.matches(text, "refused: data disk data .*: it holds swap")
	delete(l.env, "DISK_1_NAME")
	delete(l.env, "DISK_2_NAME")
	text, _ = l.run("instance-debootstrap", "plan", "create")
	l.matches(text, "- make the data disks' filesystems .the instance has no disk named data or more or db.")
	l.untouched()
}

// TestTwoCreatesAtOnceWithOneDataDisk: who comes second is told so.
func TestTwoCreatesAtOnceWithOneDataDisk(t *testing.T) {
	l, data := dataLab(t, 64, "data=/srv")
	l.hook("10-slow", fmt.Sprintf("(exec -a %s sleep 2)", mark()))
	first := l.command("create")
	var said bytes.Buffer
	first.Stderr = &said
	must(t, first.Start())
	<-l.running()
	root := l.disk
	other := l.blankDisk("other-root", 600)
	l.disks(other, data)
	l.env["DISK_1_NAME"] = "data"
	log, exit := l.run("create")
	if exit != 1 || !strings.Contains(log, data+" is in use: another run") {
		t.Errorf("exit status %d\n%s", exit, log)
	}
	l.untouched()
	if err := first.Wait(); err != nil {
		t.Errorf("the first: %v\n%s", err, said.String())
	}
	l.clean(0)
	l.disk = root
	l.mountsData(data, "/srv", "ext4", "2")
	l.on(data, func() { l.checkFilesystem("ext4") })
}

// TestADataDiskIsBlankAgainWhenItsFilesystemIsNotMade, and the next create formats it.
func TestADataDiskIsBlankAgainWhenItsFilesystemIsNotMade(t *testing.T) {
	l, _ := dataLab(t, 64, "data=/srv")
	l.env["OSP_FILESYSTEM"] = "xfs"
	l.fake("mke2fs", `for a; do case $a in /dev/*) printf %08192d 1 >"$a";; esac; done; exit 1`)
	l.fails("make the data disks' filesystems: data disk data")
	must(t, os.Remove(l.fakes+"/mke2fs"))
	l.matches(l.create(), "blank until now, has ext4")
}
