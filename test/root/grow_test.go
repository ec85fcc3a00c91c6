//go:build root

package root

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// enlarge is gnt-instance grow-disk.
func (l *lab) enlarge(disk string, sizeMiB int64) {
	l.Helper()
	l.free(disk)
	must(l, os.Truncate(disk, sizeMiB<<20))
}

// grow must succeed and leave nothing.
func (l *lab) grow(args ...string) (said string) {
	l.Helper()
	l.free(l.disk)
	said, exit := l.byHand(append([]string{"grow"}, append(args, l.disk)...)...)
	if exit != 0 {
		l.Fatalf("grow: exit status %d\n%s", exit, said)
	}
	l.clean(0)
	return said
}

// growFails must fail for the reason, and leave the disk as it was.
func (l *lab) growFails(want string) {
	l.Helper()
	l.free(l.disk)
	before := sumOf(l, l.disk)
	said, exit := l.byHand("grow", l.disk)
	if exit != 1 {
		l.Errorf("grow: exit status %d, not 1", exit)
	}
	l.matches(said, want)
	if sumOf(l, l.disk) != before {
		l.Errorf("grow changed the disk:\n%s", said)
	}
	l.clean(0)
}

// fitsDisk fails unless table and filesystem are right, and end where the disk
// does, as sfdisk, sgdisk and the filesystem's own checker see it.
func (l *lab) fitsDisk(fstype string) {
	l.Helper()
	st, err := os.Stat(l.disk)
	must(l, err)
	end := st.Size()
	switch l.table() {
	case "gpt":
		if out := l.tool("sgdisk", "-v", l.disk); !strings.Contains(out, "No problems found") {
			l.Errorf("sgdisk -v: %s", out)
		}
		end -= 33 * 512
		fallthrough
	case "dos":
		if out := l.tool("sfdisk", "--verify", l.disk); !strings.Contains(out, "No errors detected") {
			l.Errorf("sfdisk --verify: %s", out)
		}
		offset, size := l.partition(1)
		if gap := end - offset - size; gap < 0 || gap >= 1<<20 {
			l.Errorf("partition 1 ends %d bytes before the disk does", gap)
		}
	}
	l.checkFilesystem(fstype)
	l.fillsDisk()
}

// bootArea is the disk before partition 1, without its table.
func (l *lab) bootArea() []byte {
	l.Helper()
	if l.table() == "" {
		return nil
	}
	offset, _ := l.partition(1)
	f, err := os.Open(l.disk)
	must(l, err)
	defer f.Close()
	b := make([]byte, offset)
	_, err = f.ReadAt(b, 0)
	must(l, err)
	if l.table() == "gpt" {
		clear(b[512 : 34*512])
	}
	clear(b[446:512])
	return b
}

func TestGrowEveryStyleAndFilesystem(t *testing.T) {
	for i, fstype := range allTypes {
		for j, style := range allStyles {
			sizeMiB := []int64{900, 601, 5000}[(i+j)%3]
			t.Run(fmt.Sprintf("%s/%s/%d", fstype, style, sizeMiB), func(t *testing.T) {
				l := newMoveLab(t, 600)
				l.richGuest(style, fstype)
				if style != "none" {
					l.tool("sh", "-c", "head -c 400 /dev/urandom | dd of="+l.disk+" conv=notrunc status=none")
				}
				id, facts, area := l.identity(), l.snapshot(without{}), l.bootArea()
				l.matches(l.grow(), "nothing to do, its "+fstype+" of .* fills it")
				l.enlarge(l.disk, sizeMiB)
				sum := sumOf(t, l.disk)
				l.matches(l.grow("--dry-run"), fmt.Sprintf("disk .* of %d MiB: would grow (partition 1 from 5[0-9][0-9] MiB to %d MiB, )?its %s from .* up to %d", sizeMiB, l.mostOf(style, sizeMiB), fstype, l.mostOf(style, sizeMiB)))
				if sumOf(t, l.disk) != sum {
					t.Fatal("--dry-run changed the disk")
				}
				l.matches(l.grow(), "grew .*its "+fstype+" from")
				l.fitsDisk(fstype)
				if now := l.identity(); now != id {
					t.Errorf("the disk was %+v and is %+v", id, now)
				}
				sameManifest(t, facts, l.snapshot(without{}))
				if !bytes.Equal(area, l.bootArea()) {
					t.Error("what lies before the partition was changed")
				}
				sum = sumOf(t, l.disk)
				said := l.grow()
				l.matches(said, "nothing to do, its "+fstype+" of .*(fills it|is as large as it gets)") // ext leaves out a small last group
				if strings.Contains(said, "fills it") && sumOf(t, l.disk) != sum {
					t.Error("a run that had nothing to do changed the disk")
				}
			})
		}
	}
}

// mostOf is the size in MiB of the root of a disk of this size.
func (l *lab) mostOf(style string, diskMiB int64) int64 {
	l.Helper()
	switch style {
	case "none":
		return diskMiB
	case "msdos":
		return diskMiB - 1
	}
	offset, _ := l.partition(1)
	return diskMiB - offset>>20 - 1
}

func TestGrowOfDevices(t *testing.T) {
	for _, sector := range []string{"512", "4096"} {
		t.Run(sector, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.richGuest("gpt", "ext4")
			id, facts, file := l.identity(), l.snapshot(without{}), l.disk
			l.enlarge(file, 700)
			dev := l.tool("losetup", "--show", "-f", "--sector-size", sector, file)
			t.Cleanup(func() { exec.Command("losetup", "-d", dev).Run() })
			said, exit := l.byHand("grow", dev)
			if exit != 0 {
				t.Fatalf("exit status %d\n%s", exit, said)
			}
			l.matches(said, "grew partition 1 from")
			if said, exit := l.byHand("grow", file); exit != 1 || !strings.Contains(said, "in use: "+dev+" is over it") {
				t.Errorf("the device's file: exit status %d\n%s", exit, said)
			}
			l.tool("losetup", "-d", dev)
			l.clean(time.Second)
			l.fitsDisk("ext4")
			if now := l.identity(); now != id {
				t.Errorf("the disk was %+v and is %+v", id, now)
			}
			sameManifest(t, facts, l.snapshot(without{}))
		})
	}
}

// TestGrowOfSmallBlocks: a filesystem may end within what would be the last 4 KiB.
func TestGrowOfSmallBlocks(t *testing.T) {
	l := newMoveLab(t, 64)
	must(t, os.Truncate(l.disk, 65<<20+1024))
	l.tool("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", l.disk, "66561")
	l.matches(l.grow("--dry-run"), `nothing to do, its ext4 of 65\.\d+ MiB fills it`)
	l.matches(l.grow(), `nothing to do, its ext4 of 65\.\d+ MiB fills it`)
	must(t, os.Truncate(l.disk, 101<<20+3*1024))
	l.matches(l.grow(), `grew its ext4 from 65\.\d+ MiB to 101 MiB`)
	l.checkFilesystem("ext4")
	l.matches(l.grow(), "nothing to do")
}

func TestGrowOfSwap(t *testing.T) {
	l := newMoveLab(t, 64)
	l.tool("mkswap", "-q", "-L", "the-swap", l.disk)
	about := func() string {
		return strings.ReplaceAll(l.tool("blkid", "-p", "-o", "export", l.disk), l.disk, "")
	}
	before := about()
	l.enlarge(l.disk, 100)
	l.matches(l.grow("--dry-run"), "would grow its swap area from 64 MiB up to 100 MiB")
	l.matches(l.tool("file", l.disk), "size 16383 pages")
	l.matches(l.grow(), "grew its swap area from 64 MiB to 100 MiB")
	l.matches(l.tool("file", l.disk), fmt.Sprintf("size %d pages", 100*256-1))
	if now := about(); now != before {
		t.Errorf("swap was\n%s\nand is\n%s", before, now)
	}
	l.matches(l.grow(), "nothing to do, its swap area of 100 MiB fills it")
	l.enlarge(l.disk, 99)
	l.growFails("swap area has 100 MiB, and there is room for 99 MiB")
	l.enlarge(l.disk, 101)
	l.tool("sh", "-c", "printf S1SUSPEND | dd of="+l.disk+" bs=1 seek=4086 conv=notrunc status=none")
	l.growFails("hibernated on it")
}

// TestGrowRefuses has disks of 320 MiB, then of 400.
func TestGrowRefuses(t *testing.T) {
	gpt := "printf 'label: gpt\n,100M,L\n,,L\n' | sfdisk -q $disk"
	ours := "echo 2048,,L | sfdisk -q $disk; mke2fs -q -F -t ext4 -E offset=1048576 $disk 318M"
	for name, c := range map[string]struct {
		script, want string
		mib          int64
	}{
		"a blank disk":                {":", "holds nothing that could grow", 400},
		"two partitions":              {"printf ',100M,L\n,,L\n' | sfdisk -q $disk", "not a layout of ours .it has 2 partitions.*from inside the guest", 400},
		"two gpt partitions":          {gpt, "not a layout of ours .partition 2 is of type", 400},
		"swap behind the root":        {"printf 'label: gpt\n,100M,L\n,,S\n' | sfdisk -q $disk", "not a layout of ours .partition 2 is of type", 400},
		"a BIOS-boot partition last":  {"printf 'label: gpt\n,100M,L\n,,21686148-6449-6E6F-744E-656564454649\n' | sfdisk -q $disk", "partition 2 lies behind partition 1", 400},
		"swap in a partition":         {"echo ,,S | sfdisk -q $disk", "not a layout of ours .its partition is of type 82", 400},
		"a hybrid MBR":                {"printf 'label: gpt\n,,L\n' | sfdisk -q $disk; sgdisk --hybrid=1 $disk >/dev/null", "hybrid", 400},
		"an empty partition":          {"echo 2048,,L | sfdisk -q $disk", "it holds nothing known", 400},
		"LVM in a partition":          {"echo 2048,,L | sfdisk -q $disk; dev=$(losetup --show -o 1048576 -f $disk); pvcreate -qq -ff -y $dev; losetup -d $dev", "it holds LVM2_member", 400},
		"LVM on all of it":            {"dev=$(losetup --show -f $disk); pvcreate -qq -ff -y $dev; losetup -d $dev", "it holds LVM2_member", 400},
		"vfat":                        {"mkfs.vfat $disk", "it holds vfat", 400},
		"unknown data":                {"head -c 1000000 /dev/urandom | dd of=$disk conv=notrunc bs=1M seek=3", "holds nothing that could grow", 400},
		"a partition beyond its end":  {ours, "partition 1 .* isn't on the disk of 300.* MiB", 300},
		"a gpt without its end":       {"printf 'label: gpt\n,,L\n' | sfdisk -q $disk", "isn't on the disk|usable", 319},
		"a filesystem beyond its end": {"mke2fs -q -F -t ext4 $disk", "its ext4 has 320 MiB, and there is room for 300 MiB", 300},
		"an xfs beyond its end":       {"mkfs.xfs -q $disk", "its xfs has 320 MiB, and there is room for 310 MiB", 310},
		"msdos above 2 TiB":           {ours, "msdos table reaches 2097152 MiB only", 3 << 20},
		"ext4 that needs a decision":  {ours + "; dev=$(losetup --show -o 1048576 -f $disk); debugfs -w -R 'clri <2>' $dev; losetup -d $dev", "e2fsck can't repair it without asking .*have its guest check it", 400},
		"xfs that can't be mounted":   {"echo 2048,,L | sfdisk -q $disk; dev=$(losetup --show -o 1048576 -f $disk); mkfs.xfs -q $dev; xfs_db -x -c 'sb 0' -c 'write -d rootino 12345678' $dev; losetup -d $dev", "not a xfs that this node|mount", 400},
		"a damaged xfs":               {"mkfs.xfs -q $disk; xfs_db -x -c 'agf 0' -c 'write -d freeblks 1' $disk", "xfs_repair finds it damaged: have its guest check it", 400},
		"a damaged btrfs":             {"mkfs.btrfs -q $disk; at=$(btrfs-map-logical -l $(btrfs inspect-internal dump-super $disk | awk '$1 == \"root\" {print $2}') $disk | sed 's/.*physical \\([0-9]*\\).*/\\1/'); for o in $at; do head -c 64 /dev/urandom | dd of=$disk bs=1 seek=$((o+200)) conv=notrunc; done", "btrfs finds it damaged", 400},
		"a btrfs on two devices":      {"truncate -s 320M $disk.2; mkfs.btrfs -q $disk $disk.2", "its btrfs is on 2 disks", 400},
		"btrfs without a chunk tree":  {"mkfs.btrfs -q $disk; for o in 65536 67108864; do head -c 8 /dev/urandom | dd of=$disk bs=1 seek=$((o+88)) conv=notrunc; done", "btrfs|ambiguous|holds", 400},
	} {
		t.Run(name, func(t *testing.T) {
			l := newMoveLab(t, 320)
			l.tool("bash", "-e", "-c", "disk="+l.disk+"; "+c.script)
			l.enlarge(l.disk, c.mib)
			if name == "ext4 that needs a decision" || name == "xfs that can't be mounted" { // its checker, or the mount, may have written
				table := l.tool("sfdisk", "--dump", l.disk)
				if said, exit := l.byHand("grow", l.disk); exit != 1 || l.tool("sfdisk", "--dump", l.disk) != table {
					t.Errorf("exit status %d, the table was\n%s\n%s", exit, table, said)
				} else {
					l.matches(said, c.want)
				}
				return
			}
			l.growFails(c.want)
		})
	}
	l := newMoveLab(t, 320)
	dir := t.TempDir()
	l.tool("mke2fs", "-q", "-F", "-t", "ext4", l.disk)
	l.enlarge(l.disk, 400)
	l.tool("mount", "-o", "loop", l.disk, dir)
	defer l.tool("umount", dir)
	if said, exit := l.byHand("grow", l.disk); exit != 1 || !strings.Contains(said, "is in use") {
		t.Errorf("a mounted disk: exit status %d\n%s", exit, said)
	}
}

func TestGrowOfAGuestThatWasNotShutDown(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.richGuest("gpt", fstype)
			l.dirty()
			l.enlarge(l.disk, 900)
			if fstype != "xfs" { // of which only a mount tells
				l.matches(l.grow("--dry-run"), "first its (journal|log) has to be replayed")
			}
			l.grow()
			l.fitsDisk(fstype)
			l.hasLate()
		})
	}
}

// TestGrowKeepsWhatOthersWroteIntoTheTable: flags that we never set.
func TestGrowKeepsWhatOthersWroteIntoTheTable(t *testing.T) {
	l := newMoveLab(t, 600)
	l.tool("sh", "-e", "-c", `printf 'label: gpt\nstart=4096, size=1000000, type=L, name="of a guest", attrs="RequiredPartition LegacyBIOSBootable GUID:59"\n' | sfdisk -q "$0"`, l.disk)
	l.tool("mke2fs", "-q", "-F", "-t", "ext4", "-E", "offset=2097152", l.disk, "400M")
	l.tool("sh", "-c", `printf '\200' | dd of="$0" bs=1 seek=446 conv=notrunc status=none`, l.disk)
	about := func() string {
		return l.tool("sh", "-e", "-c", `sfdisk --dump "$0" | grep start= | sed 's/size=[^,]*//'; od -An -tx1 -j446 -N8 "$0"`, l.disk)
	}
	before := about()
	l.enlarge(l.disk, 700)
	l.grow()
	l.fitsDisk("ext4")
	if now := about(); now != before {
		t.Errorf("the table had\n%s\nand has\n%s", before, now)
	}
}

// asBooted does what the guest's boot does: the checker that asks nothing, a mount.
// Then all of the tree must be there.
func (l *lab) asBooted(fstype string, facts []string) {
	l.Helper()
	l.free(l.disk)
	dev := l.root()
	if strings.HasPrefix(fstype, "ext") {
		out, err := exec.Command("e2fsck", "-p", dev).CombinedOutput()
		if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() >= 4) {
			l.Errorf("e2fsck -p: %v\n%s", err, out)
		}
	}
	l.tool("losetup", "-d", dev)
	l.change(func(string) {})
	sameManifest(l.T, facts, l.snapshot(without{}))
}

// grownBy kills grow at a moment, and reports whether it was still running.
func (l *lab) growKilled(moment <-chan time.Time, kill func(pid int)) bool {
	l.Helper()
	l.free(l.disk)
	cmd := l.byHandCommand("grow", l.disk)
	return l.killedCommand(cmd, moment, kill)
}

// TestGrowKilledAtRandomMoments: whatever is killed when, the guest boots as it did,
// and the next run completes the work. ext filesystems are only asked to end here,
// since a kernel that lets nobody resize them while they are mounted has
// resize2fs work on them unmounted, which can't be killed.
func TestGrowKilledAtRandomMoments(t *testing.T) {
	for _, c := range []struct {
		style, fstype string
		kills         []string
	}{
		{"gpt", "xfs", []string{"SIGKILL", "SIGKILL to the group", "SIGKILL to the inner process", "SIGTERM"}},
		{"msdos", "btrfs", []string{"SIGKILL", "SIGTERM to the group", "SIGKILL to the inner process"}},
		{"gpt", "ext4", []string{"SIGTERM", "SIGINT", "SIGTERM to the group"}},
	} {
		t.Run(c.style+"/"+c.fstype, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.richGuest(c.style, c.fstype)
			id, facts := l.identity(), l.snapshot(without{})
			whole := l.disk + ".whole"
			l.tool("cp", "--sparse=always", l.disk, whole)
			afresh := func() {
				l.free(l.disk)
				l.tool("cp", "--sparse=always", whole, l.disk)
				l.enlarge(l.disk, 2000)
			}
			took := time.Hour // of the fastest of three: the first may have to warm up
			for range 3 {
				afresh()
				start := time.Now()
				l.grow()
				took = min(took, time.Since(start))
			}
			killed := 0
			for i := range 24 {
				afresh()
				if l.growKilled(time.After(time.Duration(rand.Int64N(int64(took)))), kills[c.kills[i%len(c.kills)]]) {
					killed++
				}
				l.asBooted(c.fstype, facts)
				l.grow()
				l.fitsDisk(c.fstype)
				if now := l.identity(); now != id {
					t.Errorf("the disk was %+v and is %+v", id, now)
				}
				if t.Failed() {
					t.FailNow()
				}
			}
			if t.Logf("%d of 24 runs were killed", killed); killed < 8 {
				t.Errorf("only %d of 24 runs were killed", killed)
			}
		})
	}
}

// TestGrowKilledBetweenItsSteps has the kill come when the filesystem is being checked
// and nothing else done, and when the table is written but the filesystem not grown.
func TestGrowKilledBetweenItsSteps(t *testing.T) {
	slow := fmt.Sprintf("exec -a %s /bin/bash -c 'coproc read; wait'", mark()) // no other program is in its cell
	for name, fakes := range map[string]map[string]string{
		"before the table": {"e2fsck": slow},
		"after the table":  {"resize2fs": slow},
	} {
		for _, style := range []string{"msdos", "gpt"} {
			for _, fstype := range []string{"ext2", "ext4"} {
				t.Run(name+"/"+style+"/"+fstype, func(t *testing.T) {
					l := newMoveLab(t, 600)
					l.richGuest(style, fstype)
					facts := l.snapshot(without{})
					l.enlarge(l.disk, 900)
					for tool, script := range fakes {
						l.fake(tool, script)
					}
					if !l.growKilled(l.running(), kills["SIGKILL"]) {
						t.Fatal("grow ended before it was killed")
					}
					for tool := range fakes {
						must(t, os.Remove(l.fakes+"/"+tool))
					}
					if _, size := l.partition(1); (size > 700<<20) != (name == "after the table") {
						t.Errorf("the partition has %d MiB", size>>20)
					}
					l.asBooted(fstype, facts)
					l.matches(l.grow(), "its "+fstype+" from")
					l.fitsDisk(fstype)
					sameManifest(t, facts, l.snapshot(without{}))
				})
			}
		}
	}
}

func TestGrowRefusesWrongUsage(t *testing.T) {
	l := newMoveLab(t, 320)
	for _, args := range [][]string{{"grow"}, {"grow", l.disk, l.disk}, {"grow", l.disk, "--force"}, {"grow", "--force", l.disk}} {
		if out, exit := l.byHand(args...); exit != 2 {
			t.Errorf("%v: exit status %d\n%s", args, exit, out)
		}
	}
	if out, exit := l.byHand("grow", l.disk+"-missing"); exit != 1 || !strings.Contains(out, "no such file") {
		t.Errorf("a disk that isn't there: exit status %d\n%s", exit, out)
	}
	l.untouched()
}
