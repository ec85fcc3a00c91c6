//go:build root

package root

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestGuestThatCantBeFinishedFailsTheRun(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	dir := t.TempDir()
	l.tool("tar", "-xf", l.tar(), "-C", dir)
	must(t, os.Symlink("/run/systemd/resolve/stub-resolv.conf", dir+"/etc/resolv.conf"))
	must(t, os.WriteFile(dir+"/lib/systemd/systemd-resolved", nil, 0o755))
	l.tool("tar", "-cf", l.tar(), "-C", dir, ".")
	l.hook("10-immutable", `chattr +i "$TARGET/etc"`)
	log := l.fails("resolv.conf")
	if !strings.Contains(log, "check what the hooks left:") {
		t.Errorf("another step failed:\n%s", log)
	}
}

// TestDiskThatTakesNoMoreDataFailsTheRun has the disk's own filesystem run full
// behind the guest's page cache: only the last sync can tell.
func TestDiskThatTakesNoMoreDataFailsTheRun(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	dir := t.TempDir()
	l.tool("mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "full", dir)
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	l.disk = filepath.Join(dir, "root-disk")
	must(t, os.WriteFile(l.disk, nil, 0o600))
	must(t, os.Truncate(l.disk, 600<<20))
	l.env["DISK_0_PATH"] = l.disk
	l.hook("10-fill", `head -c 60000000 /dev/urandom > "$TARGET/data"`)
	log, exit := l.run("create")
	if exit != 1 || !strings.Contains(log, "write the receipt: write the guest's data to the disk:") || !strings.Contains((fed{log: log}).last(), l.disk+" is full") {
		t.Errorf("exit status %d\n%s", exit, log)
	}
	l.clean(0)
}

// TestANodesArchitectureThatIsNoneNamesDpkg, and not the settings.
func TestANodesArchitectureThatIsNoneNamesDpkg(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.fake("dpkg", `echo "error in dpkg.cfg"`)
	l.fails(`dpkg --print-architecture says "error in dpkg.cfg"`)
}

// TestTooFewOpenFilesAreToldInASentence, and not by Go's runtime.
func TestTooFewOpenFilesAreToldInASentence(t *testing.T) {
	for _, script := range []string{"create", "verify", "rename"} {
		l := newLab(t, 600)
		out, err := exec.Command("sh", "-c", "ulimit -n 8; exec "+base+"/os/"+script).CombinedOutput()
		if err == nil || string(out) != script+": only 8 files may be open at a time, and 64 are needed: raise the limit (ulimit -n, LimitNOFILE=)\n" {
			t.Errorf("%v: %s", err, out)
		}
		l.clean(0)
	}
}

// TestAToolsFailureNamesTheInstancesDisk, of which the tool has seen a loop device.
func TestAToolsFailureNamesTheInstancesDisk(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.fake("tune2fs", `echo "tune2fs: no" >&2; exit 1`)
	l.matches(l.fails(l.disk), `create: make the root filesystem: disk `+l.disk+`: .*/dev/loop\d+.*tune2fs: no\n$`)
}

// TestANodeWithoutBootstrapToolsIsToldWhatToInstall, before the disk is touched.
func TestANodeWithoutBootstrapToolsIsToldWhatToInstall(t *testing.T) {
	l := newLab(t, 600)
	l.write("none", "", 0o644)
	cmd := l.command("create")
	at := slices.Index(cmd.Args, "-c") + 1
	cmd.Args[at] = `for tool in debootstrap mmdebstrap; do path=$(command -v $tool) && mount --bind ` + base + `/none "$path"; done; ` + cmd.Args[at]
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("it goes on:\n%s", out)
	}
	l.matches(string(out), `create: .*debootstrap can't run on this node: install the packages debootstrap; nor can mmdebstrap be taken: `+
		`mmdebstrap can't run on this node: mmdebstrap: not found on this node .*: install the packages mmdebstrap and apt\n$`)
	l.clean(0)
}
