//go:build root

package root

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/receipt"
)

// A disk that fails: qemu-storage-daemon's driver blkdebug answers the n-th write, read or
// flush with EIO, and all others as they should be; or each write or read from the n-th on; or
// each read of one sector.

// ioEvents are blkdebug's events (docs/devel/blkdebug.txt of QEMU), by what they are of.
var ioEvents = map[string]string{"write": "write_aio", "read": "read_aio", "flush": "flush_to_disk"}

// What fails for good, beside what fails once.
const (
	stays     = " and all later ones"
	badSector = "sector"
)

// failingRules makes the n-th event of a kind fail, or what is read of sector n.
func failingRules(kind string, n int) string {
	if kind == badSector {
		return fmt.Sprintf("[inject-error]\nevent = \"read_aio\"\niotype = \"read\"\nsector = \"%d\"\nerrno = \"5\"\nonce = \"off\"\n", n)
	}
	kind, forGood := strings.CutSuffix(kind, stays)
	var rules strings.Builder
	for i := 1; i < n; i++ {
		fmt.Fprintf(&rules, "[set-state]\nstate = \"%d\"\nevent = \"%s\"\nnew_state = \"%d\"\n", i, ioEvents[kind], i+1)
	}
	once := map[bool]string{false: "on", true: "off"}[forGood]
	fmt.Fprintf(&rules, "[inject-error]\nstate = \"%d\"\nevent = \"%s\"\nerrno = \"5\"\nonce = \"%s\"\n", n, ioEvents[kind], once)
	return rules.String()
}

// sectorsWithData are the first of each 4 KiB that a disk has.
func sectorsWithData(t *testing.T, disk string) (sectors []int) {
	t.Helper()
	f, err := os.Open(disk)
	must(t, err)
	defer f.Close()
	for end := int64(0); ; {
		start, err := unix.Seek(int(f.Fd()), end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return sectors
		}
		must(t, err)
		end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		must(t, err)
		for at := start; at < end; at += 4096 {
			sectors = append(sectors, int(at/512))
		}
	}
}

// failing has do work on a disk that begins as base and fails. It returns the disk
// as it is then.
func (l *lab) failing(base, kind string, n int, do func(disk string)) (file string) {
	l.Helper()
	dir := l.powerDir()
	file = filepath.Join(dir, "work")
	l.sparse(base, file)
	rules := filepath.Join(dir, "rules")
	must(l, os.WriteFile(rules, []byte(failingRules(kind, n)), 0o600))
	disks, stop := l.storage(dir, []string{"top"},
		"--blockdev", "driver=file,node-name=data,discard=unmap,detect-zeroes=off,filename="+file,
		"--blockdev", "driver=blkdebug,node-name=failing,image=data,config="+rules,
		"--blockdev", "driver=raw,node-name=top,file=failing")
	l.onDevice(disks[0], do)
	stop()
	return file
}

// failingVerb is one that works on a disk that fails.
type failingVerb struct {
	name  string
	base  func(l *lab) string
	run   func(l *lab, disk string) (log string, exit int)
	right func(l *lab, disk string, reference found) string // why the disk isn't right after exit status 0
}

var failingVerbs = []failingVerb{
	{"create", blank, runCreate("msdos", "ext4"), isWholeGuest},
	{"create by a tar", blank, runCreate("gpt", "xfs"), isWholeGuest},
	{"reinstall", used("gpt", "ext4"), runCreate("gpt", "ext4"), isWholeGuest},
	{"import of a tar", blank, runImport("gpt", "tar"), isWholeGuest},
	{"import of an image", blank, runImport("msdos", "image"), isWholeGuest},
	{"import of a dump", blank, runImport("msdos", "dump"), isWholeGuest},
	{"import of a raw image", blank, runImport("msdos", "raw"), isWholeGuest},
	{"rename", used("msdos", "ext4"), func(l *lab, disk string) (string, int) {
		l.env["DISK_0_PATH"], l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"] = disk, "old.example", "inst2.example"
		return l.run("rename")
	}, isWholeGuest},
	{"grow", func(l *lab) string {
		disk := used("gpt", "ext4")(l)
		must(l, os.Truncate(disk, 640<<20))
		return disk
	}, func(l *lab, disk string) (string, int) { return l.byHand("grow", disk) }, isWholeGuest},
	{"export", used("msdos", "ext4"), func(l *lab, disk string) (string, int) {
		l.disks(disk)
		stream, err := os.Create(filepath.Join(base, "stream"))
		must(l, err)
		defer stream.Close()
		log, _, exit := l.exportTo(stream, 0, disk)
		return log, exit
	}, isWholeStream},
}

func runCreate(style, fstype string) func(*lab, string) (string, int) {
	return func(l *lab, disk string) (string, int) {
		l.tinyTree()
		l.env["OSP_PARTITION_STYLE"], l.env["OSP_FILESYSTEM"], l.env["INSTANCE_NAME"] = style, fstype, "inst1.example"
		l.env["DISK_0_PATH"] = disk
		return l.run("create")
	}
}

func runImport(style, format string) func(*lab, string) (string, int) {
	return func(l *lab, disk string) (string, int) {
		stream := filepath.Join(base, "stream."+style+"."+format)
		if _, err := os.Stat(stream); err != nil {
			l.tool("mv", l.powerStream(style, "ext4", format), stream)
			l.Cleanup(func() { os.Remove(stream) })
		}
		l.env["OSP_PARTITION_STYLE"], l.env["OSP_FILESYSTEM"] = style, "ext4"
		l.disks(disk)
		f, err := os.Open(stream)
		must(l, err)
		defer f.Close()
		got := l.feed(f, l.importing(0, disk))
		return got.log, got.exit
	}
}

// isWholeGuest compares the disk with one of a run without a fault: what every run makes
// anew, such as the receipt, has to be there.
func isWholeGuest(l *lab, disk string, reference found) string {
	l.Helper()
	return notWhole(l.holds(disk), reference)
}

func notWhole(f, reference found) (why string) {
	if f.fault != "" || f.uuid == "" || f.table != reference.table || !f.named {
		return fmt.Sprintf("table %q, root %q, named in its fstab: %v: %s%s", f.table, f.uuid, f.named, f.fault, f.refused)
	}
	for name, what := range reference.files {
		if got := f.files[name]; got != what && (got == "" || !slices.Contains([]string{"/etc/fstab", "/etc/udev/rules.d/61-instance-debootstrap.rules", receipt.File}, name)) {
			return fmt.Sprintf("%s is %q, not %q", name, got, what)
		}
	}
	return ""
}

// isWholeStream imports what was exported.
func isWholeStream(l *lab, _ string, reference found) string {
	l.Helper()
	disk, env := filepath.Join(l.TempDir(), "imported"), maps.Clone(l.env)
	defer func() { l.env = env }()
	l.env = maps.Clone(env)
	must(l, os.WriteFile(disk, nil, 0o600))
	must(l, os.Truncate(disk, powerMiB<<20))
	f, err := os.Open(filepath.Join(base, "stream"))
	must(l, err)
	defer f.Close()
	l.disks(disk)
	if got := l.feed(f, l.importing(0, disk)); got.exit != 0 {
		return "what was exported can't be imported: " + got.log
	}
	return isWholeGuest(l, disk, reference)
}

// faults are the kinds and numbers to try: all up to so many of each, or that many, spread
// by a seed.
func faults(t *testing.T, events map[string]int) (chosen []struct {
	kind string
	n    int
}) {
	t.Helper()
	most := int(attackNumber(t, "POWER_CUTS", 3))
	random := rand.New(rand.NewPCG(attackNumber(t, "POWER_SEED", 1), 1))
	for _, kind := range slices.Sorted(maps.Keys(events)) {
		numbers := random.Perm(events[kind])
		for _, n := range numbers[:min(most, len(numbers))] {
			chosen = append(chosen, struct {
				kind string
				n    int
			}{kind, n + 1})
		}
	}
	return chosen
}

func TestAnIOErrorIsNeverToldAsSuccess(t *testing.T) {
	for _, v := range failingVerbs {
		if v.name != "create" && v.name != "rename" && !wholePower() {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			l := newMoveLab(t, powerMiB)
			base, env := v.base(l), maps.Clone(l.env)
			run := func(disk string) (log string, exit int) {
				l.env = maps.Clone(env)
				return v.run(l, disk)
			}
			r := l.record(base, func(disk string) {
				if log, exit := run(disk); exit != 0 {
					t.Fatalf("without a fault: exit status %d\n%s", exit, log)
				}
			})
			reference := l.holds(r.at(len(r.entries)))
			counts := map[string]int{}
			sectors := sectorsWithData(t, base)
			for _, fault := range faults(t, map[string]int{
				"write": r.writes(), "flush": len(r.flushes()), "read": 60,
				"write" + stays: r.writes(), "read" + stays: 60, badSector: len(sectors),
			}) {
				if fault.kind == badSector {
					fault.n = sectors[fault.n-1]
				}
				counts[l.withFault(v, base, fault.kind, fault.n, run, reference)]++
			}
			if r.writes() > 0 && counts["write"+stays+" failed: told"] == 0 {
				t.Error("no write has failed")
			}
			t.Logf("POWER %s | %v", t.Name(), counts)
		})
	}
}

// withFault is one run on a disk that fails.
func (l *lab) withFault(v failingVerb, base, kind string, n int, run func(string) (string, int), reference found) (how string) {
	l.Helper()
	var log string
	var exit int
	var name string
	file := l.failing(base, kind, n, func(disk string) {
		name = disk
		log, exit = run(disk)
	})
	if exit == 0 {
		if why := v.right(l, file, reference); why != "" {
			l.Errorf("EIO at %s %d: exit status 0, but: %s\n%s", kind, n, why, log)
		}
		l.tool("umount", "-l", filepath.Dir(file))
		return kind + " not seen, or made good: whole"
	}
	l.tool("umount", "-l", filepath.Dir(file))
	if exit != 1 || !strings.Contains(log, name) {
		l.Errorf("EIO at %s %d: exit status %d, and the message doesn't name the disk %s:\n%s", kind, n, exit, name, log)
	}
	if last := (fed{log: log}).last(); !strings.Contains(last, "input/output error") && !strings.Contains(last, "Input/output error") {
		l.Logf("EIO at %s %d: last line: %s", kind, n, last)
	}
	return kind + " failed: told"
}
