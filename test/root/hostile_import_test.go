//go:build root

package root

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// bait is a folder of the node that a hostile stream tries to change.
func (l *lab) bait() string {
	l.Helper()
	dir := l.TempDir()
	for _, name := range []string{"fstab", "grub.cfg", "file", "os-release"} {
		must(l, os.WriteFile(filepath.Join(dir, name), []byte("UUID=0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10 / ext4 defaults 0 1\n"), 0o640))
	}
	return dir
}

// member is one of a hostile tar; its content is as long as the header says.
func member(h tar.Header, content string) func(*tar.Writer) error {
	return func(w *tar.Writer) error {
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		_, err := io.WriteString(w, content)
		return err
	}
}

func file(name, content string) func(*tar.Writer) error {
	return member(tar.Header{Name: name}, content)
}
func link(name, to string) func(*tar.Writer) error {
	return member(tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}, "")
}
func hard(name, to string) func(*tar.Writer) error {
	return member(tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink}, "")
}
func node(name string, kind byte, major, minor int64) func(*tar.Writer) error {
	return member(tar.Header{Name: name, Typeflag: kind, Devmajor: major, Devminor: minor}, "")
}

type members []func(*tar.Writer) error

// attacks are what a stream may hold, for a bait folder; refused says what the
// last line of the failure has. Without it the import may succeed or fail: what
// counts is where the members end up.
func attacks(bait string) map[string]struct {
	members members
	refused string
} {
	const outside = "leads out of its folder"
	const up = "../../../../../../../../../.."
	type attack = struct {
		members members
		refused string
	}
	return map[string]attack{
		"a name with ..":             {members{file("./../escape", "out")}, outside},
		"a name with .. within":      {members{file("./a/../../escape", "out")}, outside},
		"a name that ends in ..":     {members{member(tar.Header{Name: "./a/..", Typeflag: tar.TypeDir, Mode: 0o777}, "")}, outside},
		"a long name with ..":        {members{file("./"+strings.Repeat("d/", 200)+strings.Repeat("../", 220)+"escape", "out")}, outside},
		"an absolute name":           {members{file(bait+"/new", "out"), file(bait+"/file", "out")}, ""},
		"through a link":             {members{link("./out", bait), file("./out/new", "out"), file("./out/file", "out")}, ""},
		"through a relative link":    {members{link("./out", up+bait), file("./out/new", "out")}, ""},
		"through two links":          {members{link("./a", "b"), link("./b", bait), file("./a/new", "out")}, ""},
		"through a link of a link":   {members{link("./out", bait), hard("./again", "./out"), file("./again/new", "out")}, ""},
		"over a link":                {members{link("./out", bait+"/file"), file("./out", "out")}, ""},
		"a hard link out":            {members{hard("./etc/fstab", bait+"/fstab"), file("./etc/fstab", "out")}, ""},
		"a relative hard link out":   {members{hard("./h", up+bait+"/file"), file("./h", "out")}, ""},
		"a hard link through a link": {members{link("./out", bait), hard("./h", "./out/file"), file("./h", "out")}, ""},
		"the root is a link":         {members{link("./", bait), file("./new", "out")}, ""},
		"the root is a file":         {members{file("./.", "out"), file(".", "out")}, ""},
		"etc is a link":              {members{link("./etc", bait)}, ""},
		"fstab is a link":            {members{link("./etc/fstab", bait+"/fstab"), link("./etc/os-release", bait+"/os-release")}, ""},
		"grub.cfg is a link":         {members{link("./boot/grub/grub.cfg", up+bait+"/grub.cfg"), link("./boot/grub/i386-pc", bait)}, ""},
		"links in a circle":          {members{link("./etc", "etc"), link("./boot", "."), link("./lib", "lib/lib")}, ""},
		"fstab is a fifo":            {members{member(tar.Header{Name: "./etc/fstab", Typeflag: tar.TypeFifo}, ""), member(tar.Header{Name: "./etc/os-release", Typeflag: tar.TypeFifo}, "")}, ""},
		"fstab is /dev/zero":         {members{node("./etc/fstab", tar.TypeChar, 1, 5), node("./etc/os-release", tar.TypeChar, 1, 5)}, ""},
		"fstab is a folder":          {members{member(tar.Header{Name: "./etc/fstab/x", Typeflag: tar.TypeDir, Mode: 0o755}, "")}, ""},
		"a disk under an odd name":   {members{node("./new\nline", tar.TypeBlock, 7, 0), node("./dev/x", tar.TypeBlock, 7, 0), file("./dev/x", "out")}, ""},
		"odd attributes": {members{member(tar.Header{Name: "./f", PAXRecords: map[string]string{
			"SCHILY.xattr.system.posix_acl_access": "nonsense", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.security.capability": "\x01", "SCHILY.xattr.nothing": "x",
		}}, "x")}, ""},
		"folders without rights":    {members{member(tar.Header{Name: "./etc", Typeflag: tar.TypeDir, Mode: 0o1000}, ""), file("./etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n")}, ""},
		"an fstab of odd bytes":     {members{file("./etc/fstab", "\x00\xff\n/dev/sda1 / ext4\n\n\\040 \\ \\9 / / / /\nUUID= / ext4\nUUID=$(reboot) / ext4\nUUID=../../x / ext4 defaults 0 1\nLABEL="+strings.Repeat("x", 70000)+" / ext4\n")}, ""},
		"an enormous pax header":    {members{member(tar.Header{Name: "./f", PAXRecords: map[string]string{"SCHILY.xattr.user.x": strings.Repeat("x", 900<<10)}}, "")}, ""},
		"an enormous name":          {members{file("./"+strings.Repeat("n/", 100000)+"x", "")}, "."},
		"more files than inodes":    {slices.Repeat(members{nil}, 100000), "too small|No space"},
		"a file that is endless":    {members{func(w *tar.Writer) error { return w.WriteHeader(&tar.Header{Name: "./f", Mode: 0o644, Size: 1 << 40}) }}, "."},
		"what only looks like ours": {members{file("./.instance-debootstrap/manifest.json", "{}"), file("./.instance-debootstrap/sha256", "x"), file("./.instance-debootstrap/disk/0000000000000000", strings.Repeat("x", 512))}, ""},
	}
}

// plainTar is a tar of the members, after some that make it a guest.
func plainTar(t *testing.T, ms members) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, file("./usr/share/hello", "hello\n")(w))
	appendMembers(t, w, ms)
	if err := w.Close(); err != nil {
		b.Write(make([]byte, 1024)) // a member that is shorter than it says
	}
	return b.Bytes()
}

func appendMembers(t *testing.T, w *tar.Writer, ms members) {
	t.Helper()
	for i, m := range ms {
		if m == nil {
			m = file(fmt.Sprint("./many/", i), "")
		}
		must(t, m(w))
	}
}

// ourTar is a stream of ours with a right digest, made by the documentation.
func ourTar(t *testing.T, manifest []byte, ms members) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, file(".instance-debootstrap/manifest.json", string(manifest))(w))
	appendMembers(t, w, ms)
	must(t, w.Flush())
	must(t, file(".instance-debootstrap/sha256", fmt.Sprintf("%x\n", sha256.Sum256(b.Bytes())))(w))
	must(t, w.Close())
	return b.Bytes()
}

// manifestOf returns the manifest of a stream of ours.
func manifestOf(t *testing.T, stream string) map[string]any {
	t.Helper()
	f, err := os.Open(stream)
	must(t, err)
	defer f.Close()
	r := tar.NewReader(f)
	_, err = r.Next()
	must(t, err)
	var m map[string]any
	must(t, json.NewDecoder(r).Decode(&m))
	return m
}

// contained feeds the stream and compares the bait, and what is beside the
// mount point, with what they were.
func (l *lab) contained(stream []byte, bait, refused string) {
	l.Helper()
	look := func() string {
		return l.tool("sh", "-c", "find "+bait+" -printf '%p %y %m %s %i %n %T@\n' | sort; cd "+bait+" && sha256sum *; find "+base+" -path "+base+"/lock -prune -o -printf '%p %y %m\n' | sort; ls -d /escape* /new* /tmp/escape* 2>&1; true")
	}
	before := look()
	f := l.feed(bytes.NewReader(stream), l.importing(0, l.disk))
	if now := look(); now != before {
		l.Errorf("the node was\n%s\nand is\n%s\n%s", before, now, f.log)
	}
	switch {
	case refused != "":
		l.failedWith(f, refused)
	case f.exit > 1 || f.exit < 0:
		l.Errorf("exit status %d\n%s", f.exit, f.log)
	}
	l.clean(0)
	if strings.Contains(f.log, "goroutine ") {
		l.Errorf("it panics:\n%s", f.log)
	}
	if f.exit == 0 {
		l.checkFilesystem("ext4")
	} else {
		l.noInstance(f.log)
	}
}

func TestHostileTars(t *testing.T) {
	l := newMoveLab(t, 600)
	bait := l.bait()
	for name, a := range attacks(bait) {
		t.Run(name, func(t *testing.T) {
			defer l.within(t)()
			l.target(600)
			l.env["IMPORT_UUID"] = []string{"keep", "new"}[len(name)%2]
			l.contained(plainTar(t, a.members), bait, a.refused)
		})
	}
}

func TestHostileStreamsOfOurs(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	bait := l.bait()
	l.hostileFiles(bait)
	l.hostileBlocks(bait)
}

func (l *lab) manifestFor(format string) []byte {
	l.Helper()
	l.env["EXPORT_FORMAT"] = format
	manifest, err := json.Marshal(manifestOf(l.T, l.export(0, l.disk)))
	must(l, err)
	return manifest
}

// hostileBlocks: a backup of blocks whose blocks and zeros are not where, or what,
// they should be.
func (l *lab) hostileBlocks(bait string) {
	disk, manifest := l.disk, l.manifestFor("image")
	block := func(offset int64, n int) func(*tar.Writer) error {
		return file(fmt.Sprintf(".instance-debootstrap/disk/%016x", offset), strings.Repeat("B", n))
	}
	zero := func(offset int64, text string) func(*tar.Writer) error {
		return file(fmt.Sprintf(".instance-debootstrap/zero/%016x", offset), text)
	}
	for name, m := range map[string]members{
		"nothing in it":                {},
		"a file at once":               {file("./f", "x")},
		"a block of odd length":        {block(0, 511)},
		"zeros behind the disk":        {zero(1<<45, "0000000000001000\n")},
		"zeros over the disk's end":    {zero(0, "7ffffffffffffe00\n")},
		"zeros of a negative length":   {zero(0, "-000000000001000\n")},
		"zeros over a block":           {block(1<<20, 4096), zero(1<<20, "0000000000001000\n")},
		"a block in zeros":             {zero(0, "0000000002000000\n"), block(1<<20, 4096)},
		"zeros of an odd length":       {zero(0, "0000000000000001\n")},
		"zeros without a number":       {zero(0, "many             ")},
		"zeros with a thousand digits": {zero(0, strings.Repeat("0", 1000)+"\n")},
	} {
		l.Run("blocks/"+name, func(t *testing.T) {
			defer l.within(t)()
			l.target(600)
			l.contained(ourTar(t, manifest, m), bait, ".")
		})
	}
	l.disks(disk)
}

func (l *lab) hostileFiles(bait string) {
	t, disk, manifest := l.T, l.disk, l.manifestFor("tar")
	block := func(offset int64, n int) func(*tar.Writer) error {
		return file(fmt.Sprintf(".instance-debootstrap/disk/%016x", offset), strings.Repeat("B", n))
	}
	type attack struct {
		members members
		refused string
	}
	all := map[string]attack{
		"nothing of an attack":     {members{block(0, 512), block(512*100, 4096), file("./f", "x")}, ""},
		"a block within the files": {members{block(200<<20, 512), file("./f", "x")}, "."},
		"a block behind the disk":  {members{block(1<<45, 512)}, "."},
		"a block at -1":            {members{file(".instance-debootstrap/disk/ffffffffffffffff", strings.Repeat("B", 512))}, "."},
		"a block of odd length":    {members{block(0, 511)}, "."},
		"blocks in disorder":       {members{block(2048, 512), block(1024, 512)}, "."},
		"blocks that overlap":      {members{block(1024, 1024), block(1536, 512)}, "."},
		"a block after the files":  {members{file("./f", "x"), block(1024, 512)}, "."},
		"a block of odd name":      {members{file(".instance-debootstrap/disk/../0", strings.Repeat("B", 512))}, "."},
		"two manifests":            {members{file(".instance-debootstrap/manifest.json", string(manifest))}, "."},
		"members without ./":       {members{file("etc/passwd", "x")}, ""},
	}
	for name, a := range attacks(bait) {
		if len(name)%3 == 0 && !strings.Contains(name, "endless") { // the way to tar is the same
			all[name] = attack(a)
		}
	}
	for name, a := range all {
		t.Run(name, func(t *testing.T) {
			defer l.within(t)()
			l.target(600)
			l.contained(ourTar(t, manifest, a.members), bait, a.refused)
		})
	}
	l.disks(disk)
}

func TestManifestsThatLie(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	l.env["EXPORT_FORMAT"] = "tar"
	stream := l.export(0, l.disk)
	for name, lie := range map[string]func(m, disk, fs map[string]any){
		"format 3":             func(m, _, _ map[string]any) { m["format"] = 3 },
		"no format":            func(m, _, _ map[string]any) { delete(m, "format") },
		"content of its own":   func(m, _, _ map[string]any) { m["content"] = "programs" },
		"a negative size":      func(_, d, _ map[string]any) { d["size_bytes"] = -1 },
		"an enormous size":     func(_, d, _ map[string]any) { d["size_bytes"] = 1 << 62 },
		"a style of its own":   func(_, d, _ map[string]any) { d["style"] = "bsd" },
		"an id that is a word": func(_, d, _ map[string]any) { d["id"] = "../../etc" },
		"ntfs":                 func(_, _, fs map[string]any) { fs["type"] = "ntfs" },
		"an option for a type": func(_, _, fs map[string]any) { fs["type"] = "--help" },
		"a UUID that is none":  func(_, _, fs map[string]any) { fs["uuid"] = "-U random" },
		"a label of two lines": func(_, _, fs map[string]any) { fs["label"] = "a\nb" },
		"a long label":         func(_, _, fs map[string]any) { fs["label"] = strings.Repeat("x", 300) },
		"partition 77":         func(_, _, fs map[string]any) { fs["partition"] = 77 },
		"no filesystem":        func(m, _, _ map[string]any) { delete(m, "filesystem") },
		"a root behind the end": func(_, d, _ map[string]any) {
			d["partitions"].([]any)[0].(map[string]any)["start_sector"] = 1 << 40
		},
		"a root over the table": func(_, d, _ map[string]any) { d["partitions"].([]any)[0].(map[string]any)["start_sector"] = 0 },
		"a long GPT name": func(_, d, _ map[string]any) {
			p := d["partitions"].([]any)[0].(map[string]any)
			d["style"], d["id"] = "gpt", "6c7b4cc2-6a3c-4a3a-9f8d-1b8f0c3a5a11"
			p["type"], p["uuid"], p["name"] = "0FC63DAF-8483-4772-8E79-3D69D8477DE4", d["id"], strings.Repeat("n", 200)
			p["sectors"] = 1000000
		},
		"1000 partitions": func(_, d, _ map[string]any) { d["partitions"] = slices.Repeat(d["partitions"].([]any), 1000) },
	} {
		t.Run(name, func(t *testing.T) {
			defer l.within(t)()
			m := manifestOf(t, stream)
			lie(m, m["disk"].(map[string]any), m["filesystem"].(map[string]any))
			b, err := json.Marshal(m)
			must(t, err)
			l.target(600)
			l.importFails(bytes.NewReader(ourTar(t, b, members{file("./f", "x")})), "(?i)manifest|format|backup|nnnnn")
		})
	}
}

// TestBombs are streams with more than the disk holds.
func TestBombs(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"zeros":        {"truncate -s 200M f; tar -c ./f | gzip -1", "too small"},
		"a hole":       {"truncate -s 15T f; tar -c --format=posix --sparse ./f", ""},
		"a raw image":  {"truncate -s 200M f; printf x | dd of=f bs=1 seek=190M conv=notrunc; mke2fs -q -F -t ext4 f 150M; gzip -1 < f", "too small"},
		"a small dump": {"truncate -s 200M f; dev=$(losetup --show -f f); mke2fs -q -F $dev; mkdir m; mount $dev m; head -c 150M /dev/zero > m/big; umount m; dump -0 -q -f - $dev | gzip -1; losetup -d $dev", "too small"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newMoveLab(t, 600)
			stream := exec.Command("sh", "-e", "-c", c.script)
			stream.Dir = t.TempDir()
			out, err := stream.Output()
			must(t, err)
			l.disks(l.disk, l.usedDisk(100))
			l.disk = l.env["DISK_1_PATH"]
			f := l.feed(bytes.NewReader(out), l.importing(1, l.disk))
			l.clean(0)
			if c.want != "" {
				l.failedWith(f, c.want)
			}
			if f.exit != 0 {
				l.noInstance(f.log)
			}
		})
	}
}

// TestImageThatLiesAboutItsUse: its manifest says that it holds next to nothing,
// and for a smaller disk its blocks go through a file on the node first.
func TestImageThatLiesAboutItsUse(t *testing.T) {
	l := newMoveLab(t, 600)
	l.tool("mke2fs", "-q", "-F", "-t", "ext4", l.disk)
	l.env["EXPORT_FORMAT"] = "image"
	m := manifestOf(t, l.export(0, l.disk))
	manifest, err := json.Marshal(m)
	must(t, err)
	l.target(100)
	r, w := io.Pipe()
	go func() {
		out := tar.NewWriter(w)
		err := file(".instance-debootstrap/manifest.json", string(manifest))(out)
		for at := int64(0); at < 400<<20 && err == nil; at += 4 << 20 {
			err = file(fmt.Sprintf(".instance-debootstrap/disk/%016x", at), strings.Repeat("B", 4<<20))(out)
		}
		w.CloseWithError(err)
	}()
	f := l.feed(r, l.importing(0, l.disk))
	l.failedWith(f, "too small.*more than 200 MiB of data")
	l.clean(0)
}

// TestHostileGuestIsMovedAsItIs exports and imports a guest whose own files are
// traps for what reads them.
func TestHostileGuestIsMovedAsItIs(t *testing.T) {
	for name, trap := range map[string]string{
		"fifos":             "rm -f etc/fstab etc/os-release; mkfifo etc/fstab etc/os-release boot/grub/grub.cfg",
		"devices":           "rm -f etc/fstab etc/os-release; mknod etc/fstab c 1 5; mknod etc/os-release c 1 5; mknod boot/grub/grub.cfg b 7 0",
		"links out":         "ln -sf $bait/fstab etc/fstab; ln -sf $bait/os-release etc/os-release; ln -sf $bait/grub.cfg boot/grub/grub.cfg",
		"circles":           "rm -rf etc boot; ln -s etc etc; ln -s . boot",
		"folders":           "rm -f etc/fstab etc/os-release; mkdir etc/fstab etc/os-release boot/grub/grub.cfg",
		"enormous files":    "rm -f etc/fstab etc/os-release; truncate -s 2G etc/fstab etc/os-release boot/grub/grub.cfg etc/debian_version",
		"etc is the node's": "rm -rf etc; ln -s $bait etc",
		"nothing at all":    "rm -rf *",
	} {
		t.Run(name, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.guest("msdos", "ext4")
			bait := l.bait()
			l.change(func(tree string) {
				l.tool("sh", "-e", "-c", "bait="+bait+"; cd "+tree+"; mkdir -p boot/grub; "+trap)
			})
			l.env["EXPORT_FORMAT"] = []string{"tar", "image"}[len(name)%2]
			b, err := os.ReadFile(l.export(0, l.disk))
			must(t, err)
			l.env["IMPORT_UUID"] = []string{"keep", "new"}[len(name)%3%2]
			l.target(600)
			l.contained(b, bait, "")
		})
	}
}
