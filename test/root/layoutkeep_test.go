//go:build root

package root

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	l.fake("mkfs.xfs", "exit 1")
	l.fails("/var: make xfs on ")
	must(t, os.Remove(filepath.Join(l.fakes, "mkfs.xfs")))
	l.create()
	l.hasTree()
	l.wholeTree(func(tree string) {
		if got := l.tool("cat", tree+"/etc/ours"); got != "precious" {
			t.Error(got)
		}
	})
}

// inSrv runs a shell's script in the filesystem of serverLayout's /srv.
func (l *lab) inSrv(script string) string {
	l.Helper()
	dev, dir := l.partitionLoop(6), l.TempDir()
	l.tool("mount", dev, dir)
	defer func() { l.tool("umount", dir); l.tool("losetup", "-d", dev) }()
	return l.tool("sh", "-ec", script, dir)
}

// What is held may be older than what a guest has that was installed without it.
func TestWhatIsHeldIsNotPutOverAGuestThatHasTheFolderOnAFilesystemOfItsOwn(t *testing.T) {
	l := layoutLab(t, 1200, serverLayout)
	delete(l.env, "OSP_LAYOUT")
	l.create()
	l.change(func(tree string) { l.tool("sh", "-ec", `mkdir -p "$0/srv/app"; echo old >"$0/srv/app/file"`, tree) })
	l.env["INSTANCE_REINSTALL"], l.env["OSP_REINSTALL_KEEP"] = "1", "/srv/app"
	l.hook("10-fails", "false")
	l.fails("kept of the old guest is in")
	must(t, os.Remove(base+"/conf/hooks/10-fails"))
	l.env["OSP_REINSTALL_KEEP"], l.env["OSP_LAYOUT"] = "none", "server"
	l.create()
	l.inSrv(`mkdir "$0/app"; echo new >"$0/app/file"`)
	l.env["OSP_REINSTALL_KEEP"] = "/srv/app"
	l.fails("has a guest that was installed without them, on 20")
	if got := l.inSrv(`cat "$0/app/file"`); got != "new" {
		t.Errorf("the guest's file is %q", got)
	}
}

// Such a guest has them for itself only once its create has ended, or it was started.
func TestAReinstallThatEndedWhileItsFoldersWereMovedGoesOnWithWhatItKept(t *testing.T) {
	l := layoutLab(t, 1200, serverLayout)
	delete(l.env, "OSP_LAYOUT")
	l.create()
	l.change(func(tree string) { l.tool("sh", "-ec", `mkdir -p "$0/srv/app"; echo old >"$0/srv/app/file"`, tree) })
	l.env["INSTANCE_REINSTALL"], l.env["OSP_REINSTALL_KEEP"], l.env["OSP_LAYOUT"] = "1", "/srv/app", "server"
	l.fake("cp", `case "$*" in */boot/.*) exit 1;; esac; exec /bin/cp "$@"`)
	l.fails("move folders onto their filesystems: /boot ")
	must(t, os.Remove(filepath.Join(l.fakes, "cp")))
	if log := l.create(); !strings.Contains(log, "what an earlier run has read is kept") {
		t.Error(log)
	}
	l.holdsNothing()
	if got := l.inSrv(`cat "$0/app/file"`); got != "old" {
		t.Errorf("the guest's file is %q", got)
	}
}

// What has a receipt is whole: inspect, audit and the next reinstall believe it.
func TestACreateThatIsKilledWhileItMovesFoldersLeavesNoReceipt(t *testing.T) {
	l := layoutLab(t, 1200, serverLayout)
	for _, folder := range []string{"/srv", "/var", "/boot"} {
		moving := filepath.Join(t.TempDir(), "moving")
		l.fake("cp", `case "$*" in *`+folder+`/.*) touch `+moving+`; exec sleep 1000;; esac; exec /bin/cp "$@"`)
		begun := make(chan time.Time, 1)
		go func() {
			for range 3000 {
				if _, err := os.Stat(moving); err == nil {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			begun <- time.Now()
		}()
		if !l.killed(begun, kills["SIGKILL"]) {
			t.Fatal("create ended before it was killed")
		}
		if in, text := l.inspect(); in["receipt"] != nil {
			t.Errorf("killed while it moved %s: %s", folder, text)
		}
	}
	must(t, os.Remove(filepath.Join(l.fakes, "cp")))
	l.create()
	l.hasTree()
}
