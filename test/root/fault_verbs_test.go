//go:build root

package root

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// faultCase is one run of a verb, which is repeated with each fault.
type faultCase struct {
	verb, layout, path string
	set                func(l *lab, c *faultCase) // makes what there is before, and fills in the rest

	l       *lab
	disks   []string // what the verb works on; the root is the first
	cache   string   // folder
	stdin   string   // file; "" is none
	command func() *exec.Cmd
	outcome func(exit int) (wrong string) // says what isn't as it may be after a run
	bench0  *faultBench
}

func (c *faultCase) name() string { return c.verb + ", " + c.layout + ", " + c.path }

const faultMiB = 512

// faultCases are all of them, from the verbs' layouts and paths.
func faultCases() (cases []*faultCase) {
	add := func(verb string, layouts, paths []string, set func(*lab, *faultCase)) {
		for _, layout := range layouts {
			for _, path := range paths {
				cases = append(cases, &faultCase{verb: verb, layout: layout, path: path, set: set})
			}
		}
	}
	layouts := []string{"none", "msdos", "gpt, swap, data"}
	add("create", layouts, []string{"cold", "tar", "image", "reflink"}, setCreate)
	add("create", []string{"gpt"}, []string{"hook"}, setCreate)
	add("install", []string{"gpt"}, []string{"image"}, setInstall)
	add("import", layouts, []string{"ours", "image", "dump", "raw.zst", "tar.zst", "image of a larger disk"}, setImport)
	add("export", layouts, []string{"tar", "image", "dump"}, setExport)
	add("rename", layouts, []string{"ext4", "xfs", "btrfs"}, setRename)
	add("grow", layouts, []string{"ext4", "xfs", "btrfs"}, setGrow)
	add("verify", []string{"none"}, []string{"settings"}, setVerify)
	add("cache warm", []string{"none"}, []string{"cold", "image"}, setWarm)
	return cases
}

// ready makes the lab of a case.
func (c *faultCase) ready(t *testing.T) {
	t.Helper()
	c.l = newMoveLab(t, faultMiB)
	c.l.write("default", "BOOTLOADER=none\nBOOTSTRAP=debootstrap\nMIRROR=http://mirror.example/debian\n", 0o644)
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	c.cache = filepath.Join(base, "cache")
	c.disks = []string{c.l.disk}
	c.set(c.l, c)
}

// style sets the layout of new guests; with a disk for swap and one for data, of the names
// that the settings know.
func (c *faultCase) style(l *lab) {
	style := c.layout
	if c.layout == "gpt, swap, data" {
		style = "gpt"
		paths := []string{c.disks[0]}
		for i, name := range []string{"swap", "data"} {
			path := filepath.Join(filepath.Dir(c.disks[0]), name+"-disk")
			must(l, os.WriteFile(path, nil, 0o600))
			must(l, os.Truncate(path, 64<<20))
			paths = append(paths, path)
			l.env[fmt.Sprintf("DISK_%d_NAME", i+1)] = name
		}
		l.disks(paths...)
		c.disks = paths
		l.env["OSP_DATA_DISKS"] = "data=/srv"
	}
	l.env["OSP_PARTITION_STYLE"] = style
}

func setCreate(l *lab, c *faultCase) {
	if c.path == "reflink" {
		l.reflinks(c)
	}
	c.style(l)
	c.command = func() *exec.Cmd { return l.command("create") }
	c.outcome = c.guestOutcome
	switch c.path {
	case "cold":
		l.fakeDebootstrapAgain("0.01")
		return
	case "tar":
		l.env["OSP_FILESYSTEM"] = "xfs"
	}
	l.tinyTree()
	switch c.path {
	case "reflink":
		l.tool("mv", l.tar(), c.cache)
	case "hook":
		l.guestTool("bash", "sleep", "sync")
		l.hook("10-chroot", `set -e
mkdir -p "$TARGET/mnt"
mount -t tmpfs hooks "$TARGET/mnt"
chroot "$TARGET" bash -e -c 'echo begun >/etc/hooked; sync /etc/hooked; sleep 0.02; echo done >/etc/hooked; echo its own >/mnt/file'
umount "$TARGET/mnt"`)
	}
	if log, exit := l.run("create"); exit != 0 { // which makes the image
		l.Fatal(log)
	}
	for _, disk := range c.disks {
		l.blank(disk)
	}
}

func (l *lab) blank(disk string) {
	st, err := os.Stat(disk)
	must(l, err)
	must(l, os.Truncate(disk, 0))
	must(l, os.Truncate(disk, st.Size()))
}

// reflinks has the disk and the cache on one filesystem with reflinks.
func (l *lab) reflinks(c *faultCase) {
	store, dir := filepath.Join(l.TempDir(), "store"), l.TempDir()
	must(l, os.WriteFile(store, nil, 0o600))
	must(l, os.Truncate(store, 2<<30))
	l.tool("sh", "-e", "-c", "mkfs.xfs -q -m reflink=1 "+store+" && mount -o loop "+store+" "+dir+" && mkdir "+dir+"/cache")
	l.Cleanup(func() {
		l.tool("sh", "-c", "for i in $(seq 100); do umount "+dir+" && exit; sleep 0.1; done; umount -l "+dir)
	})
	c.cache = dir + "/cache"
	l.setting("CACHE_DIR=" + c.cache)
	must(l, os.Mkdir(dir+"/disks", 0o755))
	c.disks[0] = dir + "/disks/root-disk"
	must(l, os.WriteFile(c.disks[0], nil, 0o600))
	must(l, os.Truncate(c.disks[0], faultMiB<<20))
	l.disks(c.disks[0])
}

func setInstall(l *lab, c *faultCase) {
	l.tinyTree()
	must(l, os.Remove(l.disk))
	c.command = func() *exec.Cmd {
		return l.byHandCommand("install", "--suite", "trixie", "--size", "512M", "--hostname", "guest.example", "--partition-style", "gpt", l.disk)
	}
	c.outcome = func(exit int) string {
		if _, err := os.Stat(l.disk); err != nil && exit != 0 {
			return ""
		}
		return c.guestOutcome(0) // what has the name is whole
	}
	if out, exit := l.byHand(c.command().Args[7:]...); exit != 0 {
		l.Fatal(out)
	}
	must(l, os.Remove(l.disk))
}

// setImport has a disk with a filesystem of another guest.
func setImport(l *lab, c *faultCase) {
	source := filepath.Join(l.TempDir(), "source-disk")
	c.style(l)
	own, count := l.disk, l.env["DISK_COUNT"]
	mib := int64(faultMiB)
	if c.path == "image of a larger disk" {
		mib += 40
	}
	must(l, os.WriteFile(source, nil, 0o600))
	must(l, os.Truncate(source, mib<<20))
	l.env["DISK_COUNT"] = "1"
	l.disk, l.env["DISK_0_PATH"] = source, source
	l.guest(l.env["OSP_PARTITION_STYLE"], "ext4")
	delete(l.env, "OLD_INSTANCE_NAME")
	kind := c.path
	if kind == "image of a larger disk" {
		kind = "image"
	}
	var kinds []string
	if kind != "ours" && kind != "image" {
		kinds = []string{kind}
	}
	c.stdin = l.madeStreams(kinds...)[kind]
	delete(l.env, "EXPORT_FORMAT")
	l.disk, l.env["DISK_0_PATH"], l.env["DISK_COUNT"] = own, own, count
	l.tool("mke2fs", "-q", "-F", "-t", "ext4", "-L", "old", own)
	c.command = func() *exec.Cmd { return l.importing(0, own) }
	c.outcome = c.guestOutcome
}

// withGuest has a guest on the disks.
func (c *faultCase) withGuest(l *lab, fstype string) {
	c.style(l)
	l.guest(l.env["OSP_PARTITION_STYLE"], fstype)
}

func setExport(l *lab, c *faultCase) {
	c.withGuest(l, "ext4")
	l.env["EXPORT_FORMAT"] = c.path
	c.command = func() *exec.Cmd {
		cmd := l.command("export")
		cmd.Env = append(cmd.Env, "EXPORT_INDEX=0", "EXPORT_DEVICE="+l.disk, "EXPORT_DISK_PATH="+l.disk)
		return cmd
	}
	c.outcome = c.streamOutcome
}

func setRename(l *lab, c *faultCase) {
	c.withGuest(l, c.path)
	c.command = func() *exec.Cmd { return l.command("rename") }
	c.outcome = c.changedOutcome
}

func setGrow(l *lab, c *faultCase) {
	c.withGuest(l, c.path)
	must(l, os.Truncate(l.disk, (faultMiB+200)<<20))
	c.command = func() *exec.Cmd { return l.byHandCommand("grow", l.disk) }
	c.outcome = c.changedOutcome
}

func setVerify(l *lab, c *faultCase) {
	l.tinyTree()
	c.command = func() *exec.Cmd { return l.command("verify") }
	c.outcome = c.cacheOutcome
}

func setWarm(l *lab, c *faultCase) {
	l.fakeDebootstrapAgain("0.01")
	c.command = func() *exec.Cmd { return l.byHandCommand("cache", "warm", "--disk-size", "512M") }
	c.outcome = c.cacheOutcome
	if c.path == "image" { // the tree is there
		l.env["OSP_FILESYSTEM"] = "xfs"
		if out, exit := l.run("create"); exit != 0 {
			l.Fatal(out)
		}
		delete(l.env, "OSP_FILESYSTEM")
		l.blank(l.disk)
	}
}
