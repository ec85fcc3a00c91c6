//go:build root

package root

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

const sourceMiB = 600

var (
	allTypes  = []string{"ext2", "ext3", "ext4", "xfs", "btrfs"}
	allStyles = []string{"none", "msdos", "gpt"}
)

// richGuest creates an instance and fills it with the rich tree, a boot
// loader's configuration that names the root every way, and an fstab that an
// admin has worked on.
func (l *lab) richGuest(style, fstype string) {
	l.Helper()
	l.guest(style, fstype)
	delete(l.env, "OLD_INSTANCE_NAME")
	l.env["INSTANCE_NAME"] = "inst1.example"
	l.label(fstype, "the-root")
	id := l.identity()
	l.change(func(tree string) {
		richTree(l.T, tree)
		must(l, os.MkdirAll(tree+"/boot/grub", 0o755))
		must(l, os.WriteFile(tree+"/boot/grub/grub.cfg", []byte(fmt.Sprintf("search --no-floppy --fs-uuid --set=root %[1]s\nlinux /vmlinuz root=UUID=%[1]s ro\n# %[2]s %[3]s\n",
			id.uuid, id.partUUID, strings.ToUpper(id.uuid))), 0o600))
		f, err := os.OpenFile(tree+"/etc/fstab", os.O_APPEND|os.O_WRONLY, 0)
		must(l, err)
		defer f.Close()
		_, err = f.WriteString("# mine:\ttabs \r\nLABEL=the-data\t/data\text4\tnofail,x-systemd.device-timeout=1 0 2 # end")
		must(l, err)
	})
}

// onlyWhatDumpHas removes what dump 0.4b47 can't carry: names of 255 bytes come
// back as others, device numbers above 16 bits as 0, times are 32 bits without a
// sign, and of a folder's many attributes some are lost.
func (l *lab) onlyWhatDumpHas(tree string) {
	l.Helper()
	l.tool("sh", "-e", "-c", `export LC_ALL=C; cd "$0"; rm -rf special/*-large times/*0 times/*3 times/*8 xattrs/dir
		find names -depth -regextype posix-extended -regex '.*/[^/]{255}' -exec rm -rf {} +; touch -d @1000000000 . special times xattrs names`, tree)
}

// label names the root filesystem.
func (l *lab) label(fstype, label string) {
	l.Helper()
	dev := l.root()
	switch fstype {
	case "xfs":
		l.tool("xfs_admin", "-L", label, dev)
	case "btrfs":
		l.tool("btrfs", "filesystem", "label", dev, label)
	default:
		l.tool("e2label", dev, label)
	}
	l.tool("losetup", "-d", dev)
}

// identity is what names a disk and its root, by blkid and sfdisk.
type identity struct{ fstype, uuid, label, partUUID, diskID, table string }

func (l *lab) identity() (id identity) {
	l.Helper()
	dev := l.root()
	defer l.tool("losetup", "-d", dev)
	get := func(dev, tag string) string {
		return l.tool("sh", "-c", "blkid -p -s "+tag+" -o value "+dev+" || true")
	}
	id = identity{fstype: get(dev, "TYPE"), uuid: get(dev, "UUID"), label: get(dev, "LABEL"), table: l.table(), diskID: get(l.disk, "PTUUID")}
	if id.table == "gpt" {
		id.partUUID = strings.ToLower(l.tool("sfdisk", "--part-uuid", l.disk, "1"))
	} else if id.table == "dos" {
		id.partUUID = id.diskID + "-01"
	}
	return id
}

// snapshot is the manifest of the root.
func (l *lab) snapshot(lost without) (facts []string) {
	l.Helper()
	l.mounted(func(tree string) { facts = manifest(l.T, tree, lost) })
	return facts
}

// fillsDisk fails unless the root filesystem takes about all of the disk.
func (l *lab) fillsDisk() {
	l.Helper()
	st, err := os.Stat(l.disk)
	must(l, err)
	l.mounted(func(tree string) {
		var size int64
		fmt.Sscan(l.tool("findmnt", "-n", "-b", "-o", "SIZE", tree), &size)
		if size < st.Size()*3/4 {
			l.Errorf("the filesystem has %d of the disk's %d bytes", size, st.Size())
		}
	})
}

// Every filesystem with every style; formats and target sizes so that each two
// of the four meet.
func TestRoundTripOfARoot(t *testing.T) {
	for i, fstype := range allTypes {
		for j, style := range allStyles {
			format := []string{"tar", "image", "dump"}[(i+j)%3]
			if format == "dump" && !strings.HasPrefix(fstype, "ext") {
				format = "tar"
			}
			sizeMiB := []int64{sourceMiB, 900, 560}[(i+2*j)%3]
			t.Run(fmt.Sprintf("%s/%s/%s/%d", fstype, style, format, sizeMiB), func(t *testing.T) { roundTrip(t, fstype, style, format, sizeMiB) })
		}
	}
}

func roundTrip(t *testing.T, fstype, style, format string, sizeMiB int64) {
	l := newMoveLab(t, sourceMiB)
	l.richGuest(style, fstype)
	if format == "dump" {
		l.change(l.onlyWhatDumpHas)
	}
	lost := without{sockets: format == "tar" || sizeMiB < sourceMiB, dump: format == "dump"} // a smaller image goes through a tar
	id, before := l.identity(), l.snapshot(lost)
	l.env["EXPORT_FORMAT"] = format
	stream := l.export(0, l.disk)
	if format != "dump" {
		l.tool("tar", "-tf", stream)
		delete(l.env, "OSP_FILESYSTEM") // the stream says it
		delete(l.env, "OSP_PARTITION_STYLE")
	}
	l.target(sizeMiB)
	l.importFile(stream)
	now := l.identity()
	if format == "dump" { // which carries files, and what these name
		now.label, now.diskID, now.partUUID = id.label, id.diskID, id.partUUID
	}
	if now != id {
		t.Errorf("the disk was %+v and is %+v", id, now)
	}
	sameManifest(t, before, l.snapshot(lost))
	l.checkFilesystem(fstype)
	l.fillsDisk()
	if id.table != "" {
		l.tool("sfdisk", "--verify", l.disk)
	}
}

// TestFlagsOfGPTAreKept: a boot loader for BIOS can look for one of them, and
// systemd for others.
func TestFlagsOfGPTAreKept(t *testing.T) {
	for _, format := range []string{"tar", "image"} {
		l := newMoveLab(t, sourceMiB)
		l.guest("gpt", "ext4")
		l.tool("sgdisk", "--attributes=1:set:2", "--attributes=1:set:59", "--attributes=14:set:63", l.disk)
		flags := func() string {
			return l.tool("sh", "-c", "for n in 1 14 15; do sgdisk --attributes=$n:show "+l.disk+"; done")
		}
		before := flags()
		l.env["EXPORT_FORMAT"] = format
		stream := l.export(0, l.disk)
		l.target(610)
		l.importFile(stream)
		if now := flags(); now != before || !strings.Contains(now, "legacy BIOS bootable") {
			t.Errorf("%s: the flags were\n%s\nand are\n%s", format, before, now)
		}
	}
}

// TestImportWithNewIDs wants nothing of the old ids left where a boot looks.
func TestImportWithNewIDs(t *testing.T) {
	for _, c := range []struct{ fstype, style, format string }{
		{"ext4", "msdos", "tar"}, {"ext4", "gpt", "image"}, {"ext3", "none", "dump"}, {"ext2", "msdos", "image"},
		{"xfs", "gpt", "tar"}, {"xfs", "none", "image"}, {"btrfs", "msdos", "tar"}, {"btrfs", "gpt", "image"},
	} {
		t.Run(c.fstype+"/"+c.style+"/"+c.format, func(t *testing.T) {
			l := newMoveLab(t, sourceMiB)
			l.richGuest(c.style, c.fstype)
			l.change(l.onlyWhatDumpHas)
			id := l.identity()
			l.env["EXPORT_FORMAT"] = c.format
			stream := l.export(0, l.disk)
			l.write("default", "IMPORT_UUID=new\n", 0o644)
			l.target(sourceMiB)
			l.importFile(stream)
			now := l.identity()
			if now.uuid == id.uuid || id.diskID != "" && (now.diskID == id.diskID || now.partUUID == id.partUUID) || now.fstype != id.fstype || now.table != id.table {
				t.Errorf("the disk was %+v and is %+v", id, now)
			}
			l.checkFilesystem(c.fstype)
			l.mounted(func(tree string) { l.namesOnly(tree, id, now) })
		})
	}
}

// namesOnly fails when the guest's files name an old id, or don't name the new.
func (l *lab) namesOnly(tree string, old, now identity) {
	l.Helper()
	grub, err := os.ReadFile(tree + "/boot/grub/grub.cfg")
	must(l, err)
	fstab, err := os.ReadFile(tree + "/etc/fstab")
	must(l, err)
	for _, id := range []string{old.uuid, old.partUUID, old.diskID} {
		if id != "" && strings.Contains(strings.ToLower(string(grub)+string(fstab)), strings.ToLower(id)) {
			l.Errorf("the old id %s is left:\n%s\n%s", id, grub, fstab)
		}
	}
	if n := strings.Count(strings.ToLower(string(grub)), strings.ToLower(now.uuid)); n != 3 {
		l.Errorf("grub.cfg names the new id %s %d times, not 3:\n%s", now.uuid, n, grub)
	}
	if want := "UUID=" + now.uuid; !strings.Contains(string(fstab), want) || !strings.HasSuffix(string(fstab), "# mine:\ttabs \r\nLABEL=the-data\t/data\text4\tnofail,x-systemd.device-timeout=1 0 2 # end") {
		l.Errorf("fstab has no %s, or lost what the admin wrote:\n%q", want, fstab)
	}
	if st, err := os.Stat(tree + "/etc/fstab"); err != nil || st.Mode() != 0o644 {
		l.Errorf("/etc/fstab: mode %v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(tree + "/boot/grub/grub.cfg"); err != nil || st.Mode() != 0o600 {
		l.Errorf("/boot/grub/grub.cfg: mode %v, %v", st.Mode(), err)
	}
}

// TestMoveBetweenDevices: a guest sees 512-byte sectors whatever the node's disks have.
func TestMoveBetweenDevices(t *testing.T) {
	for _, c := range []struct{ from, to, style, format string }{
		{"512", "4096", "gpt", "tar"}, {"4096", "512", "gpt", "image"}, {"4096", "4096", "msdos", "tar"}, {"4096", "4096", "none", "image"},
	} {
		t.Run(c.from+"/"+c.to+"/"+c.style+"/"+c.format, func(t *testing.T) {
			l := newMoveLab(t, sourceMiB)
			l.richGuest(c.style, "ext4")
			lost := without{sockets: c.format == "tar"}
			id, before := l.identity(), l.snapshot(lost)
			on := func(sector string, do func(dev string)) {
				dev := l.tool("losetup", "--show", "-f", "-b", sector, l.disk)
				do(dev)
				l.tool("losetup", "-d", dev)
				l.clean(time.Second)
			}
			l.env["EXPORT_FORMAT"] = c.format
			var stream bytes.Buffer
			on(c.from, func(dev string) {
				if log, _, exit := l.exportTo(&stream, 0, dev); exit != 0 {
					t.Errorf("export: exit status %d\n%s", exit, log)
				}
			})
			l.target(610)
			on(c.to, func(dev string) {
				if f := l.feed(&stream, l.importing(0, dev)); f.exit != 0 || f.err != nil {
					t.Errorf("import: exit status %d, %v\n%s", f.exit, f.err, f.log)
				}
			})
			if now := l.identity(); now != id {
				t.Errorf("the disk was %+v and is %+v", id, now)
			}
			sameManifest(t, before, l.snapshot(lost))
			l.checkFilesystem("ext4")
			l.fillsDisk()
		})
	}
}

// TestANewDiskIsNotWiped, since it has nothing; one that has something is.
func TestANewDiskIsNotWiped(t *testing.T) {
	l := newMoveLab(t, sourceMiB)
	l.richGuest("gpt", "ext4")
	id, before := l.identity(), l.snapshot(without{sockets: true})
	for _, format := range []string{"image", "tar"} {
		l.env["EXPORT_FORMAT"] = format
		source := l.disk
		stream, err := os.ReadFile(l.export(0, source))
		must(t, err)
		l.fake("wipefs", "echo it is wiped >&2; exit 1")
		l.target(610)
		l.failedWith(l.feed(bytes.NewReader(stream), l.importing(0, l.disk)), "it is wiped")
		path := l.TempDir() + "/new-disk"
		must(t, os.WriteFile(path, nil, 0o600))
		must(t, os.Truncate(path, 610<<20))
		l.disks(path)
		if f := l.feed(bytes.NewReader(stream), l.importing(0, path)); f.exit != 0 {
			t.Errorf("%s: exit status %d\n%s", format, f.exit, f.log)
		}
		must(t, os.Remove(l.fakes+"/wipefs"))
		if now := l.identity(); now != id {
			t.Errorf("%s: the disk was %+v and is %+v", format, id, now)
		}
		sameManifest(t, before, l.snapshot(without{sockets: true}))
		l.checkFilesystem("ext4")
		l.tool("sfdisk", "--verify", path)
		l.disks(source)
	}
}

// TestAnImageLeavesNothingOfTheDisksEarlierData where the backup has nothing: neither
// in the journal, which a guest's kernel may replay, nor in the inode tables; on a
// device that can't discard.
func TestAnImageLeavesNothingOfTheDisksEarlierData(t *testing.T) {
	l := newMoveLab(t, sourceMiB)
	l.richGuest("none", "ext4")
	before := l.snapshot(without{})
	l.tool("sh", "-c", `: > "$0.whole" && cat "$0" > "$0.whole" && mv "$0.whole" "$0"`, l.disk) // no holes that tell
	stream := l.export(0, l.disk)
	if st, err := os.Stat(stream); err != nil || st.Size() > 12<<20 {
		t.Errorf("%v: the backup of an empty guest has %d bytes", err, st.Size())
	}
	target := l.TempDir() + "/target"
	l.tool("sh", "-c", `tr '\0' '\252' < /dev/zero | head -c 600M > "$0"`, target)
	l.disks(target)
	dev := l.tool("losetup", "--show", "-f", target)
	must(t, os.WriteFile("/sys/block/"+strings.TrimPrefix(dev, "/dev/")+"/queue/discard_max_bytes", []byte("0"), 0))
	f, err := os.Open(stream)
	must(t, err)
	defer f.Close()
	if f := l.feed(f, l.importing(0, dev)); f.exit != 0 {
		t.Errorf("import: exit status %d\n%s", f.exit, f.log)
	}
	l.tool("losetup", "-d", dev)
	l.clean(time.Second)
	sameManifest(t, before, l.snapshot(without{}))
	l.checkFilesystem("ext4")
	old := bytes.Repeat([]byte{0xaa}, 512)
	journal := l.TempDir() + "/journal"
	l.tool("debugfs", "-R", "dump <8> "+journal, target)
	content, err := os.ReadFile(journal)
	must(t, err)
	if len(content) < 1<<20 || bytes.Contains(content, old) {
		t.Errorf("the journal of %d bytes has the disk's earlier data", len(content))
	}
	disk, err := os.Open(target)
	must(t, err)
	defer disk.Close()
	for _, m := range regexp.MustCompile(`Inode table at (\d+)-(\d+)`).FindAllStringSubmatch(l.tool("dumpe2fs", target), -1) {
		var first, last int64
		fmt.Sscan(m[1]+" "+m[2], &first, &last)
		table := make([]byte, (last-first+1)*4096)
		_, err := disk.ReadAt(table, first*4096)
		must(t, err)
		if bytes.Contains(table, old) {
			t.Errorf("the inodes at block %d have the disk's earlier data", first)
		}
	}
}
