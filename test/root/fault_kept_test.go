//go:build root

package root

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// moreFaultCases are those that the sample of make check is not of.
func moreFaultCases() []*faultCase {
	return []*faultCase{{verb: "create", layout: "a layout on two disks", path: "kept", set: setKept}}
}

const keptFile = "/etc/ours"

// setKept is a reinstall with all that makes steps of its own: a layout, whose second disk is
// blank, a kept file, a script for the first boot, receipts and figures.
func setKept(l *lab, c *faultCase) {
	l.firstBootTree()
	l.addToTree(func(tree string) {
		l.tool("sh", "-ec", `mkdir -p "$0/srv" "$0/opt"; echo srv >"$0/srv/file"; echo opt >"$0/opt/file"`, tree)
	})
	l.setting("KEEP_RECEIPTS=yes", "METRICS_DIR="+l.TempDir())
	l.layout("faults", "0 32M swap\n0 64M ext4 /srv\n0 rest ext4 /\n1 rest ext3 /opt\n")
	l.env["OSP_LAYOUT"], l.env["OSP_FIRST_BOOT"] = "faults", "#!/bin/sh\n"
	c.disks = []string{c.disks[0], l.blankDisk("second-disk", faultMiB)}
	l.disks(c.disks...)
	if log, exit := l.run("create"); exit != 0 {
		l.Fatal(log)
	}
	l.blank(c.disks[1])
	l.change(func(tree string) { must(l, os.WriteFile(tree+keptFile, []byte("precious"), 0o600)) })
	l.env["INSTANCE_REINSTALL"], l.env["OSP_REINSTALL_KEEP"] = "1", keptFile
	c.command = func() *exec.Cmd { return l.command("create") }
	c.outcome = c.keptOutcome
}

// keptOutcome: the kept file is in the old guest, held, or in the new guest; and the second disk
// has its name only when it is filled.
func (c *faultCase) keptOutcome(exit int) string {
	l, f := c.l, c.l.holds(c.disks[0])
	whole, _ := filepath.Glob(base + "/state/kept/*/*/held.json")
	named := strings.Contains(l.tool("sh", "-c", `sfdisk --dump "$0" 2>/dev/null || :`, c.disks[1]), `name="/opt"`)
	switch {
	case exit == 0 && len(l.held()) > 0:
		return fmt.Sprintf("success, and the node holds %q", l.held())
	case len(whole) == 0 && f.files[keptFile] != c.bench0.old.files[keptFile]:
		return "what was to be kept is nowhere: " + f.refused
	case exit == 0 && !named:
		return "success, and the second disk isn't named"
	case named:
		inside := found{}
		dev := l.tool("losetup", "--show", "-f", "-o", fmt.Sprint(1<<20), "--sizelimit", fmt.Sprint((faultMiB-2)<<20), c.disks[1])
		l.lookInside(&inside, dev, "ext3")
		l.tool("losetup", "-d", dev)
		if inside.files["/file"] == "" {
			return "the second disk is named, and not filled: " + inside.fault + inside.refused
		}
	}
	return c.guestOutcome(exit)
}
