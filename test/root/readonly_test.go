//go:build root

package root

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// fstabLine is what the guest's fstab says of a folder: OPTIONS PASS.
func (l *lab) fstabLine(folder string) (line string) {
	l.Helper()
	l.mounted(func(tree string) {
		line = strings.Join(strings.Fields(l.tool("findmnt", "--tab-file", tree+"/etc/fstab", "-n", "-o", "OPTIONS,PASSNO", "--target", folder)), " ")
	})
	return line
}

func TestAReadOnlyDataDiskIsMountedAsItIsAndNeverFormatted(t *testing.T) {
	for fstype, make := range map[string]string{"ext4": "mke2fs -q -F -t ext4", "xfs": "mkfs.xfs -q", "btrfs": "mkfs.btrfs -q"} {
		t.Run(fstype, func(t *testing.T) {
			l, data := dataLab(t, 320, "data=/srv:"+fstype)
			l.env["DISK_1_ACCESS"] = "ro"
			before := sumOf(t, data)
			l.matches(l.fails("data disk data ("+data+"): it is read-only"), "holds blank.*mode=rw")
			l.untouched()
			if sumOf(t, data) != before {
				t.Error("the blank disk was written to")
			}
			l.tool("sh", "-c", make+" "+data)
			before = sumOf(t, data)
			l.matches(l.create(), "taken as it is, and mounted read-only")
			if got := l.fstabLine("/srv"); got != "ro,nofail 0" {
				t.Errorf("fstab: %s", got)
			}
			if sumOf(t, data) != before {
				t.Error("the data disk was written to")
			}
		})
	}
}

func TestAReadOnlyDiskIsNeverMadeSwap(t *testing.T) {
	for _, c := range []struct{ content, by string }{{"", "name"}, {"", "swapdev"}, {"mkswap -q", "name"}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			l := newLab(t, 600)
			l.tinyTree()
			swap := l.blankDisk("swap-disk", 64)
			l.disks(l.disk, swap)
			l.env["DISK_1_ACCESS"] = "ro"
			if c.by == "name" {
				l.env["DISK_1_NAME"] = "swap"
			} else {
				l.write("default", "swapdev=$DISK_1_PATH\n", 0o644)
			}
			if c.content != "" {
				l.tool("sh", "-c", c.content+" "+swap)
			}
			before := sumOf(t, swap)
			l.fails("swap disk " + swap + " is read-only (DISK_n_ACCESS=ro)")
			l.untouched()
			if sumOf(t, swap) != before {
				t.Error("the swap disk was written to")
			}
		})
	}
}

func TestAReadOnlyRootIsInstalledAndMountedReadOnlyWithAWarning(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs"} {
		l := newLab(t, 600)
		l.tinyTree()
		l.env["DISK_0_ACCESS"], l.env["OSP_FILESYSTEM"] = "ro", fstype
		l.matches(l.create(), "(?m)^.*warn: .*DISK_0_ACCESS=ro.*mounts it ro.*$")
		if got := l.fstabLine("/"); got != "ro 0" {
			t.Errorf("%s: fstab: %s", fstype, got)
		}
	}
}

func TestPlanTellsThatAReadOnlyDiskIsRefused(t *testing.T) {
	l, _ := dataLab(t, 64, "data=/srv")
	l.env["DISK_0_ACCESS"], l.env["DISK_1_ACCESS"] = "ro", "ro"
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	text, exit := l.run("instance-debootstrap", "plan", "create")
	if exit != 1 {
		t.Errorf("exit status %d\n%s", exit, text)
	}
	l.matches(text, "refused: data disk data .*: it is read-only")
	l.matches(text, "claim the disks.*, read-only for the guest")
}

func TestAReadOnlyCacheFolderIsFollowedByItsRemedyAndTheRemedyWorks(t *testing.T) {
	readOnly := func(l *lab) {
		l.tool("mount", "--bind", base+"/cache", base+"/cache")
		l.tool("mount", "-o", "remount,bind,ro", base+"/cache")
		l.Cleanup(func() { l.tool("umount", base+"/cache") })
	}
	l := newCacheLab(t)
	readOnly(l)
	l.matches(l.fails("GENERATE_CACHE=no"), "cache folder "+base+"/cache: .*read-only file system: set CACHE_DIR to a folder that can be written to, or GENERATE_CACHE=no")
	l.untouched()
	other := t.TempDir()
	must(t, os.Chmod(other, 0o755))
	before, err := os.ReadFile(base + "/default")
	must(t, err)
	for _, remedy := range []string{"GENERATE_CACHE=no", "CACHE_DIR=" + other} {
		l.write("default", string(before), 0o644)
		l.setting(remedy)
		l.create()
	}
}
