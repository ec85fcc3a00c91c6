//go:build root

package root

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a run that has ended left half made can't be read either, but that is known by its table,
// or by its filesystem's UUID.

// unreadable are what makes a filesystem so that lies at a byte of a disk.
var unreadable = map[string]string{
	"of another's features":  `debugfs -w -R "set_super_value feature_incompat 0x40000000" "$0?offset=$1"`,
	"its superblock damaged": `dd if=/dev/urandom of="$0" bs=512 seek=$(($1 / 512)) count=8 conv=notrunc status=none`,
}

// damage makes the filesystem of the disk's guest so.
func (l *lab) damage(how string) {
	l.Helper()
	offset, _ := rootOf(l.disk)
	l.tool("sh", "-ec", how, l.disk, fmt.Sprint(offset))
}

// holdsOfAFailedOne has files held of a reinstall that failed in a hook.
func (l *lab) holdsOfAFailedOne(style string) {
	l.Helper()
	l.env["OSP_PARTITION_STYLE"] = style
	l.keepsAs("/srv/app", l.app)
	l.hook("10-fails", "false")
	l.fails("kept of the old guest is in")
	must(l, os.Remove(base+"/conf/hooks/10-fails"))
}

func (l *lab) hasData() {
	l.Helper()
	l.holdsNothing()
	l.mounted(func(tree string) {
		if got := l.tool("cat", tree+"/srv/app/file"); got != "data" {
			l.Error(got)
		}
	})
}

func TestAGuestThatCannotBeReadIsNotTakenForAHalfMadeOne(t *testing.T) {
	for _, style := range []string{"msdos", "none"} {
		for how, damage := range unreadable {
			t.Run(style+", "+how, func(t *testing.T) {
				l := newLab(t, 600)
				l.holdsOfAFailedOne(style)
				l.env["OSP_REINSTALL_KEEP"] = "none"
				l.create()
				l.damage(damage)
				before := sumOf(t, l.disk)
				l.env["OSP_REINSTALL_KEEP"] = "/srv/app"
				l.matches(l.fails("isn't what a run has begun to make with them"), "run wipefs --all on the disk and zero its first MiB, .*REINSTALL_KEEP=none")
				if sumOf(t, l.disk) != before || len(l.held()) != 1 {
					t.Errorf("the disk was changed, or held are %q", l.held())
				}
				l.tool("wipefs", "--all", "--force", l.disk) // it is a file
				l.tool("dd", "if=/dev/zero", "of="+l.disk, "bs=1M", "count=1", "conv=notrunc")
				l.create()
				l.hasData()
			})
		}
	}
}

func TestAGuestWithADamagedSuperblockIsNotTakenForNone(t *testing.T) {
	for _, style := range []string{"msdos", "none"} {
		t.Run(style, func(t *testing.T) {
			l := newLab(t, 600)
			l.env["OSP_PARTITION_STYLE"] = style
			l.keepsAs("/srv/app", l.app)
			l.damage(unreadable["its superblock damaged"])
			before := sumOf(t, l.disk)
			l.fails("REINSTALL_KEEP=none installs it all the same")
			if sumOf(t, l.disk) != before {
				t.Error("the disk was changed")
			}
			plan := l.byHandCommand("plan", "create")
			for name, value := range l.env {
				plan.Env = append(plan.Env, name+"="+value)
			}
			if said, err := plan.CombinedOutput(); err == nil || !strings.Contains(string(said), "refused: disk "+l.disk+" holds nothing known") {
				t.Errorf("%v\n%s", err, said)
			}
		})
	}
}

func TestWhatAKilledReinstallLeftUnreadableIsKnown(t *testing.T) {
	for _, style := range []string{"msdos", "none"} {
		for how, damage := range unreadable {
			for _, tool := range []string{"", "tune2fs"} { // which gives the image's copy its own UUID
				t.Run(style+", "+how+", "+tool, func(t *testing.T) {
					l := newLab(t, 600)
					l.env["OSP_PARTITION_STYLE"] = style
					l.keepsAs("/srv/app", l.app)
					l.hook("10-fails", "false")
					if tool != "" {
						l.fake(tool, "false")
					}
					l.fails("kept of the old guest is in")
					os.Remove(base + "/conf/hooks/10-fails")
					if tool != "" {
						must(t, os.Remove(filepath.Join(l.fakes, tool)))
					}
					l.damage(damage)
					l.create()
					l.hasData()
				})
			}
		}
	}
}
