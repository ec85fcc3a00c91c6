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
	defer func() { // a program that looks at all devices can hold it for a moment
		l.tool("sh", "-c", "for i in $(seq 50); do delpart "+disk+" 1 && exit; sleep 0.1; done; exit 1")
	}()
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
	for _, c := range []struct{ style, uuids string }{{"msdos", "keep"}, {"gpt", "keep"}, {"gpt", "new"}, {"msdos", "new"}} {
		style := c.style
		t.Run(style+"/"+c.uuids, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.guest(style, "ext4")
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
			l.env["PARTITION_STYLE"], l.env["IMPORT_UUID"] = style, c.uuids
			for kind, stream := range streams {
				l.target(900)
				if log := l.importFile(stream); strings.Contains(log, "for BIOS") {
					t.Errorf("%s: %s", kind, log)
				}
				l.boots()
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

// efiGuest is a guest with an EFI system partition, whose tree has what the
// packages of a signed GRUB have.
func (l *lab) efiGuest() (espUUID string) {
	l.Helper()
	l.guest("gpt", "ext4")
	l.change(func(tree string) {
		for _, name := range []string{"lib/shim/shimx64.efi.signed", "lib/shim/mmx64.efi.signed", "lib/grub/x86_64-efi-signed/grubx64.efi.signed"} {
			path := filepath.Join(tree, "usr", name)
			must(l, os.MkdirAll(filepath.Dir(path), 0o755))
			must(l, os.WriteFile(path, []byte(name), 0o644))
		}
	})
	return l.espUUID()
}

// esp copies the EFI system partition out of the disk, for mtools and fsck.
func (l *lab) esp() (path string) {
	l.Helper()
	offset, size := l.partition(15)
	path = filepath.Join(l.TempDir(), "esp")
	l.tool("sh", "-c", fmt.Sprintf("tail -c +%d %s | head -c %d >%s", offset+1, l.disk, size, path))
	return path
}

func (l *lab) espUUID() string {
	l.Helper()
	return l.tool("blkid", "-p", "-s", "UUID", "-o", "value", l.esp())
}

// mountsESP returns the device by which fstab mounts the EFI system partition.
func (l *lab) mountsESP() (device string) {
	l.Helper()
	l.mounted(func(tree string) {
		device = l.tool("sh", "-c", `awk '$2 == "/boot/efi" && !/^#/ {print $1}' `+tree+"/etc/fstab")
	})
	return device
}

// A dump and a tar by hand have nothing of the EFI system partition: it is made
// anew, of the guest's own signed programs, under the name that fstab has for it.
func TestImportOfFilesMakesTheEFISystemPartition(t *testing.T) {
	for name, c := range map[string]struct{ uuids, firmware, fstab string }{
		"as fstab names it":      {"keep", "auto", ""},
		"under a new UUID":       {"new", "auto", ""},
		"by a device's name":     {"keep", "uefi", "/dev/sda15"},
		"by the FAT's label":     {"new", "both", "LABEL=UEFI"},
		"not where it is BIOS's": {"keep", "bios", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newMoveLab(t, 600)
			was := l.efiGuest()
			if c.fstab != "" {
				l.change(func(tree string) {
					l.tool("sed", "-i", "s|^UUID=[0-9A-F-]* *\\(/boot/efi\\)|"+c.fstab+" \\1|", tree+"/etc/fstab")
				})
			}
			l.env["EXPORT_FORMAT"] = "dump"
			stream := l.export(0, l.disk)
			l.env["OSP_IMPORT_UUID"], l.env["OSP_FIRMWARE"] = c.uuids, c.firmware
			l.target(610)
			log := l.importFile(stream)
			if c.firmware == "bios" {
				if got := l.mountsESP(); got != "" || strings.Contains(l.tool("sfdisk", "--dump", l.disk), "C12A7328") {
					t.Errorf("there is an EFI system partition, or fstab mounts one: %q", got)
				}
				return
			}
			esp, now := l.esp(), l.espUUID()
			l.tool("fsck.vfat", "-n", esp)
			if got := l.mountsESP(); got != "UUID="+now || (c.uuids == "keep" && c.fstab == "") != (now == was) {
				t.Errorf("it was %s and is %s, and fstab mounts %s\n%s", was, now, got, log)
			}
			for name, want := range map[string]string{
				"EFI/BOOT/BOOTX64.EFI": "lib/shim/shimx64.efi.signed", "EFI/BOOT/grubx64.efi": "lib/grub/x86_64-efi-signed/grubx64.efi.signed",
				"EFI/debian/grub.cfg": "search.fs_uuid " + l.identity().uuid + " root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg",
			} {
				if got := l.tool("mtype", "-i", esp, "::"+name); got != want {
					t.Errorf("%s is %q, not %q", name, got, want)
				}
			}
		})
	}
}

func TestImportSaysThatTheUEFIBootLoaderIsMissing(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("gpt", "ext4") // without the signed programs
	l.env["EXPORT_FORMAT"] = "dump"
	stream := l.export(0, l.disk)
	l.target(600)
	if last := (fed{log: l.importFile(stream)}).last(); !strings.Contains(last, "no boot loader for UEFI") || !strings.Contains(last, "grub-install") {
		t.Errorf("the last line doesn't say what to do: %s", last)
	}
	l.tool("fsck.vfat", "-n", l.esp())
}

// TestNewIDsReachTheEFISystemPartition: firmware starts the GRUB there, which
// looks for the root by its UUID.
func TestNewIDsReachTheEFISystemPartition(t *testing.T) {
	for _, format := range []string{"tar", "image", "raw"} {
		t.Run(format, func(t *testing.T) {
			l := newMoveLab(t, 600)
			was, id := l.efiGuest(), l.identity()
			offset, _ := l.partition(15)
			at := fmt.Sprintf("%s@@%d", l.disk, offset)
			l.tool("sh", "-e", "-c", `mmd -i "$0" ::EFI ::EFI/debian; printf "search.fs_uuid $1 root\n" | mcopy -i "$0" - ::EFI/debian/grub.cfg`, at, id.uuid)
			stream := l.disk
			if format != "raw" {
				l.env["EXPORT_FORMAT"] = format
				stream = l.export(0, l.disk)
			}
			l.env["OSP_IMPORT_UUID"] = "new"
			l.target(610)
			l.importFile(stream)
			esp, now := l.esp(), l.espUUID()
			l.tool("fsck.vfat", "-n", esp)
			if got := l.mountsESP(); got != "UUID="+now || now == was {
				t.Errorf("it was %s and is %s, and fstab mounts %s", was, now, got)
			}
			uuid := l.identity().uuid
			if got := l.tool("mtype", "-i", esp, "::EFI/debian/grub.cfg"); uuid == id.uuid || got != "search.fs_uuid "+uuid+" root" {
				t.Errorf("the root was %s and is %s, and grub.cfg says %s", id.uuid, uuid, got)
			}
		})
	}
}
