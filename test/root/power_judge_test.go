//go:build root

package root

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/receipt"
)

// found is what is on a disk after a power cut, by sfdisk, blkid, the filesystem's own
// checker and the kernel.
type found struct {
	table   string            // kind of table; "" is none
	tableID string            // its identifier
	fault   string            // of the table or the filesystem
	uuid    string            // the root filesystem's; "" is that there is none
	files   map[string]string // its files
	bytes   int64             // how large it is, as statfs(2) has it
	named   bool              // its own fstab has that UUID
	refused string            // why the kernel doesn't mount it
	further map[string]string // files of a further disk's folder
}

// holds looks for a root: the first partition of type Linux that the table has, or the
// whole disk. Its journal is replayed, as the next start would do.
func (l *lab) holds(disk string) (f found) {
	l.Helper()
	f.table, f.tableID = l.probed(disk, "PTTYPE", 0), l.probed(disk, "PTUUID", 0)
	offset, size := int64(0), int64(0)
	if f.table != "" {
		if out, err := exec.Command("sfdisk", "--verify", disk).CombinedOutput(); err != nil {
			f.fault = "sfdisk --verify: " + string(out)
		}
		if offset, size = rootOf(disk); size == 0 {
			return f
		}
	}
	g := l.holdsAt(disk, offset, size)
	g.table, g.tableID, g.fault = f.table, f.tableID, cmp.Or(g.fault, f.fault)
	return g
}

// holdsAt looks at a filesystem that lies on a disk; size 0 is all of it.
func (l *lab) holdsAt(disk string, offset, size int64) (f found) {
	l.Helper()
	fstype := l.probed(disk, "TYPE", offset)
	if fstype == "" || fstype == "swap" {
		return f
	}
	args := []string{"losetup", "--show", "-f", "-o", fmt.Sprint(offset)}
	if size > 0 {
		args = append(args, "--sizelimit", fmt.Sprint(size))
	}
	dev := l.tool(append(args, disk)...)
	defer func() { l.tool("losetup", "-d", dev) }()
	l.lookInside(&f, dev, fstype)
	return f
}

// mountIdle runs mount(8). A run of another test may try for an instant whether the loop device is
// free.
func mountIdle(args ...string) (out []byte, err error) {
	for range 50 {
		out, err = exec.Command("mount", args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "busy") {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return out, err
}

func (l *lab) probed(disk, what string, offset int64) string {
	out, _ := exec.Command("blkid", "-p", "-O", fmt.Sprint(offset), "-s", what, "-o", "value", disk).Output()
	return strings.TrimSpace(string(out))
}

// rootOf is where the root partition lies, in bytes; size 0 is that there is none.
func rootOf(disk string) (offset, size int64) {
	for _, p := range tableParts(disk) {
		if p.Type == "83" || strings.HasPrefix(p.Type, "0FC63DAF") || strings.HasPrefix(p.Type, "4F68BCE3") {
			return p.Start * 512, p.Size * 512
		}
	}
	return 0, 0
}

// lookInside replays the journal, checks the filesystem and lists its files.
func (l *lab) lookInside(f *found, dev, fstype string) {
	l.Helper()
	dir := l.TempDir()
	defer os.Remove(dir)
	options := "rw"
	switch fstype {
	case "xfs":
		options = "rw,nouuid"
	case "ext2", "ext3", "ext4":
		if out, err := exec.Command("e2fsck", "-y", "-E", "journal_only", dev).CombinedOutput(); err != nil {
			f.fault = "e2fsck -E journal_only: " + string(out)
		}
	}
	if out, err := mountIdle("-t", fstype, "-o", options, dev, dir); err != nil {
		f.refused = string(out)
		return // nothing that a guest could start from
	} else if len(out) > 0 {
		f.fault = string(out)
	}
	f.uuid = l.probed(dev, "UUID", 0)
	l.tool("umount", dir)
	check := map[string][]string{"xfs": {"xfs_repair", "-n"}, "btrfs": {"btrfs", "check", "--readonly"}}[fstype]
	if check == nil {
		check = []string{"e2fsck", "-fn"}
	}
	if out, err := exec.Command(check[0], append(check[1:], dev)...).CombinedOutput(); err != nil {
		f.fault = strings.Join(check, " ") + ": " + string(out)
	}
	ro := "ro"
	if fstype == "xfs" {
		ro = "ro,nouuid"
	}
	if out, err := mountIdle("-t", fstype, "-o", ro, dev, dir); err != nil {
		f.uuid, f.refused = "", string(out)
		return
	}
	var st unix.Statfs_t
	must(l, unix.Statfs(dir, &st))
	f.bytes = int64(st.Blocks) * st.Bsize
	f.files = l.listed(dir)
	fstab, _ := os.ReadFile(dir + "/etc/fstab")
	f.named = strings.Contains(string(fstab), f.uuid)
	l.tool("umount", dir)
}

// listed is each path's kind, mode, owner, and content or destination.
func (l *lab) listed(dir string) map[string]string {
	l.Helper()
	files := map[string]string{}
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		if err != nil {
			files["/"+name] = "unreadable: " + err.Error()
			return nil
		}
		if name == "lost+found" {
			return fs.SkipDir
		}
		st, err := os.Lstat(path)
		if err != nil {
			files["/"+name] = "unreadable: " + err.Error()
			return nil
		}
		sys := st.Sys().(*syscall.Stat_t)
		what := fmt.Sprintf("%v %d:%d", st.Mode(), sys.Uid, sys.Gid)
		switch {
		case st.Mode().IsRegular():
			b, err := os.ReadFile(path)
			what += fmt.Sprintf(" %d %x %v", len(b), sha256.Sum256(b), err)
		case st.Mode()&os.ModeSymlink != 0:
			to, err := os.Readlink(path)
			what += fmt.Sprintf(" %s %v", to, err)
		}
		files["/"+name] = what
		return nil
	})
	return files
}

// What a disk is after a cut.
const (
	isOld        = "the old guest"
	isNothing    = "no guest"
	isUnfinished = "an unfinished guest" // no receipt yet, which is the last that is written, or not the UUID that its fstab has
	isNew        = "the new guest"
)

// isSmaller tells whether a filesystem hasn't the size that another has, but for what it keeps
// for itself.
func (f found) isSmaller(than found) bool { return f.bytes < than.bytes/100*99 }

// judged compares what is found with what there was and what there is to be. wrong says
// why it is none of what may be there.
func judged(f, before, after found) (state, wrong string) {
	same := func(g found) bool { return f.uuid == g.uuid && maps.Equal(f.files, g.files) }
	switch {
	case f.uuid == "":
		return isNothing, ""
	case same(after):
		state = isNew
	case before.uuid != "" && same(before):
		state = isOld
	case before.uuid != "" && f.uuid == before.uuid:
		return "", "it is the old guest, changed: " + differing(f.files, before.files)
	case f.named && f.files[receipt.File] != "":
		return "", "it has a receipt, and is not the new guest: " + differing(f.files, after.files)
	default:
		return isUnfinished, ""
	}
	if f.fault != "" {
		return state, f.fault
	}
	return state, ""
}

// differing names some paths that two lists don't agree on.
func differing(a, b map[string]string) string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if b[name] != a[name] {
			names = append(names, fmt.Sprintf("%s: %q, not %q", name, a[name], b[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[name]; !ok {
			names = append(names, name+" is missing")
		}
	}
	return fmt.Sprintf("%d differ: %s", len(names), strings.Join(names[:min(4, len(names))], "; "))
}
