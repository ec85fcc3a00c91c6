//go:build root

package root

import (
	"os"
	"strings"
	"testing"
)

// A hook of those that people have: it binds /dev, without what is mounted in it,
// and runs the guest's update-grub, which looks for the root's UUID there.
func TestABoundDevShowsTheGuestsDiskAndNoneOfTheNodes(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	// On a node udev has made such links.
	const nodes = "/dev/disk/by-uuid/0ae1c14e-of-the-node"
	must(t, os.MkdirAll("/dev/disk/by-uuid", 0o755))
	must(t, os.Symlink("/dev/null", nodes))
	defer func() { os.Remove(nodes); os.Remove("/dev/disk/by-uuid"); os.Remove("/dev/disk") }()
	l.hook("50-dev", `set -e
mkdir -p "$TARGET/dev"
mount --bind /dev "$TARGET/dev"
for dir in /dev "$TARGET/dev"; do
	echo "$dir has" $(cd "$dir/disk" && find . -type l | sort)
	echo "uuid is" $(blkid -p -s UUID -o value "$dir/disk/by-uuid/"*)
	[ "$(stat -L -c %t:%T "$dir/disk/by-id/instance-debootstrap-boot")" = "$(stat -L -c %t:%T "$BLOCKDEV")" ] && echo "the boot disk is BLOCKDEV"
done
echo x >"$TARGET/dev/null" && head -c 4 "$TARGET/dev/urandom" >/dev/null && [ -e /dev/pts/ptmx ] && echo "the plain devices work"
truncate -s 1M "$TARGET/image"
loop=$(losetup --show -f "$TARGET/image") && losetup -d "$loop" && echo "losetup works"
rm "$TARGET/image"
mknod /dev/made-by-`+mark()+` c 1 3
umount "$TARGET/dev"`)
	log := l.create()
	if strings.Contains(log, "of-the-node") {
		t.Error("the node's links are seen")
	}
	for _, want := range []string{"the plain devices work", "losetup works"} {
		if !strings.Contains(log, want) {
			t.Errorf("without %q", want)
		}
	}
	uuid := l.tool("blkid", "-p", "-s", "UUID", "-o", "value", l.root())
	for _, want := range []string{"/dev has ./by-id/instance-debootstrap-boot ./by-uuid/" + uuid + "\n", "uuid is " + uuid + "\n", "the boot disk is BLOCKDEV"} {
		if strings.Count(log, want) != 2 {
			t.Errorf("not twice: %q", want)
		}
	}
	if _, err := os.Stat("/dev/made-by-" + mark()); err == nil {
		t.Error("a node that the hook made stays on the node")
	}
	if t.Failed() {
		t.Log(log)
	}
}
