//go:build root

package root

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"strings"
	"testing"

	"instance-debootstrap/pkg/receipt"
)

// layoutCase is a guest on several filesystems, whose create is recorded.
type layoutCase struct {
	name      string
	layout    string
	sizes     []int64 // of its disks, in MiB
	reinstall bool
	always    bool // in every check
	ownBoot   bool // the second disk is for /boot
	// filesystem is the root's; "" is ext4
	filesystem string
}

const powerLayout = "0 64M ext4 /boot\n0 32M swap\n0 96M ext4 /var\n0 64M ext2 /srv\n"

// The disks of a case lie side by side on one that is recorded, so that what is written to one
// and what to another have one order.
var layoutCases = []layoutCase{
	{name: "create of a layout with a /var", layout: "0 96M ext4 /var\n0 rest ext4 /\n", sizes: []int64{520}, always: true},
	{name: "create of a layout", layout: powerLayout + "0 rest ext4 /\n", sizes: []int64{520}},
	{name: "reinstall of a layout", layout: powerLayout + "0 rest ext4 /\n", sizes: []int64{520}, reinstall: true},
	{name: "create of a layout, the receipt on xfs", layout: "0 64M ext4 /boot\n0 320M xfs /var\n0 rest ext4 /\n", sizes: []int64{800}},
	{name: "create of a layout on two disks", layout: "0 64M ext4 /boot\n0 96M ext4 /var\n0 rest ext4 /\n1 rest ext2 /srv\n", sizes: []int64{520, 520}},
	{name: "create with a disk for /boot", sizes: []int64{520, 520}, always: true, ownBoot: true, filesystem: "ext2"},
}

// buildWithBootDisk builds a program whose create takes the instance's second disk for /boot, as
// vm create does with a volume of the guest's, and has the lab use it until the test's end.
func buildWithBootDisk(t *testing.T) {
	t.Helper()
	buildChanged(t, map[string][2]string{"os/debootstrap/create.go": {
		"m := install.Measure(s, o.Request.Variant)\n",
		"o.BootPath = o.Request.Disks[1].Path\n\tm := install.Measure(s, o.Request.Variant)\n",
	}})
}

// sideBySide has look called with a loop device over each of several disks that lie on one.
func (l *lab) sideBySide(disk string, sizes []int64, look func(disks []string)) {
	l.Helper()
	var disks []string
	at := int64(0)
	for _, mib := range sizes {
		dev := l.tool("losetup", "--show", "-f", "-o", fmt.Sprint(at<<20), "--sizelimit", fmt.Sprint(mib<<20), disk)
		defer exec.Command("losetup", "-d", dev).Run()
		disks, at = append(disks, dev), at+mib
	}
	look(disks)
}

// holdsWhole is holds of a guest with filesystems beside its root's: their files are among the
// root's, in their folders.
func (l *lab) holdsWhole(disk string, c layoutCase) (f found) {
	l.Helper()
	l.sideBySide(disk, c.sizes, func(disks []string) {
		f = l.holds(disks[0])
		for i, disk := range disks {
			for _, p := range tableParts(disk) {
				folder := p.Name
				if c.ownBoot && i == 1 {
					folder = "/boot"
				}
				if !strings.HasPrefix(folder, "/") || f.files == nil && i == 0 {
					continue
				}
				g := l.holdsAt(disk, p.Start*512, p.Size*512)
				if i > 0 && !c.ownBoot { // the next create leaves alone what has a folder's name
					f.further = g.files
				}
				if f.files == nil {
					continue
				}
				if f.fault == "" {
					f.fault = g.fault
				}
				for name, what := range g.files {
					f.files[folder+": "+name] = what
					if folder+name == receipt.File {
						f.files[receipt.File] = what
					}
				}
			}
		}
	})
	return f
}

// tablePlace is a partition, in sectors.
type tablePlace struct {
	Name, Type  string
	Start, Size int64
}

// tableParts are a disk's partitions; none where there is no table.
func tableParts(disk string) []tablePlace {
	out, err := exec.Command("sfdisk", "--json", disk).Output()
	if err != nil {
		return nil
	}
	var dump struct {
		Table struct{ Partitions []tablePlace } `json:"partitiontable"`
	}
	if json.Unmarshal(out, &dump) != nil {
		return nil
	}
	return dump.Table.Partitions
}

// creates is a create of the case's guest.
func (c layoutCase) creates(l *lab, name string) func(disks []string) {
	return func(disks []string) {
		l.Helper()
		l.env["INSTANCE_NAME"], l.env["OSP_BOOTLOADER"] = name, "none"
		l.env["OSP_FILESYSTEM"] = cmp.Or(c.filesystem, "ext4")
		whole := l.disk
		l.disks(disks...)
		log, exit := l.run("create")
		if l.disk = whole; exit != 0 {
			l.Fatalf("create: exit status %d\n%s", exit, log)
		}
	}
}

// bytes are the sizes of its disks.
func (c layoutCase) bytes() (sizes []int64) {
	for _, mib := range c.sizes {
		sizes = append(sizes, mib<<20)
	}
	return sizes
}

func TestAPowerCutInACreateOnSeveralFilesystemsLeavesNoReceiptOfAGuestThatIsNotWhole(t *testing.T) {
	for _, c := range layoutCases {
		if !c.always && !wholePower() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			total := int64(0)
			for _, mib := range c.sizes {
				total += mib
			}
			if c.ownBoot {
				buildWithBootDisk(t)
			}
			l := layoutLab(t, total, c.layout)
			l.addToTree(func(tree string) {
				l.tool("sh", "-ec", `cd "$1"; mkdir -p boot; for f in boot/kernel srv/large var/lib/large; do head -c 4M /dev/urandom >$f; done`, "-", tree)
			})
			if c.layout == "" {
				delete(l.env, "OSP_LAYOUT")
			}
			l.fake("cp", `sync --file-system "${@: -2:1}"; exec /bin/cp "$@"`) // as somebody on the node may
			whole := l.disk
			if c.reinstall {
				l.sideBySide(whole, c.sizes, c.creates(l, "old.example"))
			}
			r := l.recordDisks(whole, c.bytes(), c.creates(l, "inst1.example"))
			before, after := l.holdsWhole(r.at(0), c), l.holdsWhole(r.at(len(r.entries)), c)
			if after.uuid == "" || after.fault != "" || after.files[receipt.File] == "" || after.files["/boot: /kernel"]+after.files["/var: /lib/large"] == "" {
				t.Fatalf("the new guest is not whole: %s\n%q", after.fault, after.files)
			}
			counts := map[string]int{}
			flushes, between := r.cuts(func(cut powerCut) {
				f := l.holdsWhole(cut.disk, c)
				state, wrong := judged(f, before, after)
				counts[state]++
				if wrong == "" && f.further != nil && !maps.Equal(f.further, after.further) {
					wrong = "whose second disk has its name, and isn't whole: " + differing(f.further, after.further)
				}
				if wrong != "" {
					t.Errorf("%s: %s %s", cut.how, state, wrong)
				}
				if cut.last && state != isNew {
					t.Errorf("%s, after exit status 0: %s", cut.how, state)
				}
			})
			if counts[isUnfinished] == 0 || counts[isNew] == 0 {
				t.Errorf("the cuts came to %v only", counts)
			}
			tellCounts(t, r, flushes, between, counts)
		})
	}
}
