//go:build root

package root

import (
	"os"
	"strings"
	"testing"
)

// TestAGuestsFilesystemIsMountedOnlyAfterAFullCheckWhereThatIsWanted damages filesystems
// that go on calling themselves clean, which e2fsck -p and the kernel take for it.
func TestAGuestsFilesystemIsMountedOnlyAfterAFullCheckWhereThatIsWanted(t *testing.T) {
	for fstype, damage := range map[string]func(*lab){
		// Two files with one block: for a person to decide.
		"ext4": func(l *lab) {
			block := strings.Fields(l.tool("debugfs", "-R", "bmap /etc/passwd 0", l.disk))
			l.tool("debugfs", "-w", "-R", "set_inode_field /etc/shadow block[5] "+block[len(block)-1], l.disk)
		},
		"xfs": func(l *lab) { l.tool("xfs_db", "-x", "-c", "agf 0", "-c", "write -d freeblks 3", l.disk) },
	} {
		t.Run(fstype, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.guest("none", fstype)
			damage(l)
			before := sumOf(t, l.disk)
			dir := t.TempDir()
			look := func() (out string, exits []int) {
				for _, args := range [][]string{{"inspect", l.disk}, {"mount", "--read-only", l.disk, dir}} {
					text, exit := l.here(args...)
					out, exits = out+text, append(exits, exit)
				}
				return out, exits
			}
			out, exits := look()
			if exits[1] != 0 || strings.Contains(out, "GUEST_FSCK") {
				t.Fatalf("without a full check: %v\n%s", exits, out)
			}
			l.tool("umount", dir)
			l.write("default", "GUEST_FSCK=full\n", 0o644)
			out, exits = look()
			if exits[1] == 0 || strings.Count(out, "GUEST_FSCK=full: it isn't mounted") != 2 {
				t.Errorf("%v\n%s", exits, out)
			}
			l.env["NEW_INSTANCE_NAME"], l.env["OLD_INSTANCE_NAME"] = "new.example", "inst1.example"
			for _, verb := range []string{"rename", "export"} {
				if verb == "export" {
					l.env["EXPORT_DEVICE"], l.env["EXPORT_INDEX"] = l.disk, "0"
				}
				if log, exit := l.run(verb); exit == 0 || !strings.Contains(log, "GUEST_FSCK=full") && !strings.Contains(log, "e2fsck") {
					t.Errorf("%s: exit status %d\n%s", verb, exit, log)
				}
			}
			if fstype == "xfs" && sumOf(t, l.disk) != before {
				t.Error("the disk has changed")
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
				t.Errorf("something is mounted: %v %v", entries, err)
			}
		})
	}
}

func TestAWholeFilesystemIsMountedAfterItsFullCheck(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.guest("msdos", fstype)
			l.write("default", "GUEST_FSCK=full\n", 0o644)
			for _, args := range [][]string{{"inspect", l.disk}, {"grow", l.disk}} {
				if out, exit := l.here(args...); exit != 0 || strings.Contains(out, "isn't mounted") {
					t.Errorf("%v: exit status %d\n%s", args, exit, out)
				}
			}
			l.mount()
		})
	}
}
