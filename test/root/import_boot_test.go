//go:build root

package root

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What the guest's GRUB is told: to name where it came from, and to start anew,
// which ends QEMU. All of it are modules that GRUB loads from the filesystem.
const guestGRUB = `serial --unit=0
terminal_output serial
search --no-floppy --fs-uuid --set=root %s
echo "this is grub.cfg of $prefix"
reboot
`

// installGRUB puts the node's GRUB onto the disk, by its own grub-install, as the
// guest's admin has it from his package.
func (l *lab) installGRUB() {
	l.Helper()
	disk := l.tool("losetup", "--show", "-f", l.disk)
	defer func() { l.tool("losetup", "-d", disk) }()
	offset, size := l.partition(1)
	l.tool("addpart", disk, "1", fmt.Sprint(offset/512), fmt.Sprint(size/512))
	defer func() { l.tool("delpart", disk, "1") }()
	dev := filepath.Base(disk) + "p1"
	l.tool("sh", "-e", "-c", `[ -e /dev/`+dev+` ] || mknod /dev/`+dev+` b $(tr : ' ' </sys/class/block/`+dev+`/dev)`)
	tree := l.TempDir()
	l.tool("mount", "/dev/"+dev, tree)
	defer func() { l.tool("umount", tree) }()
	l.tool("mkdir", "-p", tree+"/usr/lib/grub")
	l.tool("cp", "-r", "/usr/lib/grub/i386-pc", tree+"/usr/lib/grub/")
	l.tool("grub-install", "--target=i386-pc", "--boot-directory="+tree+"/boot", disk)
	uuid := l.tool("blkid", "-p", "-s", "UUID", "-o", "value", "/dev/"+dev)
	must(l, os.WriteFile(tree+"/boot/grub/grub.cfg", fmt.Appendf(nil, guestGRUB, uuid), 0o600))
}

// boots starts the disk under a BIOS and returns what its serial port said.
func (l *lab) boots() string {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "512", "-nographic", "-no-reboot",
		"-nic", "none", "-drive", "format=raw,if=virtio,snapshot=on,file="+l.disk).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "this is grub.cfg of (hd0,") {
		l.Errorf("it does not boot: %v\n%s", err, out)
	}
	return string(out)
}

func TestImportedGuestsBootAgain(t *testing.T) {
	for _, style := range []string{"msdos", "gpt"} {
		t.Run(style, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.guest(style, "ext4")
			if style == "gpt" { // a cloud image's: its core image in a partition
				l.tool("sgdisk", "--delete=1", "--new=14:2048:10239", "--typecode=14:ef02", "--new=1:10240:0", l.disk)
				l.tool("mke2fs", "-q", "-F", "-t", "ext4", "-E", fmt.Sprint("offset=", 10240*512), l.disk, "590M")
				l.change(func(tree string) { must(l, os.MkdirAll(tree+"/etc", 0o755)) })
			}
			l.installGRUB()
			l.boots()
			source := l.disk
			streams := map[string]string{}
			for _, format := range []string{"tar", "image", "dump"} {
				l.env["EXPORT_FORMAT"] = format
				streams[format] = l.export(0, source)
			}
			l.change(func(tree string) {
				streams["a tar by hand"] = filepath.Join(l.TempDir(), "by-hand.tar")
				l.tool("tar", "-C", tree, "--numeric-owner", "-cf", streams["a tar by hand"], ".")
			})
			l.env["PARTITION_STYLE"] = style
			for kind, stream := range streams {
				l.target(900)
				log := l.importFile(stream)
				if style == "gpt" && (kind == "dump" || kind == "a tar by hand") { // the settings' gpt has no room for a core image
					if last := (fed{log: log}).last(); !strings.Contains(last, "PARTITION_STYLE=msdos") {
						t.Errorf("%s: the last line doesn't say what to do:\n%s", kind, log)
					}
				} else {
					l.boots()
				}
			}
		})
	}
}

func TestImportWithoutTheNodesGRUBSaysWhatToRun(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	l.installGRUB()
	l.env["EXPORT_FORMAT"] = "dump"
	stream, err := os.Open(l.export(0, l.disk))
	must(t, err)
	defer stream.Close()
	l.target(600)
	f := l.feed(stream, l.withoutTool("grub-mkimage", l.importing(0, l.disk)))
	if f.exit != 0 || !strings.Contains(f.last(), "run grub-install") {
		t.Errorf("exit status %d\n%s", f.exit, f.log)
	}
	l.clean(0)
	l.checkFilesystem("ext4")
}
