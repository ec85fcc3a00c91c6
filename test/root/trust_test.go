//go:build root

package root

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// blankDisk makes a further disk file beside the first.
func (l *lab) blankDisk(name string, sizeMiB int64) string {
	l.Helper()
	path := filepath.Join(filepath.Dir(l.disk), name)
	must(l, os.WriteFile(path, nil, 0o600))
	must(l, os.Truncate(path, sizeMiB<<20))
	return path
}

func blocks(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	must(t, err)
	return st.Sys().(*syscall.Stat_t).Blocks
}

func TestInstallTakesTheDiskItIsGivenWhateverTheEnvironmentSays(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	other := l.blankDisk("other", 600)
	for _, args := range [][]string{{"install", "--size", "600M", filepath.Join(filepath.Dir(l.disk), "new")}, {"install", "--hostname", "guest.example", l.disk}} {
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "DISK_0_PATH="+other, "DISK_COUNT=2", "DISK_1_PATH="+other, "DISK_1_NAME=swap", "INSTANCE_NAME=wrong.example", "OSP_FILESYSTEM=xfs", "OS_API_VERSION=5")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if n := blocks(t, other); n != 0 {
		t.Errorf("the other disk was written to: %d blocks", n)
	}
	l.checkFilesystem("ext4")
	l.mounted(func(tree string) {
		if got := l.tool("cat", tree+"/etc/hostname"); got != "guest.example" {
			t.Errorf("hostname %q", got)
		}
	})
}

// TestLinkThatMovesBetweenClaimAndWriteCostsNoOtherDisk re-points the disk's
// link while the tree is built.
func TestLinkThatMovesBetweenClaimAndWriteCostsNoOtherDisk(t *testing.T) {
	l := newLab(t, 600)
	other := l.blankDisk("other", 600)
	link := filepath.Join(filepath.Dir(l.disk), "link")
	must(t, os.Symlink(l.disk, link))
	l.env["DISK_0_PATH"] = link
	l.fakeDebootstrap("0")
	script, err := os.ReadFile(filepath.Join(l.fakes, "debootstrap"))
	must(t, err)
	l.fake("debootstrap", fmt.Sprintf("case $1 in --version) ;; *) ln -sfn %s %s;; esac\n%s", other, link, script))
	l.create()
	if n := blocks(t, other); n != 0 {
		t.Errorf("the other disk was written to: %d blocks", n)
	}
	l.checkFilesystem("ext4")
}

func TestDiskByItsDevDiskName(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	dev := l.tool("losetup", "--show", "-f", l.disk)
	detachAtEnd(t, dev, l.disk)
	l.env["DISK_0_PATH"] = "/dev/disk/by-id/my-disk"
	l.hook("10-names", `test -b "$DISK_0_PATH" && test -e "/dev/disk/by-uuid/$(blkid -p -s UUID -o value $FSYSDEV)" && ! test -e /dev/disk/by-id/not-ours`)
	// A /dev of this run's own, with the links that udev would make.
	inner := l.command("create")
	sh := fmt.Sprintf(`mkdir /tmp/dev-of-test.$$ && mount --rbind /dev /tmp/dev-of-test.$$ && mount -t tmpfs t /dev && cp -a /tmp/dev-of-test.$$/* /dev/ 2>/dev/null
mkdir -p /dev/disk/by-id && ln -s ../../%s /dev/disk/by-id/my-disk && ln -s ../../null /dev/disk/by-id/not-ours; umount -l /tmp/dev-of-test.$$; rmdir /tmp/dev-of-test.$$; exec "$@"`, filepath.Base(dev))
	cmd := exec.Command("unshare", append([]string{"-m", "sh", "-c", sh, "sh"}, inner.Args...)...)
	cmd.Env = inner.Env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l.tool("losetup", "-d", dev)
	l.checkFilesystem("ext4")
}

func TestHookCanStopADaemonItStarted(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.hook("10-daemon", `
set -e
start-stop-daemon --start --background --make-pidfile --pidfile /run/lock/daemon-of-test.pid --exec /bin/sleep -- 1000
sleep 0.2
start-stop-daemon --stop --retry 5 --pidfile /run/lock/daemon-of-test.pid --exec /bin/sleep
rm -f /run/lock/daemon-of-test.pid`)
	l.create()
}

func TestLoopDeviceThatAHookLeftIsNamedAndDetached(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.hook("10-loops", `losetup -f "$FSYSDEV"; truncate -s 1M "$TARGET/file"; losetup -f "$TARGET/file"`)
	log := l.create()
	if n := strings.Count(log, "warn: /dev/loop"); n != 2 {
		t.Errorf("%d loop devices are named:\n%s", n, log)
	}
	l.checkFilesystem("ext4")
}

func TestTargetCanBeReachedByOtherUsers(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.hook("10-user", `setpriv --reuid=65534 --clear-groups ls "$TARGET/etc/hostname"`)
	l.create()
}

func TestOneSwapDiskByTwoNamesIsOne(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	swap := l.blankDisk("swap", 64)
	link := filepath.Join(filepath.Dir(l.disk), "swap-link")
	must(t, os.Symlink(swap, link))
	l.env["DISK_COUNT"], l.env["DISK_1_PATH"], l.env["DISK_1_ACCESS"], l.env["DISK_1_NAME"] = "2", swap, "w", "swap"
	l.write("default", "swapdev="+link+"\n", 0o644)
	l.create()
	l.write("default", "swapdev=$DISK_0_PATH\n", 0o644)
	before := l.tool("sha256sum", l.disk)
	l.fails("is the root disk")
	if l.tool("sha256sum", l.disk) != before {
		t.Error("the disk was changed")
	}
}

func TestLockFolderOfAnotherUserIsRefused(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	must(t, os.Chown(filepath.Join(base, "lock"), 65534, 65534))
	l.fails("is not root's alone")
	l.untouched()
}

func TestHangupThatIsIgnoredStaysIgnored(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.hook("10-slow", fmt.Sprintf("exec -a %s sleep 1", mark()))
	inner := l.command("create")
	cmd := exec.Command("sh", append([]string{"-c", `trap '' HUP; exec "$@"`, "sh"}, inner.Args...)...)
	var out bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = inner.Env, &out, &out
	must(t, cmd.Start())
	<-l.running()
	must(t, cmd.Process.Signal(syscall.SIGHUP))
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	l.clean(0)
}

func TestWhatASettingsFileUnsetsDoesNotReachHooks(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.write("default", "unset DISK_0_ACCESS\n", 0o644)
	l.hook("10-env", `test -z "${DISK_0_ACCESS+set}"`)
	l.create()
}

func TestVerifyRefusesWhatCreateWould(t *testing.T) {
	l := newLab(t, 600)
	for param, value := range map[string]string{"SUITE": "trixy", "EXTRA_PKGS": "Not_a_package", "FILESYSTEM": "ntfs", "PARTITION_STYLE": "bsd", "MIRROR": "nonsense"} {
		l.env = map[string]string{"PATH": "/sbin:/bin:/usr/sbin:/usr/bin", "OS_API_VERSION": "20", "OS_NAME": "debootstrap", "OS_VARIANT": "default", "OSP_" + param: value}
		if log, exit := l.run("verify", "parameters"); exit != 1 || !strings.Contains(log, value) {
			t.Errorf("%s=%s: exit status %d\n%s", param, value, exit, log)
		}
	}
	delete(l.env, "OSP_MIRROR")
	l.write("default", `X=$(grep "$INSTANCE_NAME" /etc/hostname-of-nobody)`+"\nSUITE=trixie\n", 0o644)
	for _, param := range []string{"OSP_SUITE", "OSP_EXTRA_PKGS", "OSP_FILESYSTEM", "OSP_PARTITION_STYLE"} {
		delete(l.env, param)
	}
	if log, exit := l.run("verify", "parameters"); exit != 0 {
		t.Errorf("a file that needs the instance: exit status %d\n%s", exit, log)
	}
}

// TestDiskOfARunningGuestIsRefused has QEMU open the disk without its lock, so
// that only the node's own /proc, seen from inside the sandbox, shows it.
func TestDiskOfARunningGuestIsRefused(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	qemu := exec.Command("qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none", "-S", "-monitor", "none",
		"-blockdev", "driver=file,node-name=d,filename="+l.disk+",locking=off")
	must(t, qemu.Start())
	defer func() { qemu.Process.Kill(); qemu.Wait() }()
	for range 100 {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", qemu.Process.Pid))
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to == l.disk {
				l.fails("open in qemu-system")
				l.untouched()
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("QEMU does not open the disk")
}
