//go:build root

package root

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A disk that is a file: what is recorded is the filesystem that it lies on, ext4.

// onDevice has do work on a loop device over a file, which it must leave free.
func (l *lab) onDevice(file string, do func(disk string)) {
	l.Helper()
	l.onDevices([]string{file}, func(devices []string) { do(devices[0]) })
}

// onDevices is onDevice of several files.
func (l *lab) onDevices(files []string, do func(devices []string)) {
	l.Helper()
	var devices []string
	for _, file := range files {
		dev := l.tool("losetup", "--show", "-f", file)
		defer exec.Command("losetup", "-d", dev).Run()
		// What FUSE gets in one piece fails as a whole; of two pieces, a loop device of Linux 6.18 at
		// least takes the first one's success for both.
		must(l, os.WriteFile("/sys/block/"+filepath.Base(dev)+"/queue/max_sectors_kb", []byte("512"), 0o644))
		devices = append(devices, dev)
	}
	before := l.disk
	l.disk = devices[0]
	do(devices)
	for _, file := range files {
		l.cleanBut(devices, file)
	}
	l.disk = before
}

// onRecordedFile has do work on a file, which is as base is, and returns the record, and the
// number of the entry that was written when do had ended.
func (l *lab) onRecordedFile(base string, do func(file string)) (r *recording, ended int) {
	l.Helper()
	const sizeMiB = 1536
	disk, dir := filepath.Join(l.TempDir(), "host-disk"), l.TempDir()
	must(l, os.WriteFile(disk, nil, 0o600))
	must(l, os.Truncate(disk, sizeMiB<<20))
	l.tool("mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0", disk, fmt.Sprintf("%dM", sizeMiB-1)) // the last MiB is for a mark
	l.tool("mount", "-o", "loop", disk, dir)
	l.sparse(base, dir+"/guest")
	l.tool("umount", dir)
	r = l.record(disk, func(dev string) {
		l.tool("mount", dev, dir)
		defer l.tool("umount", dir)
		do(dir + "/guest")
		markEnd(l, dev, sizeMiB<<20)
	})
	return r, r.numberOf(sizeMiB<<20 - 4096)
}

// fileOf is a copy of the guest's file, as it is after the journal of the filesystem that it lies
// on was replayed.
func (l *lab) fileOf(disk string) string {
	l.Helper()
	dir, file := l.TempDir(), filepath.Join(l.TempDir(), "guest")
	l.tool("mount", "-o", "loop", disk, dir)
	l.sparse(dir+"/guest", file)
	l.tool("umount", dir)
	return file
}

// TestAPowerCutInAGrowthOfAFileLosesNoGuest has the file made longer beforehand, as libvirt does
// for vm grow and Ganeti for grow-disk, which don't flush it.
func TestAPowerCutInAGrowthOfAFileLosesNoGuest(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs", "btrfs"} {
		if fstype != "ext4" && !wholePower() {
			continue
		}
		t.Run(fstype, func(t *testing.T) {
			l := newLab(t, powerMiB)
			l.guest("msdos", fstype)
			const grownBytes = (powerMiB + 128) << 20
			r, ended := l.onRecordedFile(l.disk, func(file string) {
				must(t, os.Truncate(file, grownBytes))
				if said, exit := l.byHand("grow", file); exit != 0 {
					l.Fatalf("grow: exit status %d\n%s", exit, said)
				}
			})
			before, after := l.holds(l.fileOf(r.at(0))), l.holds(l.fileOf(r.at(len(r.entries))))
			if after.fault != "" || !maps.Equal(before.files, after.files) || len(after.files) < 10 {
				t.Fatalf("grow has changed the guest: %s %s", after.fault, differing(after.files, before.files))
			}
			counts := map[string]int{}
			flushes, between := r.cuts(func(c powerCut) {
				file := l.fileOf(c.disk)
				defer os.Remove(file)
				st, err := os.Stat(file)
				must(t, err)
				state := "not yet longer"
				if st.Size() == grownBytes {
					state = "longer"
					l.growsAgain(powerCut{disk: file, how: c.how}, after)
				}
				f := l.holds(file)
				if f.fault != "" && l.mends(file, fstype) {
					state += ", whole once mended"
					f = l.holds(file)
				}
				counts[state]++
				if f.fault != "" || f.uuid != before.uuid || f.table != before.table || !maps.Equal(f.files, before.files) {
					t.Errorf("%s: table %q, root %q, %s: %s", c.how, f.table, f.uuid, f.fault, differing(f.files, before.files))
				}
				if c.entries >= ended && state != "longer" {
					t.Errorf("%s, after exit status 0: %s", c.how, state)
				}
			})
			tellCounts(t, r, flushes, between, counts)
		})
	}
}

func TestAPowerCutInACreateOnAFileLeavesNoGuestOrTheNewOne(t *testing.T) {
	for _, c := range []powerCase{
		{name: "by an image", base: blank, do: creates("msdos", "ext4"), always: true},
		{name: "by a tar over an old guest", base: used("gpt", "ext4"), do: creates("gpt", "xfs")},
	} {
		if !c.always && !wholePower() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			l := newMoveLab(t, powerMiB)
			r, ended := l.onRecordedFile(c.base(l), func(file string) { c.do(l, file) })
			before, after := l.holds(l.fileOf(r.at(0))), l.holds(l.fileOf(r.at(len(r.entries))))
			if after.uuid == "" || after.fault != "" || len(after.files) < 10 {
				t.Fatalf("the new guest is not whole: %v", after.fault)
			}
			counts := map[string]int{}
			flushes, between := r.cuts(func(c powerCut) {
				file := l.fileOf(c.disk)
				defer os.Remove(file)
				state, wrong := judged(l.holds(file), before, after)
				counts[state]++
				if wrong != "" {
					t.Errorf("%s: %s %s", c.how, state, wrong)
				}
				if c.entries >= ended && state != isNew {
					t.Errorf("%s, after exit status 0: %s", c.how, state)
				}
			})
			tellCounts(t, r, flushes, between, counts)
		})
	}
}
