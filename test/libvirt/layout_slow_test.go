//go:build root && slow

package libvirt

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestAGuestByALayoutFromItsMakingToItsEnd is all but the booting: what both firmwares start
// from is zeroed, and must come back as it was, wherever /boot is.
func TestAGuestByALayoutFromItsMakingToItsEnd(t *testing.T) {
	for name, row := range map[string]struct {
		file    string
		folders []string // that are mounted beside the root
	}{
		"apart":      {"0 640M ext4 /boot\n0 64M swap\n0 96M ext4 /srv\n0 rest ext4 /\n", []string{"/boot", "/srv"}},
		"subvolumes": {"0 rest btrfs / @rootfs\n0 - btrfs /boot @boot\n0 - btrfs /srv @srv\n", []string{"/boot", "/srv"}},
		"rootfs":     {"0 64M swap\n0 rest btrfs / @rootfs\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.layoutFile(name, row.file)
			l.vm(small("--layout", name, "--firmware", "both", "web1")...)
			disk := pool + "/web1"
			l.zeroedComesBack(disk, "web1")
			l.espComesBack(disk)
			l.fails("only made larger", program, "vm", "grow", "--root-size", "1G", "web1")
			l.vm("grow", "--root-size", "4G", "web1")
			l.vm("grow", "--root-size", "4G", "web1") // what is done is no fault
			l.tool("sfdisk", "--verify", disk)
			l.vm("mount", "web1")
			for _, folder := range row.folders {
				l.tool("mountpoint", "-q", "/mnt/web1"+folder)
			}
			if kernels, _ := filepath.Glob("/mnt/web1/boot/vmlinuz-*"); len(kernels) != 1 {
				t.Errorf("in /boot are the kernels %v", kernels)
			}
			size := strings.Fields(l.tool("df", "--output=size", "-BM", "/mnt/web1"))[1]
			if mib, err := strconv.Atoi(strings.TrimSuffix(size, "M")); err != nil || mib < 2900 {
				t.Errorf("the filesystem has %s", size)
			}
			l.vm("umount", "web1")
			if got := l.vm("list"); !strings.Contains(got, name) {
				t.Errorf("list doesn't say the layout:\n%s", got)
			}
			l.vm("remove", "--yes", "web1")
			l.clean(5 * time.Second)
		})
	}
}

// zeroedComesBack zeroes the boot code and GRUB's core image in the partition for it, and has
// them written anew, byte by byte what they were.
func (l lab) zeroedComesBack(disk, guest string) {
	l.Helper()
	at := strings.Fields(l.tool("sh", "-c", `sfdisk --dump "$1" | sed -n 's/.*start= *\([0-9]*\), size= *\([0-9]*\), type=21686148.*/\1 \2/p'`, "sh", disk))
	if len(at) != 2 {
		l.Fatalf("the disk has no partition for GRUB's core image: %v", at)
	}
	look := func() string {
		return l.tool("head", "-c", "440", disk) + l.tool("dd", "if="+disk, "bs=512", "skip="+at[0], "count="+at[1], "status=none")
	}
	before := look()
	l.tool("dd", "if=/dev/zero", "of="+disk, "bs=440", "count=1", "conv=notrunc", "status=none")
	l.tool("dd", "if=/dev/zero", "of="+disk, "bs=512", "seek="+at[0], "count="+at[1], "conv=notrunc", "status=none")
	l.vm("grub", guest)
	if look() != before {
		l.Error("the boot record or the core image is another")
	}
}
