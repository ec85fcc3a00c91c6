//go:build root && slow

package root

import (
	"os"
	"strings"
	"testing"
	"time"
)

// growInAGuest is a service of a guest, whose root may do what a node's may: it
// kills grow at random moments on a disk with ext4, does what a boot does with
// that, and grows it again.
const growInAGuest = `#!/bin/bash
cd /root
exec > said 2>&1
trap 'cat said > /dev/ttyS0' EXIT # opened late: a getty hangs up what others have open
facts() { mount -o loop,ro disk mnt && (cd mnt && find . -type f -print0 | sort -z | xargs -0 sha256sum; find . | sort) | sha256sum; umount mnt; }
mkdir -p mnt
truncate -s 200M whole && mke2fs -q -F -t ext4 whole
mount -o loop whole mnt && cp -a /usr/share/doc /etc mnt && umount mnt
cp --sparse=always whole disk
before=$(facts)
truncate -s 900M disk
start=$(date +%s%N)
instance-debootstrap grow disk || echo "grow-test: FAILED"
took=$((($(date +%s%N) - start) / 1000000))
[ "$(facts)" = "$before" ] || echo "grow-test: FAILED: other files"
dmesg | grep 'EXT4-fs.*resized filesystem' || echo "grow-test: FAILED: not grown by the kernel"
killed=0
for i in $(seq 20); do
	cp --sparse=always whole disk
	truncate -s 900M disk
	instance-debootstrap grow disk >/dev/null 2>&1 &
	ms=$((RANDOM % took))
	sleep $((ms / 1000)).$(printf %03d $((ms % 1000)))
	kill -9 $! 2>/dev/null && killed=$((killed + 1))
	wait 2>/dev/null
	for tenth in $(seq 300); do # the kernel unmounts what the killed run had mounted
		[ -z "$(losetup -j disk)" ] && break
		sleep 0.1
	done
	[ -z "$(losetup -j disk)" ] || echo "grow-test: FAILED: the loop device is left"
	e2fsck -p disk
	[ $? -lt 4 ] || echo "grow-test: FAILED: e2fsck -p after $ms ms"
	[ "$(facts)" = "$before" ] || echo "grow-test: FAILED: other files after $ms ms"
	instance-debootstrap grow disk >log 2>&1 || { cat log; echo "grow-test: FAILED: the second run after $ms ms"; }
	e2fsck -fn disk >/dev/null 2>&1 || echo "grow-test: FAILED: e2fsck -fn"
done
echo "grow-test: of $took ms, killed $killed times: the end"
`

// TestGrowOfExt4KilledWhereRootMayResizeMounted is the node's case: the kernel does
// it, by the journal.
func TestGrowOfExt4KilledWhereRootMayResizeMounted(t *testing.T) {
	l := realGuest(t)
	script := l.TempDir() + "/grow-test"
	must(t, os.WriteFile(script, []byte(growInAGuest), 0o755))
	l.hook("10-grow-test", `
install -m 755 "`+program+`" "$TARGET/usr/local/sbin/instance-debootstrap"
install -m 755 "`+script+`" "$TARGET/usr/local/sbin/grow-test"
printf '[Unit]\nAfter=getty.target\n[Service]\nExecStart=/usr/local/sbin/grow-test\n[Install]\nWantedBy=multi-user.target\n' > "$TARGET/etc/systemd/system/grow-test.service"
chroot "$TARGET" systemctl enable grow-test`)
	// The guest is started without its data disk: it must come up all the same.
	l.disks(l.disk, l.blankDisk("data-disk", 100))
	l.env["DISK_1_NAME"], l.env["OSP_DATA_DISKS"] = "data", "data=/srv"
	l.create()
	m := l.start("bios")
	m.says("inst1 login:", guestPatience)
	m.says(" times: the end", 20*time.Minute)
	said, err := os.ReadFile(m.console)
	must(t, err)
	l.matches(string(said), "grow-test: of [0-9]+ ms, killed ([5-9]|1[0-9]|20) times")
	if strings.Contains(string(said), "grow-test: FAILED") {
		t.Errorf("the console:\n%s", said)
	}
}
