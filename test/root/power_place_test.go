//go:build root

package root

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What works in place has no moment without a guest: at every cut, the filesystem is right
// once its journal is replayed, and every file is as before or as after.

// mixed says what in a list is neither as before nor as after.
func mixed(files, before, after map[string]string) string {
	var names []string
	for name, what := range files {
		if filepath.Base(name) == begunFile {
			continue // which the next rename removes
		}
		if what != before[name] && what != after[name] {
			names = append(names, fmt.Sprintf("%s is %q", name, what))
		}
	}
	for name := range before {
		if files[name] == "" && after[name] != "" {
			names = append(names, name+" is missing")
		}
	}
	return strings.Join(names, "; ")
}

func TestAPowerCutInARenameLeavesOneNameOrTheOther(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs", "btrfs"} {
		if fstype != "ext4" && !wholePower() {
			continue
		}
		t.Run(fstype, func(t *testing.T) {
			l := newLab(t, powerMiB)
			l.guest("msdos", fstype)
			l.change(func(tree string) {
				must(t, os.WriteFile(tree+"/etc/hosts", []byte("192.0.2.1\tinst1.example inst1 # mine\n"), 0o640))
			})
			r := l.record(l.disk, func(disk string) {
				l.env["DISK_0_PATH"] = disk
				if log, exit := l.run("rename"); exit != 0 {
					l.Fatalf("rename: exit status %d\n%s", exit, log)
				}
			})
			before, after := l.holds(r.at(0)), l.holds(r.at(len(r.entries)))
			if before.files["/etc/hostname"] == after.files["/etc/hostname"] {
				t.Fatal("it was not renamed")
			}
			counts := map[string]int{}
			flushes, between := r.cuts(func(c powerCut) {
				f := l.holds(c.disk)
				state := "on the way"
				switch {
				case maps.Equal(f.files, before.files):
					state = "as before"
				case maps.Equal(f.files, after.files):
					state = "as after"
				}
				counts[state]++
				if wrong := mixed(f.files, before.files, after.files); wrong != "" || f.fault != "" || f.uuid != before.uuid {
					t.Errorf("%s: %s %s", c.how, wrong, f.fault)
				}
				if c.last && state != "as after" {
					t.Errorf("%s, after exit status 0: %s", c.how, state)
				}
			})
			tellCounts(t, r, flushes, between, counts)
		})
	}
}

func TestAPowerCutInAGrowLosesNoFileAndNoTable(t *testing.T) {
	for _, style := range []string{"gpt", "msdos", "none"} {
		for _, fstype := range []string{"ext4", "xfs", "btrfs"} {
			if style+fstype != "gptext4" && !wholePower() {
				continue
			}
			t.Run(style+"/"+fstype, func(t *testing.T) {
				l := newLab(t, powerMiB)
				l.guest(style, fstype)
				must(t, os.Truncate(l.disk, 640<<20))
				r := l.record(l.disk, func(disk string) {
					if said, exit := l.byHand("grow", disk); exit != 0 || !strings.Contains(said, "grew") {
						l.Fatalf("grow: exit status %d\n%s", exit, said)
					}
				})
				before, after := l.holds(r.at(0)), l.holds(r.at(len(r.entries)))
				if after.fault != "" || !before.isSmaller(after) || !maps.Equal(before.files, after.files) || len(after.files) < 10 {
					t.Fatalf("grow has changed the guest: %s %s", after.fault, differing(after.files, before.files))
				}
				counts := map[string]int{}
				flushes, between := r.cuts(func(c powerCut) {
					l.growsAgain(c, after)
					f := l.holds(c.disk)
					if f.fault != "" && f.fault != before.fault && l.mends(c.disk, fstype) {
						counts["whole, once mended"]++
						f = l.holds(c.disk)
					} else {
						counts["whole"]++
					}
					if f.uuid != before.uuid || f.table != before.table || !maps.Equal(f.files, before.files) || f.fault != "" && f.fault != before.fault {
						t.Errorf("%s: table %q, root %q, %s: %s", c.how, f.table, f.uuid, f.fault, differing(f.files, before.files))
					}
					if c.last && f.isSmaller(after) {
						t.Errorf("%s, after exit status 0: %d bytes of %d", c.how, f.bytes, after.bytes)
					}
				})
				tellCounts(t, r, flushes, between, counts)
			})
		}
	}
}

// growsAgain has the next run finish on a copy what a cut in growing it has left.
func (l *lab) growsAgain(c powerCut, want found) {
	l.Helper()
	again := c.disk + ".again"
	l.sparse(c.disk, again)
	defer os.Remove(again)
	said, exit := l.byHand("grow", again)
	f := l.holds(again)
	if exit != 0 || f.fault != "" || f.isSmaller(want) || f.table != want.table || !maps.Equal(f.files, want.files) {
		l.Errorf("%s: grow again: exit status %d, %d bytes of %d, table %q, %s: %s\n%s", c.how, exit, f.bytes, want.bytes, f.table, f.fault, differing(f.files, want.files), said)
	}
}

// mends has the filesystem's own tool mend what a cut in growing it has left: of xfs that
// is the superblock's copies, and of ext4 what resize2fs does unmounted, where the kernel
// isn't allowed to grow it. btrfs leaves nothing.
func (l *lab) mends(disk, fstype string) bool {
	l.Helper()
	offset, size := int64(0), int64(0)
	if l.probed(disk, "PTTYPE", 0) != "" {
		offset, size = rootOf(disk)
	}
	args := []string{"losetup", "--show", "-f", "-o", fmt.Sprint(offset)}
	if size > 0 {
		args = append(args, "--sizelimit", fmt.Sprint(size))
	}
	dev := l.tool(append(args, disk)...)
	defer func() { l.tool("losetup", "-d", dev) }()
	switch fstype {
	case "ext4":
		exec.Command("e2fsck", "-fy", dev).Run() // 1 is that it has mended something
		return true
	case "xfs":
		l.tool("xfs_repair", dev)
		return true
	}
	return false
}

// TestAPowerCutLeavesCacheEntriesWholeOrNone records the filesystem that the cache is on.
func TestAPowerCutLeavesCacheEntriesWholeOrNone(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs"} {
		if fstype != "ext4" && !wholePower() {
			continue
		}
		t.Run(fstype, func(t *testing.T) {
			l := newCacheLab(t)
			const sizeMiB = 512
			disk, dir := filepath.Join(l.TempDir(), "cache-disk"), l.TempDir()
			must(t, os.WriteFile(disk, nil, 0o600))
			must(t, os.Truncate(disk, sizeMiB<<20))
			l.tool(map[string][]string{ // the last MiB is for a mark
				"ext4": {"mke2fs", "-q", "-F", "-t", "ext4", disk, fmt.Sprintf("%dM", sizeMiB-1)},
				"xfs":  {"mkfs.xfs", "-q", "-d", fmt.Sprintf("size=%dm", sizeMiB-1), disk},
			}[fstype]...)
			l.setting("CACHE_DIR=" + dir)
			r := l.record(disk, func(dev string) {
				l.tool("mount", dev, dir)
				log, exit := l.run("create")
				if exit == 0 {
					markEnd(l, dev, sizeMiB<<20)
				}
				l.tool("umount", dir)
				if exit != 0 {
					l.Fatalf("create: exit status %d\n%s", exit, log)
				}
			})
			whole := l.entriesOf(r.at(len(r.entries)), fstype)
			if len(whole) != 3 {
				t.Fatalf("the cache has %v, not a tar, its sidecar and an image", whole)
			}
			ended := r.numberOf(sizeMiB<<20 - 4096)
			counts := map[string]int{}
			flushes, between := r.cuts(func(c powerCut) {
				there := l.entriesOf(c.disk, fstype)
				counts[fmt.Sprintf("%d of 3 files", len(there))]++
				for name, sum := range there {
					if whole[name] != sum {
						t.Errorf("%s: %s is there and not whole: %s", c.how, name, sum)
					}
				}
				if c.entries >= ended && len(there) != 3 {
					t.Errorf("%s, after exit status 0: %v", c.how, there)
				}
			})
			tellCounts(t, r, flushes, between, counts)
		})
	}
}

// markEnd writes to the disk's end, past the filesystem, so that the record shows when.
func markEnd(l *lab, dev string, size int64) {
	l.Helper()
	f, err := os.OpenFile(dev, os.O_WRONLY|unix.O_DIRECT, 0)
	must(l, err)
	defer f.Close()
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(l, err)
	page[0] = 1
	_, err = f.WriteAt(page, size-4096)
	must(l, err)
}

// numberOf is the number of the entry that writes at an offset.
func (r *recording) numberOf(offset int64) int {
	r.Helper()
	for i, e := range r.entries {
		if e.n > 0 && e.at == offset {
			return i
		}
	}
	r.Fatalf("nothing was written at %d", offset)
	return 0
}

// entriesOf are the digests of the files in a cache's folder, after its journal was
// replayed.
func (l *lab) entriesOf(disk, fstype string) map[string]string {
	l.Helper()
	dir := l.TempDir()
	options := "loop"
	if fstype == "xfs" {
		options = "loop,nouuid"
	}
	l.tool("mount", "-t", fstype, "-o", options, disk, dir)
	sums := map[string]string{}
	names, _ := filepath.Glob(dir + "/*")
	for _, name := range names {
		if filepath.Base(name) != "lost+found" {
			st, err := os.Stat(name)
			must(l, err)
			sums[filepath.Base(name)] = fmt.Sprintf("%d bytes, %x", st.Size(), sumOf(l, name))
		}
	}
	l.tool("umount", dir)
	check := []string{"e2fsck", "-fn", disk}
	if fstype == "xfs" {
		check = []string{"xfs_repair", "-n", "-f", disk}
	}
	if out, err := exec.Command(check[0], check[1:]...).CombinedOutput(); err != nil {
		l.Errorf("%v: %v\n%s", check, err, out)
	}
	return sums
}
