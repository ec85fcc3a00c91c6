//go:build root

package root

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// protected is a lab whose hooks may write to one folder of the node's beside TARGET.
func protected(t *testing.T) (l *lab, zone, open string) {
	l = newLab(t, 600)
	l.tinyTree()
	zone, open = base+"/conf/zoneinfo", base+"/conf/open"
	l.write("conf/zoneinfo", "the node's\n", 0o644)
	must(t, os.MkdirAll(open, 0o755))
	l.write("default", "SUITE=trixie\nARCH=amd64\nPROTECT_NODE=yes\nNODE_WRITABLE=/run,"+open+"\n", 0o644)
	return l, zone, open
}

// Many hooks set the time zone so, and the guest's link is absolute.
func TestAHookThatFollowsAGuestsLinkLeavesTheNodeAsItIs(t *testing.T) {
	l, zone, _ := protected(t)
	l.hook("50-zone", `ln -s `+zone+` "$TARGET/etc/localtime"; echo UTC >"$TARGET/etc/localtime"`)
	l.fails("PROTECT_NODE=yes: the node is read-only to hooks")
	if got := l.tool("cat", zone); got != "the node's" {
		t.Errorf("the node's file is %q", got)
	}
	l.write("default", "SUITE=trixie\nARCH=amd64\n", 0o644)
	l.create()
	if got := l.tool("cat", zone); got != "UTC" {
		t.Errorf("without PROTECT_NODE the hook wrote %q: the test shows nothing", got)
	}
}

func TestHooksOfAProtectedNodeCanDoTheirWork(t *testing.T) {
	l, zone, open := protected(t)
	l.hook("10-works", `set -e
echo "$$" >`+open+`/written; echo x >/dev/null; mktemp /run/hook-XXXXXX | xargs rm
mkdir "$TARGET/dev" "$TARGET/mnt"; mount --bind /dev "$TARGET/dev"; mount -t proc proc "$TARGET/mnt"
test -e "$TARGET/mnt/self/mounts"; echo x >"$TARGET/dev/null"
dd if=/dev/zero of="$BLOCKDEV" bs=1 count=1 seek=300 conv=notrunc status=none
for file in `+zone+` /etc/`+mark()+` /usr/`+mark()+` /proc/sys/kernel/hostname; do (: >>"$file") 2>/dev/null && echo "could write $file"; done
umount "$TARGET/mnt"
exec sleep 1000 `+"2>&1 >/dev/null &")
	l.hook("20-next", `mountpoint -q "$TARGET/dev" && echo "the next hook sees the mount"; echo done >"$TARGET/etc/done"`)
	log := l.create()
	has(t, log, "the next hook sees the mount")
	if strings.Contains(log, "could write") {
		t.Error(log)
	}
	if got := l.guestFile("etc/done"); got != "done\n" {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(open + "/written"); err != nil {
		t.Error(err)
	}
	if flags := l.tool("findmnt", "-n", "-o", "OPTIONS", "-T", base); strings.HasPrefix(flags, "ro") {
		t.Errorf("the node's own mounts changed: %s", flags)
	}
}

func TestProtectNodeThatCannotBeIsRefusedBeforeTheDiskIsTouched(t *testing.T) {
	for setting, want := range map[string]string{
		"NAMESPACE=host":                 "exclude each other",
		"NODE_WRITABLE=/no/such/folder ": "/no/such/folder is not a folder of this node",
	} {
		l := newLab(t, 600)
		l.tinyTree()
		l.write("default", "SUITE=trixie\nARCH=amd64\nPROTECT_NODE=yes\n"+setting+"\n", 0o644)
		l.hook("10-runs", "true")
		l.fails(want)
		l.untouched()
		if log, exit := l.run("verify", "parameters"); exit != 1 || !strings.Contains(log, want) {
			t.Errorf("verify: exit status %d\n%s", exit, log)
		}
	}
}

// Who served it is gone, as an sshfs whose process has ended.
func TestANodeWithADeadFUSEMountIsProtectedAllTheSame(t *testing.T) {
	l, _, open := protected(t)
	dir := t.TempDir()
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	must(t, err)
	must(t, unix.Mount("gone", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse.Fd())))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	must(t, fuse.Close())
	l.hook("10-works", "echo x >"+open+"/written")
	l.create()
}
