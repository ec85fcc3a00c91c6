//go:build root

package root

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"

	"instance-debootstrap/pkg/receipt"
)

// guestOutcome: after success the new guest, and otherwise the old one, none, an unfinished
// one, or the new one, whose last step failed.
func (c *faultCase) guestOutcome(exit int) string {
	b := c.bench0
	f := c.l.holds(c.disks[0])
	wrong := notWhole(f, b.new)
	switch {
	case exit == 0 && wrong != "":
		return "success, and it is not the new guest: " + wrong
	case exit == 0 && c.othersOutcome() != "":
		return c.othersOutcome()
	case wrong == "", f.uuid == "", f.uuid == b.old.uuid && maps.Equal(f.files, b.old.files):
	case f.named && f.files[receipt.File] != "":
		return "it failed, and a guest with a receipt is there that isn't whole: " + wrong
	}
	return c.cacheOutcome(exit)
}

// othersOutcome looks at the disks that aren't the root.
func (c *faultCase) othersOutcome() string {
	if c.verb != "create" || c.path == "kept" {
		return ""
	}
	for i, want := range map[int]string{1: "swap", 2: "ext4"} {
		if i < len(c.disks) {
			if got := c.l.probed(c.disks[i], "TYPE", 0); got != want {
				return fmt.Sprintf("disk %d has %q, not %q", i, got, want)
			}
		}
	}
	return ""
}

// cacheOutcome: what is in the cache is whole.
func (c *faultCase) cacheOutcome(int) string {
	entries, _ := os.ReadDir(c.cache)
	for _, e := range entries {
		path := filepath.Join(c.cache, e.Name())
		switch filepath.Ext(path) {
		case ".tar":
			if out, err := exec.Command("tar", "-tf", path).CombinedOutput(); err != nil {
				return fmt.Sprintf("%s is no whole tar: %s", path, out)
			}
		case ".json", ".img", ".corrupt":
		default:
			return path + " is left in the cache"
		}
	}
	return ""
}

// begunFile is what a file of the guest's is called until it is complete.
const begunFile = ".instance-debootstrap-new"

// changedOutcome is of a guest that stays: each file is as before or as after a good run,
// and after success the second. What a filesystem's next check has to mend isn't looked at
// unless the run has succeeded: the next run does that.
func (c *faultCase) changedOutcome(exit int) string {
	b := c.bench0
	f := c.l.holds(c.disks[0])
	if f.uuid != b.new.uuid {
		return fmt.Sprintf("the filesystem is %q, not %q: %s", f.uuid, b.new.uuid, f.fault)
	}
	if exit == 0 && (f.fault != "" || !maps.Equal(f.files, b.new.files)) {
		return fmt.Sprintf("success, and %s: %s", f.fault, differing(f.files, b.new.files))
	}
	if exit == 0 && f.isSmaller(b.new) {
		return fmt.Sprintf("success, and the filesystem has %d bytes, not %d", f.bytes, b.new.bytes)
	}
	for name, what := range f.files {
		if filepath.Base(name) == begunFile && exit != 0 {
			continue // which the next run removes
		}
		if what != b.old.files[name] && what != b.new.files[name] {
			return fmt.Sprintf("%s is %s, which it neither was nor is to be", name, what)
		}
	}
	for name := range b.old.files {
		if f.files[name] == "" && b.new.files[name] != "" {
			return name + " is gone"
		}
	}
	return ""
}

// streamOutcome: the disk is as it was; after success the stream is one that import takes.
func (c *faultCase) streamOutcome(exit int) string {
	b := c.bench0
	if f := c.l.holds(c.disks[0]); f.uuid != b.old.uuid || f.fault != "" || !maps.Equal(f.files, b.old.files) {
		return "the disk was changed: " + f.fault + differing(f.files, b.old.files)
	}
	if exit != 0 || exec.Command("cmp", "-s", b.out(), b.stream).Run() == nil {
		return ""
	}
	l := c.l
	disk, env := filepath.Join(b.dir, "imported"), maps.Clone(l.env)
	must(l, os.WriteFile(disk, nil, 0o600))
	must(l, os.Truncate(disk, faultMiB<<20))
	defer func() { l.env, l.disk = env, c.disks[0]; os.Remove(disk) }()
	l.env = maps.Clone(env)
	l.disks(disk)
	f, err := os.Open(b.out())
	must(l, err)
	defer f.Close()
	if got := l.feed(f, l.importing(0, disk)); got.exit != 0 {
		return "success, and what was exported can't be imported: " + got.log
	}
	if wrong := isWholeGuest(l, disk, b.old); wrong != "" {
		return "success, and what was exported is another guest: " + wrong
	}
	return ""
}
