//go:build root

package root

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// dataDisk makes the instance's second disk with mkfs's own defaults, on all of
// it or in a partition, and makes it the disk that the lab looks at.
func (l *lab) dataDisk(fstype string, partitioned bool) {
	l.Helper()
	l.disks(l.disk, l.blankDisk("data-disk", 320))
	l.disk = l.env["DISK_1_PATH"]
	if partitioned {
		l.tool("sh", "-c", "echo 2048,,L | sfdisk -q "+l.disk)
	}
	dev := l.root()
	mkfs := []string{"mkfs." + fstype, "-q", "-L", "the-data"}
	if strings.HasPrefix(fstype, "ext") {
		mkfs = append(mkfs, "-b", "4096")
	}
	l.tool(append(mkfs, dev)...)
	l.tool("losetup", "-d", dev)
}

func TestRoundTripOfADataDisk(t *testing.T) {
	for i, c := range []struct {
		fstype, format string
		targetMiB      int64
	}{
		{"ext2", "tar", 310}, {"ext3", "dump", 400}, {"ext4", "tar", 320}, {"ext4", "image", 400},
		{"xfs", "image", 400}, {"xfs", "tar", 310}, {"btrfs", "tar", 400}, {"btrfs", "image", 320},
	} {
		partitioned := i%2 == 1
		t.Run(fmt.Sprintf("%s/%s/%d/%v", c.fstype, c.format, c.targetMiB, partitioned), func(t *testing.T) {
			l := newMoveLab(t, 600)
			root := l.disk
			l.dataDisk(c.fstype, partitioned)
			l.change(func(tree string) { richTree(t, tree) })
			if c.format == "dump" {
				l.change(l.onlyWhatDumpHas)
			}
			lost := without{sockets: c.format == "tar", dump: c.format == "dump"}
			id, before := l.identity(), l.snapshot(lost)
			l.env["EXPORT_FORMAT"] = c.format
			stream := l.export(1, l.disk)
			if partitioned && c.format == "dump" {
				l.env["OSP_PARTITION_STYLE"] = "msdos"
			}
			l.env["OSP_FILESYSTEM"] = "ext4"
			if c.format == "dump" {
				l.env["OSP_FILESYSTEM"] = c.fstype
			}
			l.disks(root, l.usedDisk(c.targetMiB))
			l.disk = l.env["DISK_1_PATH"]
			f, err := os.Open(stream)
			must(t, err)
			defer f.Close()
			l.imports(f, 1, l.disk)
			now := l.identity()
			if c.format == "dump" { // which names nothing of a disk without an fstab
				now = identity{fstype: now.fstype}
				id = identity{fstype: id.fstype}
			}
			if now != id {
				t.Errorf("the disk was %+v and is %+v", id, now)
			}
			sameManifest(t, before, l.snapshot(lost))
			l.checkFilesystem(c.fstype)
			l.fillsDisk()
		})
	}
}

// unknownLayouts are disks that can only be taken as they are. Each script has
// the disk, of 64 MiB, in $disk.
var unknownLayouts = map[string]string{
	"blank":           ":",
	"two partitions":  `printf ',20M,L\n,,L\n' | sfdisk -q $disk; mke2fs -q -F -E offset=1048576 $disk 16M; mke2fs -q -F -E offset=22020096 $disk 16M`,
	"two gpt ones":    `printf 'label: gpt\n,20M,L\n,,L\n' | sfdisk -q $disk; mke2fs -q -F -E offset=1048576 $disk 16M`,
	"logical ones":    `printf ',20M,L\n,,E\n,10M,L\n,,S\n' | sfdisk -q $disk`,
	"LVM":             `dev=$(losetup --show -f $disk); pvcreate -qq -ff -y $dev; losetup -d $dev`,
	"vfat":            `mkfs.vfat $disk`,
	"random bytes":    `head -c 8000000 /dev/urandom | dd of=$disk bs=1M seek=5 conv=notrunc; printf x | dd of=$disk bs=1 seek=67108863 conv=notrunc; printf y | dd of=$disk bs=1 conv=notrunc`,
	"boot code alone": `printf '\353\143\220GRUB' | dd of=$disk conv=notrunc; printf '\125\252' | dd of=$disk bs=1 seek=510 conv=notrunc`,
	"a table alone":   `echo ,,L | sfdisk -q $disk`,
	"swap in a table": `echo ,,S | sfdisk -q $disk; truncate -s 62M $disk.swap; mkswap -q $disk.swap; dd if=$disk.swap of=$disk bs=1M seek=1 conv=notrunc,sparse`,
}

func TestRoundTripOfUnknownLayouts(t *testing.T) {
	for name, script := range unknownLayouts {
		t.Run(name, func(t *testing.T) {
			l := newMoveLab(t, 64)
			l.tool("sh", "-e", "-c", "disk="+l.disk+"; "+script)
			source := l.disk
			l.env["EXPORT_FORMAT"] = "image"
			image := l.export(0, source)
			l.env["EXPORT_FORMAT"] = "tar"
			stream := l.export(0, source)
			if st, err := os.Stat(stream); err != nil || st.Size() == 0 || st.Size() > 12<<20 {
				t.Errorf("the stream of a sparse disk has %d bytes, %v", st.Size(), err)
			}
			for _, c := range []struct {
				stream string
				mib    int64
			}{{stream, 64}, {stream, 80}, {image, 64}} {
				l.disks(l.usedDisk(c.mib))
				l.importFile(c.stream)
				l.tool("cmp", "-n", fmt.Sprint(64<<20), source, l.disk)
				l.tool("cmp", "-n", fmt.Sprint((c.mib-64)<<20), "-i", "64MiB:0", l.disk, "/dev/zero")
			}
			if name == "blank" {
				return
			}
			l.disks(l.usedDisk(63))
			before := sumOf(t, l.disk)
			f, err := os.Open(stream)
			must(t, err)
			defer f.Close()
			l.failedWith(l.feed(f, l.importing(0, l.disk)), "63 MiB")
			if sumOf(t, l.disk) != before {
				t.Error("the disk that is too small was changed")
			}
		})
	}
}

func TestARawImageThatHoldsNoFilesystemOfOursKeepsItsTableAsItIs(t *testing.T) {
	for name, fill := range map[string]string{
		"nothing": "true",
		"swap":    "truncate -s 32M $disk.swap && mkswap -q $disk.swap && dd if=$disk.swap of=$disk bs=1M seek=1 conv=notrunc status=none",
	} {
		for _, label := range []string{"dos", "gpt"} {
			t.Run(name+"/"+label, func(t *testing.T) {
				l := newMoveLab(t, 64)
				image := l.disk
				l.tool("sh", "-e", "-c", "disk="+image+"; printf 'label: "+label+"\n2048,65536,L\n' | sfdisk -q $disk; "+fill)
				for _, uuids := range []string{"keep", "new"} {
					l.env["OSP_IMPORT_UUID"] = uuids
					l.disks(l.usedDisk(80))
					l.matches(l.importFile(image), "the image is left as it is: it holds "+name)
					l.tool("cmp", "-n", fmt.Sprint(64<<20), image, l.disk)
				}
			})
		}
	}
}

func TestRoundTripOfSwap(t *testing.T) {
	for _, mib := range []int64{64, 128, 32} {
		t.Run(fmt.Sprint(mib), func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.disks(l.disk, l.blankDisk("swap-disk", 64))
			swap := l.env["DISK_1_PATH"]
			l.tool("mkswap", "-q", "-L", "the-swap", swap)
			l.tool("sh", "-c", "printf 'a secret of the guest' | dd of="+swap+" bs=1M seek=1 conv=notrunc")
			about := func(path string) string {
				return l.tool("blkid", "-p", "-s", "UUID", "-s", "LABEL", "-s", "TYPE", "-o", "export", path)
			}
			before := strings.ReplaceAll(about(swap), swap, "")
			stream := l.export(1, swap)
			if st, err := os.Stat(stream); err != nil || st.Size() > 64<<10 {
				t.Errorf("the stream of a swap disk has %d bytes, %v", st.Size(), err)
			}
			if b, err := os.ReadFile(stream); err != nil || bytes.Contains(b, []byte("secret")) {
				t.Errorf("what the guest swapped out is in the stream, %v", err)
			}
			target := l.usedDisk(mib)
			l.disks(l.disk, target)
			f, err := os.Open(stream)
			must(t, err)
			defer f.Close()
			l.imports(f, 1, target)
			if now := strings.ReplaceAll(about(target), target, ""); now != before {
				t.Errorf("swap was\n%s\nand is\n%s", before, now)
			}
			if pages := fmt.Sprintf("size %d pages", mib*256-1); !strings.Contains(l.tool("file", target), pages) {
				t.Errorf("file says %s, without %s", l.tool("file", target), pages)
			}
		})
	}
}

// TestSubvolumesAreNotLost: a tar of one filesystem would leave them out.
func TestSubvolumesAreNotLost(t *testing.T) {
	for _, format := range []string{"tar", "image"} {
		t.Run(format, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.guest("msdos", "btrfs")
			l.change(func(tree string) {
				l.tool("btrfs", "-q", "subvolume", "create", tree+"/home")
				must(t, os.WriteFile(tree+"/home/file", []byte("mine"), 0o600))
				l.tool("btrfs", "-q", "subvolume", "snapshot", "-r", tree+"/home", tree+"/snapshot")
			})
			l.env["EXPORT_FORMAT"] = format
			stream := l.export(0, l.disk)
			l.target(600)
			l.importFile(stream)
			l.mounted(func(tree string) {
				if got := l.tool("cat", tree+"/home/file", tree+"/snapshot/file"); got != "minemine" {
					t.Errorf("the subvolumes have %q", got)
				}
			})
			l.checkFilesystem("btrfs")
		})
	}
}

// TestOneFilesystemOnTwoDisks: btrfs can't be mounted from either of them.
func TestOneFilesystemOnTwoDisks(t *testing.T) {
	for _, format := range []string{"tar", "image", "raw"} {
		t.Run(format, func(t *testing.T) {
			l := newMoveLab(t, 300)
			source := []string{l.disk, l.blankDisk("other-disk", 300)}
			l.tool("mkfs.btrfs", "-q", "-f", "-m", "raid1", source[0], source[1])
			streams := slices.Clone(source)
			if l.disks(source...); format != "raw" {
				l.env["EXPORT_FORMAT"] = format
				streams = []string{l.export(0, source[0]), l.export(1, source[1])}
			}
			l.env["OSP_IMPORT_UUID"] = []string{"keep", "new"}[len(format)%2]
			target := []string{l.usedDisk(300), l.usedDisk(310)}
			l.disks(target...)
			for i, stream := range streams {
				f, err := os.Open(stream)
				must(t, err)
				defer f.Close()
				l.imports(f, i, target[i])
				l.tool("cmp", "-n", fmt.Sprint(300<<20), source[i], target[i])
			}
		})
	}
}

// TestAllDisksAtOnce is what Ganeti does: each disk's script beside the others'.
func TestAllDisksAtOnce(t *testing.T) {
	for _, ids := range []string{"keep", "new"} {
		t.Run(ids, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.tinyTree()
			l.disks(l.disk, l.blankDisk("swap", 64), l.blankDisk("data", 100), l.blankDisk("blank", 10))
			l.env["DISK_1_NAME"] = "swap"
			l.create()
			root := l.disk
			l.disk = l.env["DISK_2_PATH"]
			l.tool("mke2fs", "-q", "-F", "-t", "ext4", l.disk)
			data := l.identity().uuid
			l.change(func(tree string) { must(t, os.WriteFile(tree+"/data", []byte("data"), 0o600)) })
			l.disk = root
			l.change(func(tree string) {
				f, err := os.OpenFile(tree+"/etc/fstab", os.O_APPEND|os.O_WRONLY, 0)
				must(t, err)
				defer f.Close()
				_, err = fmt.Fprintf(f, "UUID=%s /data ext4 noatime 0 2\n", data)
				must(t, err)
			})
			var source []string
			streams := make([]bytes.Buffer, 4)
			for i := range streams {
				source = append(source, l.env[fmt.Sprintf("DISK_%d_PATH", i)])
			}
			l.atOnce(func(i int) *exec.Cmd {
				cmd, told := l.exporting(i, source[i])
				t.Cleanup(func() { told() })
				cmd.Stdout = &streams[i]
				return cmd
			})
			l.disks(l.usedDisk(600), l.usedDisk(64), l.usedDisk(100), l.usedDisk(10))
			l.env["IMPORT_UUID"] = ids
			l.atOnce(func(i int) *exec.Cmd {
				cmd := l.importing(i, l.env[fmt.Sprintf("DISK_%d_PATH", i)])
				cmd.Stdin = io.Reader(&streams[i])
				return cmd
			})
			l.consistent(source, ids == "new")
			l.env["OLD_INSTANCE_NAME"] = l.env["INSTANCE_NAME"]
			if log, exit := l.run("rename"); exit != 0 {
				t.Errorf("rename: exit status %d\n%s", exit, log)
			}
		})
	}
}

// atOnce runs the four commands beside each other; all must succeed.
func (l *lab) atOnce(command func(i int) *exec.Cmd) {
	l.Helper()
	var all sync.WaitGroup
	said := make([]bytes.Buffer, 4)
	failed := make([]error, 4)
	for i := range 4 {
		cmd := command(i)
		cmd.Stderr = &said[i]
		all.Go(func() { failed[i] = cmd.Run() })
	}
	all.Wait()
	for i := range 4 {
		if failed[i] != nil {
			l.Errorf("disk %d: %v\n%s", i, failed[i], said[i].String())
		}
	}
	l.clean(0)
	if l.Failed() {
		l.FailNow()
	}
}

// consistent checks that the root's fstab names what the other disks are.
func (l *lab) consistent(source []string, fresh bool) {
	l.Helper()
	uuid := func(disk string) string {
		was := l.disk
		defer func() { l.disk = was }()
		l.disk = disk
		return l.identity().uuid
	}
	var want []string
	for i := range 3 {
		now := uuid(l.env[fmt.Sprintf("DISK_%d_PATH", i)])
		want = append(want, "UUID="+now)
		if now == "" || (now == uuid(source[i])) == fresh {
			l.Errorf("disk %d had UUID %s and has %s", i, uuid(source[i]), now)
		}
	}
	l.mounted(func(tree string) {
		got := strings.Fields(l.tool("findmnt", "--tab-file", tree+"/etc/fstab", "-n", "-l", "-o", "SOURCE"))
		got = slices.DeleteFunc(got, func(s string) bool { return s == "proc" })
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			l.Errorf("fstab names %q, the disks are %q", got, want)
		}
	})
	l.tool("cmp", "-n", fmt.Sprint(10<<20), l.env["DISK_3_PATH"], "/dev/zero")
}
