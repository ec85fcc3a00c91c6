//go:build root

package root

import (
	"os"
	"path/filepath"
	"testing"
)

// The new table has the partitions where the old guest's were: what ended before their
// filesystems were made must not be seen with the old guest's /var, and its receipt.
func TestAReinstallThatEndedBeforeItsFoldersWereMadeGoesOnWithWhatItKept(t *testing.T) {
	l := layoutLab(t, 1200, serverLayout)
	l.create()
	dev, dir := l.partitionLoop(1), t.TempDir()
	l.tool("mount", dev, dir)
	must(t, os.WriteFile(dir+"/etc/ours", []byte("precious"), 0o644))
	l.tool("umount", dir)
	l.tool("losetup", "-d", dev)
	l.env["OSP_REINSTALL_KEEP"], l.env["INSTANCE_REINSTALL"] = "/etc/ours", "1"
	l.fake("mke2fs", "exit 1")
	l.fails("/boot: make ext4 on ")
	must(t, os.Remove(filepath.Join(l.fakes, "mke2fs")))
	l.create()
	l.hasTree()
	l.wholeTree(func(tree string) {
		if got := l.tool("cat", tree+"/etc/ours"); got != "precious" {
			t.Error(got)
		}
	})
}
