//go:build root

package root

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// powerCase is a verb whose writes are recorded.
type powerCase struct {
	name   string
	base   func(l *lab) string // makes the disk before
	do     func(l *lab, disk string)
	always bool // in every check
	strict bool // nothing leads to what isn't whole
}

const powerMiB = 512

// blank is a disk without anything.
func blank(l *lab) string { return l.disk }

// used is a disk with a guest on it, of another tree.
func used(style, fstype string) func(l *lab) string {
	return func(l *lab) string {
		l.tinyTree()
		l.env["OSP_PARTITION_STYLE"], l.env["OSP_FILESYSTEM"], l.env["INSTANCE_NAME"] = style, fstype, "old.example"
		l.create()
		l.change(func(tree string) {
			for i := range 200 {
				must(l, os.WriteFile(fmt.Sprintf("%s/usr/share/old-%d", tree, i), []byte(strings.Repeat(fmt.Sprint(i), 3000)), 0o644))
			}
		})
		return l.disk
	}
}

// creates is create, as a new guest.
func creates(style, fstype string) func(l *lab, disk string) {
	return func(l *lab, disk string) {
		l.tinyTree()
		l.env["OSP_PARTITION_STYLE"], l.env["OSP_FILESYSTEM"], l.env["INSTANCE_NAME"] = style, fstype, "inst1.example"
		l.env["DISK_0_PATH"] = disk
		if log, exit := l.run("create"); exit != 0 {
			l.Fatalf("create: exit status %d\n%s", exit, log)
		}
	}
}

// restores is import of a backup in this format.
func restores(style, fstype, format string) func(l *lab, disk string) {
	return func(l *lab, disk string) {
		stream := l.powerStream(style, fstype, format)
		l.env["OSP_PARTITION_STYLE"], l.env["OSP_FILESYSTEM"] = style, fstype
		l.disks(disk)
		f, err := os.Open(stream)
		must(l, err)
		defer f.Close()
		if got := l.feed(f, l.importing(0, disk)); got.exit != 0 {
			l.Fatalf("import: exit status %d\n%s", got.exit, got.log)
		}
	}
}

// powerStream is a backup of a guest that is like the old one in nothing.
func (l *lab) powerStream(style, fstype, format string) string {
	l.Helper()
	source := newSourceDisk(l, style, fstype)
	stream := filepath.Join(l.TempDir(), "stream."+format)
	switch format {
	case "raw":
		l.sparse(source, stream)
		return stream
	case "dump":
		offset, size := rootOf(source)
		l.tool("sh", "-e", "-c", fmt.Sprintf(`dev=$(losetup --show -r -f -o %d --sizelimit %d %s); dump -0 -q -f %s $dev 2>&1; losetup -d $dev`, offset, size, source, stream))
		return stream
	}
	env := maps.Clone(l.env)
	defer func() { l.env = env }()
	l.env = maps.Clone(env)
	l.env["EXPORT_FORMAT"], l.env["OSP_EXPORT_FORMAT"] = format, format
	l.disks(source)
	return l.export(0, source)
}

// newSourceDisk is another instance's disk, with its guest.
func newSourceDisk(l *lab, style, fstype string) string {
	l.Helper()
	disk, env := l.disk, maps.Clone(l.env)
	defer func() { l.disk, l.env = disk, env }()
	l.env = maps.Clone(env)
	l.disk = filepath.Join(l.TempDir(), "source-disk")
	must(l, os.WriteFile(l.disk, nil, 0o600))
	must(l, os.Truncate(l.disk, powerMiB<<20))
	l.tinyTree()
	l.env["DISK_0_PATH"], l.env["INSTANCE_NAME"] = l.disk, "inst1.example"
	l.env["OSP_PARTITION_STYLE"], l.env["OSP_FILESYSTEM"] = style, fstype
	l.create()
	return l.disk
}

var powerCases = []powerCase{
	{name: "create by an image, ext4 in msdos", base: blank, do: creates("msdos", "ext4")},
	{name: "create by an image, ext4 in gpt", base: blank, do: creates("gpt", "ext4")},
	{name: "create by a tar, xfs in gpt", base: blank, do: creates("gpt", "xfs")},
	{name: "create without a table", base: blank, do: creates("none", "ext4")},
	{name: "reinstall by an image, ext4 in msdos", base: used("msdos", "ext4"), do: creates("msdos", "ext4"), always: true},
	{name: "reinstall by an image, ext4 in gpt", base: used("gpt", "ext4"), do: creates("gpt", "ext4")},
	{name: "reinstall by a tar, xfs in msdos over xfs", base: used("msdos", "xfs"), do: creates("msdos", "xfs")},
	{name: "reinstall without a table", base: used("none", "ext4"), do: creates("none", "ext4")},
	{name: "import of a tar, gpt over msdos", base: used("msdos", "ext4"), do: restores("gpt", "ext4", "tar"), always: true, strict: true},
	{name: "import of a tar, msdos", base: used("msdos", "ext4"), do: restores("msdos", "ext4", "tar"), strict: true},
	{name: "import of an image, msdos", base: used("msdos", "ext4"), do: restores("msdos", "ext4", "image"), strict: true},
	{name: "import of an image, gpt", base: used("gpt", "ext4"), do: restores("gpt", "ext4", "image"), strict: true},
	{name: "import of a dump, msdos", base: used("msdos", "ext4"), do: restores("msdos", "ext4", "dump"), strict: true},
	{name: "import of a raw image, msdos", base: used("msdos", "ext4"), do: restores("msdos", "ext4", "raw"), strict: true},
	{name: "import of a tar, without a table", base: used("none", "ext4"), do: restores("none", "ext4", "tar")},
	{name: "import of an image, without a table", base: used("none", "ext4"), do: restores("none", "ext4", "image")},
}

// wholePower tells whether all cases are to be tried, and not a sample.
func wholePower() bool { return os.Getenv("POWER_CUTS") != "" }

func TestAPowerCutLeavesTheOldGuestOrNoGuestOrTheNewOne(t *testing.T) {
	for _, c := range powerCases {
		if !c.always && !wholePower() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			l := newMoveLab(t, powerMiB)
			r := l.record(c.base(l), func(disk string) { c.do(l, disk) })
			before := l.holds(r.at(0))
			after := l.holds(r.at(len(r.entries)))
			if after.uuid == "" || after.fault != "" || len(after.files) < 10 {
				t.Fatalf("the new guest is not whole: %v", after.fault)
			}
			if c.strict && (after.tableID == "" || after.tableID == before.tableID) {
				t.Fatalf("the new table %q can't be told from the old one, %q", after.tableID, before.tableID)
			}
			counts, strict := map[string]int{}, c.strict
			flushes, between := r.cuts(func(c powerCut) {
				f := l.holds(c.disk)
				state, wrong := judged(f, before, after)
				counts[state]++
				isNewTable := f.table != "" && f.tableID == after.tableID
				if wrong == "" && strict && (state == isUnfinished || state == isNothing && isNewTable) {
					wrong = "that the table leads to"
				}
				if wrong != "" {
					t.Errorf("%s: %s %s", c.how, state, wrong)
				}
				if c.last && state != isNew {
					t.Errorf("%s, after exit status 0: %s", c.how, state)
				}
			})
			tellCounts(t, r, flushes, between, counts)
		})
	}
}

func tellCounts(t *testing.T, r *recording, flushes, between int, counts map[string]int) {
	t.Helper()
	var text []string
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		text = append(text, fmt.Sprintf("%s %d", state, counts[state]))
	}
	t.Logf("POWER %s | %d writes, %d flushes, %d cuts at flushes, %d between: %s", t.Name(), r.writes(), len(r.flushes()), flushes, between, strings.Join(text, ", "))
}
