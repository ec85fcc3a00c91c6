//go:build root

package root

import (
	"fmt"
	"os"
	"testing"
)

// A further disk of a layout is taken as it is only when a create has filled it.
func TestAFurtherDiskThatACreateDidNotFillIsNotTakenForAGuests(t *testing.T) {
	l := layoutLab(t, 800, "0 rest ext4 /\n1 100M swap\n1 rest ext3 /srv\n")
	l.addToTree(func(tree string) { must(t, os.WriteFile(tree+"/srv/from-tree", nil, 0o644)) })
	second := l.blankDisk("second-disk", 600)
	l.disks(l.disk, second)
	l.hook("10-fails", "false")
	l.fails("10-fails")
	must(t, os.Remove(base+"/conf/hooks/10-fails"))
	l.create()
	l.on(second, func() {
		l.hasLayout([]string{"1 swap swap", "2 /srv ext3"})
		dev, dir := l.partitionLoop(2), t.TempDir()
		l.tool("mount", "-o", "ro", dev, dir)
		if _, err := os.Stat(dir + "/from-tree"); err != nil {
			t.Error(err)
		}
		l.tool("umount", dir)
		l.tool("losetup", "-d", dev)
	})
	l.blank(second)
	l.hook("10-slow", fmt.Sprintf("exec -a %s sleep 1000", mark()))
	if !l.killed(l.running(), kills["SIGKILL"]) {
		t.Fatal("create ended before it was killed")
	}
	must(t, os.Remove(base+"/conf/hooks/10-slow"))
	l.matches(l.fails("disk 1 ("), `isn't what the layout says \(its partition 1 isn't called swap\), and only a blank disk is partitioned`)
}
