//go:build root

package root

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// guestTool puts a program of the node, with its libraries, into the tree.
func (l *lab) guestTool(names ...string) {
	l.Helper()
	dir := l.TempDir()
	for _, name := range names {
		path, err := exec.LookPath(name)
		must(l, err)
		l.tool("sh", "-e", "-c", `for file in "$2" $(ldd "$2" | grep -o '/[^ ]*'); do mkdir -p "$1/${file%/*}"; cp -L "$file" "$1/$file"; done`, "sh", dir, path)
	}
	must(l, os.Mkdir(dir+"/sys", 0o555))
	must(l, os.Chmod(dir, 0o755))
	l.tool("tar", "-rf", l.tar(), "-C", dir, ".")
}

// Hooks of those that people have, which ran where partitions were nodes of
// device-mapper: GRUB asks sysfs where a partition of a loop device begins.
func TestAHookThatBindsDevAndMountsProcInstallsTheGuestsGRUB(t *testing.T) {
	l := newLab(t, 600)
	l.grubTree()
	l.guestTool("grub-install", "grub-probe", "udevadm")
	l.hook("50-grub", `set -e
mkdir -p "$TARGET/dev" "$TARGET/proc"
mount --bind /dev "$TARGET/dev"
mount -t proc proc "$TARGET/proc"
chroot "$TARGET" `+l.tool("which", "grub-install")+` "$BLOCKDEV"
umount "$TARGET/proc" "$TARGET/dev"`)
	has(t, l.create(), "a hook has installed a boot loader (code in the boot record)", "the hook's grub.cfg is missing: it is written anew")
	if code := l.tool("sh", "-c", "head -c 440 "+l.disk+" | grep -c GRUB"); code != "1" {
		t.Error("no GRUB in the boot record")
	}
	l.reachesKernel()
	l.mounted(func(tree string) {
		if left, err := os.ReadDir(tree + "/sys"); err != nil || len(left) > 0 {
			t.Errorf("/sys has %v, %v", left, err)
		}
	})
}

func TestHooksSeeTheNodesDevicesInSysAndCanMountAndUnmountTheirOwn(t *testing.T) {
	for _, namespace := range []string{"private", "host"} {
		l := newLab(t, 600)
		l.write("default", "NAMESPACE="+namespace+"\n", 0o644)
		l.seesSys()
	}
}

func (l *lab) seesSys() {
	l.tinyTree()
	l.guestTool()
	l.hook("10-looks", `set -e
[ "$(cat "$TARGET/sys/class/block/${FSYSDEV##*/}/start")" = 2048 ] && echo "the partition's start is told"
[ -z "$(ls -A "$TARGET/sys/firmware/efi" 2>/dev/null)" ] && echo "the node's firmware is not"
! touch "$TARGET/sys/module/loop/parameters/max_part" 2>/dev/null && echo "nothing can be written"`)
	l.hook("20-bind", `set -e
mount --bind /sys "$TARGET/sys"; umount "$TARGET/sys"; mount --rbind /sys "$TARGET/sys"; umount -l "$TARGET/sys"; echo "bound"`)
	l.hook("30-new", `set -e
mount -t sysfs sysfs "$TARGET/sys"; umount "$TARGET/sys"; echo "mounted anew"`)
	l.hook("40-leaves", `mount -t sysfs sysfs "$TARGET/sys"; cd "$TARGET/sys"; echo "left"`)
	l.hook("50-unmounts", `set -e
umount "$TARGET/sys"; umount "$TARGET/sys"; ! mountpoint -q "$TARGET/sys"; echo "unmounted"`)
	log := l.create()
	for _, want := range []string{"the partition's start is told", "the node's firmware is not", "nothing can be written", "bound", "mounted anew", "left", "unmounted"} {
		if !strings.Contains(log, ": "+want+"\n") {
			l.Errorf("without %q:\n%s", want, log)
		}
	}
}
