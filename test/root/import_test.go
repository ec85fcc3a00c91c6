//go:build root

package root

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// streamsOf makes a stream of every kind that import takes, by the shell where
// the kind isn't ours. tree is where the root is mounted, dev its device.
var streamsOf = map[string]string{
	"tar.gz":       `tar --create --format=posix --xattrs --xattrs-include='*' --numeric-owner --sparse -C $tree . | gzip -1`,
	"tar.zst":      `tar --create --format=posix --xattrs --xattrs-include='*' --numeric-owner --sparse -C $tree . | zstd -q`,
	"tar":          `tar --create --format=posix --xattrs --xattrs-include='*' --numeric-owner --sparse -C $tree .`,
	"tar of names": `cd $tree; ls -A | tar --create --format=posix --xattrs --xattrs-include='*' --numeric-owner --sparse -T -`, // no "./"
	"tar.xz":       `tar --create --format=posix --xattrs --xattrs-include='*' --numeric-owner --sparse -C $tree . | xz -9e -T0`,
	"tar.lz4":      `tar --create --format=posix --xattrs --xattrs-include='*' --numeric-owner --sparse -C $tree . | lz4 -c`,
	"dump.bz2":     `dump -0 -q -f - $dev | bzip2 -1`,
	"raw":          `cat $disk`,
	"raw.gz":       `gzip -1 < $disk`,
	"raw.zst":      `zstd -q < $disk`,
	"dump":         `dump -0 -q -f - $dev`,
	"dump.gz":      `dump -0 -q -f - $dev | gzip -1`,
	"ours.gz":      `gzip -1 < $ours`,
	"ours.zst":     `zstd -q < $ours`,
	"image.zst":    `zstd -q < $image`,
}

// madeStreams gives the files of the streams, by kind.
func (l *lab) madeStreams(kinds ...string) map[string]string {
	l.Helper()
	made := map[string]string{}
	l.env["EXPORT_FORMAT"] = "image"
	made["image"] = l.export(0, l.disk)
	l.env["EXPORT_FORMAT"] = "tar"
	made["ours"] = l.export(0, l.disk)
	dev, dir := l.root(), l.TempDir()
	l.tool("mount", "-o", "ro", dev, dir)
	defer func() { l.tool("umount", dir); l.tool("losetup", "-d", dev) }()
	for _, kind := range kinds {
		made[kind] = filepath.Join(l.TempDir(), "stream")
		l.tool("bash", "-e", "-o", "pipefail", "-c", fmt.Sprintf("tree=%s dev=%s disk=%s ours=%s image=%s; (%s) > %s", dir, dev, l.disk, made["ours"], made["image"], streamsOf[kind], made[kind]))
	}
	return made
}

func TestImportOfEveryKindOfStream(t *testing.T) {
	l := newMoveLab(t, 600)
	l.richGuest("msdos", "ext4")
	id := l.identity()
	facts := map[without][]string{}
	l.change(l.onlyWhatDumpHas)
	for _, lost := range []without{{}, {sockets: true}, {dump: true}} {
		facts[lost] = l.snapshot(lost)
	}
	kinds := []string{}
	for kind := range streamsOf {
		kinds = append(kinds, kind)
	}
	for kind, stream := range l.madeStreams(kinds...) {
		t.Run(kind, func(t *testing.T) {
			defer l.within(t)()
			l.target(610)
			l.importFile(stream)
			lost := without{sockets: strings.HasPrefix(kind, "tar") || strings.HasPrefix(kind, "ours"), dump: strings.HasPrefix(kind, "dump")}
			now := l.identity()
			if strings.HasPrefix(kind, "tar") || strings.HasPrefix(kind, "dump") { // files, and what these name
				now.label, now.diskID, now.partUUID = id.label, id.diskID, id.partUUID
			}
			if now != id {
				t.Errorf("the disk was %+v and is %+v", id, now)
			}
			after := l.snapshot(lost)
			if kind == "tar of names" { // which has nothing of the root itself
				after = notOfTheTop(after)
				sameManifest(t, notOfTheTop(facts[lost]), after)
			} else {
				sameManifest(t, facts[lost], after)
			}
			l.checkFilesystem("ext4")
			l.fillsDisk()
		})
	}
}

// TestImportOfOldTars: of formats that hold less, what they hold.
func TestImportOfOldTars(t *testing.T) {
	for _, format := range []string{"v7", "oldgnu", "gnu", "ustar", "posix"} {
		l := newMoveLab(t, 600)
		l.tinyTree()
		dir, stream := t.TempDir(), filepath.Join(t.TempDir(), "tar")
		l.tool("tar", "-xf", l.tar(), "-C", dir)
		l.tool("sh", "-e", "-c", "cd "+dir+"; ln -s ../etc usr/link; ln etc/passwd usr/hard; ln -s "+strings.Repeat("l", 90)+" usr/long; truncate -s 1M usr/hole")
		l.tool("tar", "-c", "-f", stream, "--format="+format, "--owner=1000", "--group=2000", "-C", dir, ".")
		l.target(600)
		l.importFile(stream)
		l.mounted(func(tree string) {
			l.tool("diff", "-r", "--no-dereference", "-x", "lost+found", dir, tree)
			if got := l.tool("stat", "-c", "%u:%g %h", tree+"/usr/hard"); got != "1000:2000 2" {
				t.Errorf("%s: /usr/hard is %s", format, got)
			}
		})
		l.checkFilesystem("ext4")
	}
}

func notOfTheTop(facts []string) (out []string) {
	for _, fact := range facts {
		if !strings.HasPrefix(fact, `inode ""`) {
			out = append(out, fact)
		}
	}
	return out
}

// damage is a way to break a stream.
type damage struct {
	name string
	of   func(stream []byte) []byte
}

func cut(at func(n int) int) func([]byte) []byte {
	return func(b []byte) []byte { return b[:max(0, min(len(b)-1, at(len(b))))] }
}

func flip(at func(n int) int) func([]byte) []byte {
	return func(b []byte) []byte {
		b = bytes.Clone(b)
		b[at(len(b))] ^= 0x10
		return b
	}
}

// TestDamagedStreams: whatever is wrong with it, the disk is no instance after.
func TestDamagedStreams(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	delete(l.env, "OLD_INSTANCE_NAME")
	l.change(func(tree string) { l.tool("sh", "-c", "head -c 3000000 /dev/urandom > "+tree+"/data") })
	everywhere := []damage{
		{"cut in the middle", cut(func(n int) int { return n/2 + 7 })}, {"cut at a block", cut(func(n int) int { return n / 1024 * 512 })},
		{"cut by a byte", cut(func(n int) int { return n - 1 })}, {"cut after 700", cut(func(int) int { return 700 })},
		{"cut after 100", cut(func(int) int { return 100 })}, {"cut by 3000", cut(func(n int) int { return n - 3000 })},
	}
	ours := append(everywhere[:len(everywhere):len(everywhere)],
		damage{"cut by 512", cut(func(n int) int { return n - 512 })}, damage{"cut by the end", cut(func(n int) int { return n - 1024 })}, damage{"cut by the digest", cut(func(n int) int { return n - 2048 })},
		damage{"a bit in the manifest", flip(func(int) int { return 520 })}, damage{"a bit in the middle", flip(func(n int) int { return n / 2 })},
		damage{"a bit in the digest", flip(func(n int) int { return n - 1500 })}, damage{"a bit in the end", flip(func(n int) int { return n - 5 })},
		damage{"rubbish behind", func(b []byte) []byte { return append(b, "rubbish"...) }}, damage{"twice", func(b []byte) []byte { return append(b, b...) }},
	)
	compressed := append(everywhere[:len(everywhere):len(everywhere)], damage{"a bit in the middle", flip(func(n int) int { return n / 2 })}, damage{"a bit at the end", flip(func(n int) int { return n - 2 })})
	all := map[string][]damage{"ours": ours, "image": ours, "tar": everywhere, "tar.gz": compressed, "ours.zst": compressed, "dump": everywhere, "raw.zst": compressed, "raw": everywhere[:2]}
	for kind, stream := range l.madeStreams("tar", "tar.gz", "ours.zst", "dump", "raw.zst", "raw") {
		b, err := os.ReadFile(stream)
		must(t, err)
		for _, d := range all[kind] {
			if kind == "tar" && d.name == "cut by a byte" || kind == "tar" && d.name == "cut by 3000" {
				continue // within the zeros that GNU tar pads its last record with
			}
			t.Run(kind+"/"+d.name, func(t *testing.T) {
				defer l.within(t)()
				l.target(600)
				l.importFails(bytes.NewReader(d.of(b)), "(?i)cut|truncat|ends|incomplete|damage|digest|sha-?256|corrupt|checksum|manifest|backup|unexpected")
			})
		}
	}
}

// TestRestoreThatComplainsForEverIsEnded, as restore(8) does after a dump that is
// cut off at some places.
func TestRestoreThatComplainsForEverIsEnded(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	delete(l.env, "OLD_INSTANCE_NAME")
	b, err := os.ReadFile(l.madeStreams("dump")["dump"])
	must(t, err)
	l.fake("restore", `trap '' TERM
while :; do echo "unexpected inode extension 31688"; done`)
	l.target(600)
	l.importFails(bytes.NewReader(b), "damaged or incomplete, copy it anew: unexpected inode extension 31688; .*$")
}

// TestAnImportThatIsInterruptedIsNotTakenForADamagedBackup: restore complains of the signal, too.
func TestAnImportThatIsInterruptedIsNotTakenForADamagedBackup(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("none", "ext4")
	delete(l.env, "OLD_INSTANCE_NAME")
	b, err := os.ReadFile(l.madeStreams("dump")["dump"])
	must(t, err)
	// It takes the signal for that of the import's process, which is its cell's first.
	l.fake("restore", `[ $# -gt 0 ] || exit 1
trap 'echo "restore interrupted, continue? [yn]"; exit 1' TERM
while :; do :; done`)
	l.target(600)
	cmd := l.importing(0, l.disk)
	go func() {
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			if exec.Command("pgrep", "-f", l.fakes+"/restore -r|/usr/local/sbin/restore -r").Run() == nil {
				time.Sleep(300 * time.Millisecond)
				syscall.Kill(cmd.Process.Pid, syscall.SIGTERM)
				return
			}
		}
	}()
	f := l.feed(bytes.NewReader(b), cmd)
	if last := f.last(); !strings.Contains(last, "interrupted by SIGTERM") || strings.Contains(last, "damaged") {
		t.Errorf("%s\nthe last line is %q", f.log, last)
	}
}

// TestFailedImportLeavesNoFilesystemInAPartition, wherever that begins, whose table is gone.
func TestFailedImportLeavesNoFilesystemInAPartition(t *testing.T) {
	for _, c := range []struct{ style, fstype, alignment, start string }{
		{"msdos", "btrfs", "2048", "1048576"}, {"gpt", "btrfs", "2048", "67108864"}, {"gpt", "ext4", "2048", "67108864"}, {"msdos", "ext4", "10240", "5242880"},
	} {
		l := newMoveLab(t, 600)
		l.guest(c.style, c.fstype)
		stream := l.madeStreams("tar")["tar"]
		b, err := os.ReadFile(stream)
		must(t, err)
		l.write("default", "PARTITION_ALIGNMENT="+c.alignment+"\n", 0o644)
		l.target(600)
		f := l.importFails(bytes.NewReader(b[:len(b)/2+7]), "cut off")
		if out, err := exec.Command("blkid", "-p", "-O", c.start, l.disk).CombinedOutput(); err == nil || len(out) > 0 {
			t.Errorf("%+v: blkid finds %s %v; import said\n%s", c, out, err, f.log)
		}
	}
}

// TestRawImageOfAFilesystemThatIsCutOff: no table says where it ends, and e2fsck
// doesn't miss what files hold.
func TestRawImageOfAFilesystemThatIsCutOff(t *testing.T) {
	for _, fstype := range []string{"ext2", "ext4", "xfs", "btrfs"} {
		l := newMoveLab(t, 600)
		l.guest("none", fstype)
		b, err := os.ReadFile(l.disk)
		must(t, err)
		for _, missing := range []int{4096, 40 << 20} {
			l.target(700)
			l.importFails(bytes.NewReader(b[:len(b)-missing]), "the image is cut off: it has .* its "+fstype)
		}
	}
}

// TestDamagedFilesystemsInImagesAreSeenBeforeTheMount: the stream is as whole as
// can be, and what it holds isn't.
func TestDamagedFilesystemsInImagesAreSeenBeforeTheMount(t *testing.T) {
	for fstype, c := range map[string]struct{ damage, want string }{
		"ext4":  {"debugfs -w -R 'clri <2>' $disk", "e2fsck"},
		"xfs":   {"xfs_db -x -c 'agf 1' -c 'write -d freeblks 77777' $disk", "xfs_repair finds it damaged"},
		"btrfs": {"dd if=/dev/zero of=$disk bs=4096 conv=notrunc count=4 seek=$(($(btrfs-map-logical -l $(btrfs inspect-internal dump-tree -t 5 $disk | sed -n 's/^leaf \\([0-9]*\\) .*/\\1/p' | head -n1) $disk | sed -n 's/^mirror 1 .* physical \\([0-9]*\\) .*/\\1/p') / 4096))", "btrfs finds it damaged"},
	} {
		t.Run(fstype, func(t *testing.T) {
			l := newMoveLab(t, 600)
			if l.guest("none", fstype); fstype == "btrfs" {
				l.tool("mkfs.btrfs", "-q", "-f", "-m", "single", l.disk)
			}
			l.tool("bash", "-e", "-c", "disk="+l.disk+"; "+c.damage)
			b, err := os.ReadFile(l.disk)
			must(t, err)
			l.target(610)
			l.importFails(bytes.NewReader(b), c.want)
		})
	}
}

func TestNoBackupAtAll(t *testing.T) {
	for name, c := range map[string]struct{ stream, want string }{
		"empty":          {"", "empty|no bytes|nothing"},
		"one byte":       {"x", "backup"},
		"text":           {strings.Repeat("this is no backup\n", 10000), "backup"},
		"zeros":          {strings.Repeat("\x00", 1<<20), "backup"},
		"an error page":  {"<html><body>502 Bad Gateway</body></html>\n", "backup"},
		"an empty gzip":  {"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00", "empty|no bytes|nothing|backup"},
		"gzip of gzip":   {gzipped(gzipped(strings.Repeat("text", 1000))), "backup|twice|gzip"},
		"a gzip's start": {"\x1f\x8b\x08", "gzip"},
		"a zstd's start": {"\x28\xb5\x2f\xfd", "zstd"},
		"half a header":  {".instance-debootstrap/manifest.json", "backup"},
		"no xz":          {"\xfd7zXZ\x00" + strings.Repeat("x", 5000), "backup"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.target(600)
			f := l.importFails(strings.NewReader(c.stream), "(?i)"+c.want)
			if len(f.last()) > 600 {
				t.Errorf("the reason has %d characters: %s", len(f.last()), f.last())
			}
		})
	}
}

// foreignImages makes what is no backup with the tools that make it.
var foreignImages = map[string]struct{ script, want string }{
	"qcow2":         {"qemu-img create -q -f qcow2 f 10M", "a qcow2 image.*qemu-img convert -O raw"},
	"vmdk":          {"qemu-img create -q -f vmdk f 10M", "a VMDK image.*qemu-img convert -O raw"},
	"a vmdk's text": {"qemu-img create -q -f vmdk -o subformat=monolithicFlat f 10M", "a VMDK's descriptor.*qemu-img convert -O raw"},
	"vdi":           {"qemu-img create -q -f vdi f 10M", "a VDI image.*qemu-img convert -O raw"},
	"vhd":           {"qemu-img create -q -f vpc f 10M", "a VHD image.*qemu-img convert -O raw"},
	"vhdx":          {"qemu-img create -q -f vhdx f 10M", "a VHDX image.*qemu-img convert -O raw"},
	"qcow2, by xz":  {"qemu-img create -q -f qcow2 f 10M; xz f; mv f.xz f", "a qcow2 image"},
	"zip":           {"echo x >x; python3 -m zipfile -c f x", "a zip archive.*unzip -p"},
	"iso":           {"truncate -s 1M f; printf CD001 | dd of=f bs=1 seek=32769 conv=notrunc status=none; printf '\\125\\252' | dd of=f bs=1 seek=510 conv=notrunc status=none", "an ISO image.*cdrom_image_path"},
}

func TestAnImageOfAnotherKindIsCalledByItsNameAndTheDiskIsUntouched(t *testing.T) {
	for name, c := range foreignImages {
		t.Run(name, func(t *testing.T) {
			l := newMoveLab(t, 600)
			dir := t.TempDir()
			l.tool("sh", "-e", "-c", "cd "+dir+"; "+c.script)
			b, err := os.ReadFile(dir + "/f")
			must(t, err)
			l.target(600)
			l.importFails(bytes.NewReader(b), c.want)
		})
	}
}

func gzipped(s string) string {
	cmd := exec.Command("gzip", "-c")
	cmd.Stdin = strings.NewReader(s)
	out, err := cmd.Output()
	if err != nil {
		panic(err)
	}
	return string(out)
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// late sleeps before the end of the stream.
type late struct{ pause time.Duration }

func (s late) Read([]byte) (int, error) { time.Sleep(s.pause); return 0, io.EOF }

func TestStdinIsReadToItsEnd(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	for kind, stream := range l.madeStreams("tar", "tar.gz", "dump") {
		b, err := os.ReadFile(stream)
		must(t, err)
		l.target(600)
		tail := io.LimitReader(zeros{}, 64<<20)
		if kind == "tar.gz" || kind == "dump" {
			tail = strings.NewReader("")
		}
		start := time.Now()
		l.imports(io.MultiReader(bytes.NewReader(b), tail, late{time.Second}), 0, l.disk)
		if time.Since(start) < time.Second {
			t.Errorf("%s: import ended before the stream did", kind)
		}
	}
}

func TestStdinIsDrainedAfterAFailure(t *testing.T) {
	for name, c := range map[string]struct {
		rest   io.Reader
		toEnd  bool
		atMost time.Duration
	}{
		"a rest that ends":    {io.LimitReader(zeros{}, 300<<20), true, 6 * time.Second},
		"a rest without end":  {zeros{}, false, 6 * time.Second},
		"a writer that hangs": {late{7 * time.Second}, true, 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			l := newMoveLab(t, 600)
			f := l.feed(io.MultiReader(strings.NewReader(strings.Repeat("no backup ", 20000)), c.rest), l.importing(0, l.disk))
			l.failedWith(f, "backup")
			if f.took > c.atMost || c.toEnd && f.err != nil {
				t.Errorf("it took %v and %d bytes: %v\n%s", f.took, f.bytes, f.err, f.log)
			}
		})
	}
}

func TestDiskTooSmallIsRefusedBeforeItIsTouched(t *testing.T) {
	l := newMoveLab(t, 600)
	root := l.disk
	l.dataDisk("ext4", false)
	l.change(func(tree string) { l.tool("sh", "-c", "head -c 120000000 /dev/urandom > "+tree+"/data") })
	streams := l.madeStreams("tar", "dump")
	small := l.usedDisk(90)
	for kind, stream := range streams {
		l.disks(root, small)
		l.env["OSP_PARTITION_STYLE"] = "none"
		before := sumOf(t, small)
		f, err := os.Open(stream)
		must(t, err)
		got := l.feed(f, l.importing(1, small))
		f.Close()
		l.failedWith(got, "too small.*90 MiB|90 MiB.*too small|Device size is too small.*90 MiB")
		if says := kind == "ours" || kind == "image"; says && sumOf(t, small) != before {
			t.Errorf("%s: the disk was changed\n%s", kind, got.log)
		} else if !says {
			l.disk = small
			l.noInstance(got.log)
			small = l.usedDisk(90)
		}
	}
}

func TestAnImageForASmallerDiskNeedsRoomInTheCache(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	delete(l.env, "OLD_INSTANCE_NAME")
	l.change(func(tree string) { l.tool("sh", "-c", "head -c 30000000 /dev/urandom > "+tree+"/data") })
	stream, err := os.ReadFile(l.export(0, l.disk))
	must(t, err)
	l.tool("mount", "-t", "tmpfs", "-o", "size=16m,mode=755", "tmpfs", base+"/cache")
	t.Cleanup(func() { l.tool("umount", base+"/cache") })
	l.target(560)
	l.failedWith(l.feed(bytes.NewReader(stream), l.importing(0, l.disk)), "scratch file.*no space left.*make room there, or give the instance a disk of 600 MiB")
	l.clean(0)
}

func TestDumpWithoutRestore(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	b, err := os.ReadFile(l.madeStreams("dump")["dump"])
	must(t, err)
	l.target(600)
	f := l.feed(bytes.NewReader(b), l.withoutTool("restore", l.importing(0, l.disk)))
	l.failedWith(f, "restore.*install.*dump")
	if sumOf(t, l.disk) != l.used[l.disk] {
		t.Error("the disk was touched")
	}
}

// TestRootByAnyName imports tars whose fstab names the root in every way that
// installers and admins have.
func TestRootByAnyName(t *testing.T) {
	const rest = "\t/ \text4  errors=remount-ro,noatime 0   1  # the root\n# / was on /dev/sda1 during installation\ntmpfs /tmp tmpfs size=1g 0 0\n"
	for _, device := range []string{"UUID=0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10", "/dev/sda1", "/dev/vda1", "/dev/xvda1", "/dev/sda", "LABEL=root-fs", "PARTUUID=0badcafe-01", "/dev/disk/by-uuid/0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10", "/dev/mapper/vg-root", `LABEL=a\040b`} {
		t.Run(device, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.tinyTree()
			dir := t.TempDir()
			l.tool("tar", "-xf", l.tar(), "-C", dir)
			must(t, os.WriteFile(dir+"/etc/fstab", []byte(device+rest+"/dev/sdb none swap sw 0 0\nUUID=AB12-34CD /boot/efi vfat umask=0077 0 1\n"), 0o600))
			stream := filepath.Join(t.TempDir(), "tar")
			l.tool("tar", "-cf", stream, "-C", dir, ".")
			l.disks(l.usedDisk(600), l.blankDisk("swap", 64))
			l.tool("mkswap", "-q", l.env["DISK_1_PATH"])
			l.importFile(stream)
			id := l.identity()
			l.mounted(func(tree string) {
				text, err := os.ReadFile(tree + "/etc/fstab")
				must(t, err)
				field, after, _ := strings.Cut(string(text), "\t/ ")
				names := map[string]string{"UUID": id.uuid, "LABEL": strings.ReplaceAll(id.label, " ", `\040`), "PARTUUID": id.partUUID}
				kind, value, _ := strings.Cut(field, "=")
				if value == "" || names[kind] != value || strings.Contains(device, "0d5bcd04") && id.uuid != "0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10" {
					t.Errorf("fstab names %q, the disk is %+v", field, id)
				}
				swap := "UUID=" + l.tool("blkid", "-p", "-s", "UUID", "-o", "value", l.env["DISK_1_PATH"]) + " none swap sw 0 0\n"
				if !strings.Contains("\t/ "+after, rest+swap) {
					t.Errorf("fstab has no %q:\n%s", rest+swap, text)
				}
				if strings.Contains(string(text), "\nUUID=AB12") {
					t.Errorf("an EFI partition that is not there is still mounted:\n%s", text)
				}
				if st, err := os.Stat(tree + "/etc/fstab"); err != nil || st.Mode() != 0o644 {
					t.Errorf("/etc/fstab: %v, %v", st.Mode(), err)
				}
			})
			l.checkFilesystem("ext4")
		})
	}
}

// killer kills the command some time after it has taken the stream so far.
type killer struct {
	cmd   *exec.Cmd
	after time.Duration
	kill  func(pid int)
}

func (k killer) Read([]byte) (int, error) {
	time.Sleep(k.after)
	k.kill(k.cmd.Process.Pid)
	time.Sleep(100 * time.Millisecond)
	return 0, io.EOF
}

func TestImportKilled(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	l.change(func(tree string) { l.tool("sh", "-c", "head -c 8000000 /dev/urandom > "+tree+"/big") }) // more than a pipe holds
	for kind, stream := range l.madeStreams("dump") {
		b, err := os.ReadFile(stream)
		must(t, err)
		for i, name := range []string{"SIGTERM", "SIGKILL", "SIGTERM to the group", "SIGKILL to the group"} {
			l.target(600)
			cmd := l.importing(0, l.disk)
			f := l.feed(io.MultiReader(bytes.NewReader(b[:len(b)-200000]), killer{cmd, time.Duration(i*200) * time.Millisecond, kills[name]}), cmd)
			l.clean(2 * time.Second)
			if f.exit == 0 {
				t.Errorf("%s, %s: it succeeds\n%s", kind, name, f.log)
			}
			if strings.HasPrefix(name, "SIGTERM") {
				l.noInstance(f.log)
			}
		}
	}
}

func TestATarThatIsNoRootFilesystemIsRefusedOnTheFirstDiskOnly(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"one folder too high":  {"mkdir -p t/rootfs; tar -xf $tar -C t/rootfs; tar -cf - -C t rootfs", "a tar, but its tree is in rootfs/ .*tar -C rootfs"},
		"two folders too high": {"mkdir -p t/./srv/guest; tar -xf $tar -C t/srv/guest; tar -cf - -C t .", "a tar, but its tree is in srv/guest/ "},
		"files of somebody's":  {"mkdir -p t/photos; echo x >t/photos/1; tar -cf - -C t .", "a tar without a root filesystem.* photos$"},
		"a dump of data":       {"truncate -s 20M d; mke2fs -q -F -t ext4 d; dev=$(losetup --show -f d); dump -0 -q -f - $dev; losetup -d $dev", "a stream of dump without a root filesystem"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.tinyTree()
			dir := t.TempDir()
			l.tool("sh", "-e", "-c", "cd "+dir+"; tar="+l.tar()+"; ("+c.script+") >stream")
			b, err := os.ReadFile(dir + "/stream")
			must(t, err)
			l.target(600)
			l.importFails(bytes.NewReader(b), c.want)
			data := l.blankDisk("data-disk", 600)
			l.disks(l.disk, data)
			l.imports(bytes.NewReader(b), 1, data)
		})
	}
}

func TestFstabTellsWhatTheFilesystemOfAnImportIsNow(t *testing.T) {
	l := newMoveLab(t, 600)
	for before, after := range map[string]string{"ext3": "ext4", "ext4": "xfs", "btrfs": "ext4"} {
		l.guest("msdos", before)
		kinds := []string{"tar", "dump"}
		if before == "btrfs" {
			kinds = kinds[:1]
		}
		streams := l.madeStreams(kinds...)
		for _, kind := range kinds {
			b, err := os.ReadFile(streams[kind])
			must(t, err)
			l.target(600)
			l.env["OSP_FILESYSTEM"] = after
			l.imports(bytes.NewReader(b), 0, l.disk)
			l.mounted(func(tree string) {
				options := map[string]string{"xfs": "defaults", "btrfs": "defaults"}[after]
				if options == "" {
					options = "defaults,errors=remount-ro"
				}
				fstab, err := os.ReadFile(filepath.Join(tree, "etc/fstab"))
				must(t, err)
				l.matches(string(fstab), `(?m)^UUID=\S+\s+/\s+`+after+`\s+`+options+`\s`)
			})
		}
	}
}
