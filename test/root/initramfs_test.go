//go:build root

package root

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// kernelTree puts a kernel into a tree whose initramfs is its own listing: lsinitramfs
// is cat there. ext4, xfs, virtio and ahci are its modules, all others it doesn't have.
func (l *lab) kernelTree(dir, inside string) {
	l.Helper()
	cat, err := exec.LookPath("cat")
	must(l, err)
	l.tool("sh", "-e", "-c", `mkdir -p "$1/usr/bin" "$1/boot" "$1/etc" "$1/usr/share" "$1/lib/modules/6.1.0-9-amd64"
cp "$2" "$1/usr/bin/lsinitramfs"
for lib in $(ldd "$2" | grep -o '/[^ ]*'); do mkdir -p "$1/${lib%/*}"; cp "$lib" "$1/$lib"; done
echo kernel >"$1/boot/vmlinuz-6.1.0-9-amd64"
echo kernel/drivers/virtio/virtio_pci.ko >"$1/lib/modules/6.1.0-9-amd64/modules.builtin"
printf '%s\n' 'kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko' kernel/fs/jbd2/jbd2.ko: kernel/fs/xfs/xfs.ko: kernel/drivers/block/virtio_blk.ko: \
	kernel/drivers/ata/ahci.ko: kernel/drivers/scsi/sd_mod.ko: >"$1/lib/modules/6.1.0-9-amd64/modules.dep"
for name in $3; do echo "usr/lib/modules/6.1.0-9-amd64/kernel/$name.ko"; done >"$1/boot/initrd.img-6.1.0-9-amd64"`,
		"sh", dir, cat, inside)
}

// buildsKernelTree makes debootstrap give such a tree.
func (l *lab) buildsKernelTree(inside string) (dir string) {
	l.Helper()
	l.tinyTree()
	dir = l.TempDir()
	l.tool("tar", "-xf", l.tar(), "-C", dir)
	must(l, os.Remove(l.tar()))
	l.kernelTree(dir, inside)
	l.fake("debootstrap", fmt.Sprintf(`
case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac
for a; do case "$a" in %s/*) target=$a;; esac; done
cp -a %s/. "$target"; ls -l "$target/etc/dracut.conf.d" >&2`, base, dir))
	l.write("default", "BOOTSTRAP=debootstrap\nMIRROR=http://mirror.example/debian\n", 0o644)
	return dir
}

const wholeInitramfs = "ext4 jbd2 xfs virtio_blk ahci sd_mod"

func TestATreeWhoseInitramfsLacksARootOrTheInstancesBusIsRefused(t *testing.T) {
	for _, c := range []struct{ inside, diskType, want string }{
		{"xfs virtio_blk ahci sd_mod", "paravirtual", "can't start from a root filesystem of type ext4: its initramfs lacks ext4, jbd2"},
		{"ext4 jbd2 virtio_blk ahci sd_mod", "paravirtual", "root filesystem of type xfs"}, // another guest's root
		{"ext4 jbd2 xfs ahci sd_mod", "paravirtual", "a disk by virtio: its initramfs lacks virtio_blk"},
		{wholeInitramfs, "ide", "a disk by ide: it has no ata_piix.*KERNEL_PKG.*disk_type"},
	} {
		l := newLab(t, 600)
		l.buildsKernelTree(c.inside)
		l.env["INSTANCE_HV_disk_type"] = c.diskType
		if c.diskType == "ide" { // as Ganeti says it of the disk
			l.env["INSTANCE_HV_disk_type"], l.env["DISK_0_FRONTEND_TYPE"] = "paravirtual", "ide"
		}
		l.matches(l.fails("initramfs is not fit"), c.want)
		l.untouched()
		if tars, _ := filepath.Glob(filepath.Join(base, "cache/*.tar")); len(tars) > 0 {
			t.Errorf("the cache has %v", tars)
		}
	}
}

func TestAPackageOfAServiceThatTheArchiveLacksIsNamedAsSuch(t *testing.T) {
	l := newLab(t, 600)
	l.fake("debootstrap", `case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac; echo "E: Couldn't find these debs: systemd-timesyncd" >&2; exit 1`)
	l.write("default", "BOOTSTRAP=debootstrap\nMIRROR=http://mirror.example/debian\nBOOTLOADER=grub\n", 0o644)
	l.fails("systemd-timesyncd is there for GUEST_SERVICES, which may name less")
	l.untouched()
}

// Nobody has seen such an initramfs bring a guest up.
func TestATreeWhoseInitramfsCannotBeLookedIntoIsRefused(t *testing.T) {
	for want, spoil := range map[string]func(dir string) error{
		"neither lsinitramfs.*nor lsinitrd":  func(dir string) error { return os.Remove(dir + "/usr/bin/lsinitramfs") },
		"can't be looked into.*lsinitramfs":  func(dir string) error { return os.Truncate(dir+"/usr/bin/lsinitramfs", 100) },
		"can't be looked into.*modules.dep":  func(dir string) error { return os.Remove(dir + "/lib/modules/6.1.0-9-amd64/modules.dep") },
		"can't be looked into.*no such file": func(dir string) error { return os.RemoveAll(dir + "/lib/modules") },
	} {
		l := newLab(t, 600)
		must(t, spoil(l.buildsKernelTree(wholeInitramfs)))
		l.matches(l.fails("initramfs is not fit"), want)
		l.untouched()
	}
}

func TestAKernelWithoutAnInitramfsIsRefusedUnlessItWasNamed(t *testing.T) {
	l := newLab(t, 600)
	must(t, os.Remove(l.buildsKernelTree(wholeInitramfs)+"/boot/initrd.img-6.1.0-9-amd64"))
	l.fails("initramfs is not fit: Linux 6.1.0-9-amd64 has none: the tree has no kernel with an initramfs in /boot; EXTRA_PKGS names what makes one")
	l.untouched()
	l.env["OSP_KERNEL_PKG"] = "linux-image-mine"
	has(t, l.create(), "does not boot from its disk: the tree has no kernel with an initramfs")
	before := l.tool("sha256sum", l.disk)
	l.env["OSP_BOOTLOADER"], l.env["OSP_KERNEL_PKG"] = "grub", "linux-image-other"
	l.fails("no kernel with an initramfs")
	if l.tool("sha256sum", l.disk) != before {
		t.Error("the disk was touched")
	}
}

func TestABusThatIsNotTheInstancesIsOnlyMissed(t *testing.T) {
	l := newLab(t, 600)
	l.buildsKernelTree("ext4 jbd2 xfs virtio_blk")
	log := l.create()
	has(t, log, "can't start from a disk by sata")
	has(t, log, "instance-debootstrap.conf") // debootstrap found it in the tree

	// The tree is cached by now, and another instance has the bus that it lacks.
	before := l.tool("sha256sum", l.disk)
	l.env["INSTANCE_HV_disk_type"], l.env["INSTANCE_HV_machine_version"] = "ide", "q35"
	l.matches(l.fails("initramfs is not fit"), "a disk by sata")
	if l.tool("sha256sum", l.disk) != before {
		t.Error("the disk was touched")
	}
}

func TestAnAdminsOwnTreeIsOnlyWarnedOf(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	dir := l.TempDir()
	l.tool("tar", "-xf", l.tar(), "-C", dir)
	l.kernelTree(dir, "xfs")
	l.tool("tar", "-cf", l.tar(), "-C", dir, ".")
	log := l.create()
	has(t, log, "can't start from a root filesystem of type ext4")
	has(t, log, "can't start from a disk by virtio")
	if strings.Contains(log, "sata") {
		t.Error(log)
	}
}

func TestTheLogSaysWhatTheGuestLacksForItsLife(t *testing.T) {
	l := newLab(t, 600)
	l.grubTree()
	l.env["INSTANCE_HV_vnc_bind_address"], l.env["INSTANCE_HV_spice_bind"] = "0.0.0.0", "127.0.0.1"
	log := l.create()
	has(t, log, "nothing in the guest answers its power button")
	has(t, log, "root has no password: anybody who reaches the guest's console is root")
	has(t, log, "vnc_bind_address=0.0.0.0 shows the guest's console to the network")
	if strings.Contains(log, "spice_bind") {
		t.Error(log)
	}
	l.hook("50-answers", `mkdir -p "$TARGET/lib/systemd" "$TARGET/usr/bin"; touch "$TARGET/lib/systemd/systemd-logind" "$TARGET/usr/bin/dbus-daemon"`)
	l.env["OSP_ROOT_PASSWORD"] = "locked"
	if log = l.create(); strings.Contains(log, "power button") || strings.Contains(log, "no password") {
		t.Error(log)
	}
}

func TestAKernelWithoutADriverForANICOfTheInstanceIsRefused(t *testing.T) {
	for frontend, want := range map[string]bool{"paravirtual": true, "rtl8139": true, "e1000": false, "": true, "of-another-kind": true} {
		l := newLab(t, 600)
		dir := l.buildsKernelTree(wholeInitramfs)
		l.tool("sh", "-c", `printf '%s\n' kernel/drivers/net/virtio_net.ko: kernel/drivers/net/8139too.ko.xz: >>"$0/lib/modules/6.1.0-9-amd64/modules.dep"`, dir)
		l.nic(0, "MAC=aa:00:00:12:34:56", "MODE=bridged", "LINK=br0", "FRONTEND_TYPE=paravirtual")
		l.nic(1, "MAC=aa:00:00:12:34:57", "MODE=bridged", "LINK=br0", "FRONTEND_TYPE="+frontend)
		log, exit := l.run("create")
		if refused := strings.Contains(log, "has no driver for NIC 1, of type e1000 (e1000): KERNEL_PKG=auto"); refused == want || (exit == 0) != want {
			t.Errorf("%s: exit status %d\n%s", frontend, exit, log)
		}
		if exit != 0 && !l.isUntouched() {
			t.Errorf("%s: refused, and the disk was written to", frontend)
		}
		l.clean(0)
	}
}

func TestASuiteWithoutAKernelIsAskedOnceADayAndTheLogSaysSo(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	dir, runs := l.TempDir(), filepath.Join(l.TempDir(), "runs")
	l.tool("tar", "-xf", l.tar(), "-C", dir)
	must(t, os.Remove(l.tar()))
	l.fake("debootstrap", fmt.Sprintf(`
case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac
case "$*" in *linux-image*) echo kernel >>%[3]s; echo "E: Couldn't find these debs: linux-image-amd64" >&2; exit 1;; esac
echo plain >>%[3]s
for a; do case "$a" in %[1]s/*) target=$a;; esac; done
cp -a %[2]s/. "$target"`, base, dir, runs))
	l.write("default", "BOOTSTRAP=debootstrap\nMIRROR=http://mirror.example/debian\n", 0o644)
	ran := func() string { return strings.Join(strings.Fields(l.tool("sh", "-c", "cat "+runs+"; : >"+runs)), " ") }
	has(t, l.create(), "no kernel and no boot loader: ")
	if got := ran(); got != "kernel plain" {
		t.Errorf("the first create ran %s", got)
	}
	log := l.create()
	l.matches(log, `no kernel and no boot loader: its tree could not be built at .*tried again a day later, or when .*/lock/failed-[0-9a-f]{16} is removed: .*find these debs`)
	if got := ran(); got != "" {
		t.Errorf("the second create ran %s", got)
	}
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	text, _ := l.run("instance-debootstrap", "plan", "create")
	l.matches(text, `(?m)- install the boot loader: GRUB \(its tree could not be built at .*find these debs`)
	l.matches(text, `find or build the root tree: .* \(cached in `)
	text, _ = l.run("instance-debootstrap", "doctor")
	l.matches(text, `(?m)^warning +settings +the guest gets no kernel and no boot loader: its tree could not be built at .*find these debs`)
	l.tool("sh", "-c", "touch -d '25 hours ago' "+base+"/lock/failed-*")
	l.create()
	if got := ran(); got != "kernel" {
		t.Errorf("a day later it ran %s", got)
	}
	l.create()
	if got := ran(); got != "" {
		t.Errorf("after that it ran %s", got)
	}
	l.env["OSP_BOOTLOADER"] = "grub" // which asks for nothing less
	l.fails("find these debs")

	// Without the archive nothing is known of the packages.
	delete(l.env, "OSP_BOOTLOADER")
	l.tool("sh", "-c", "rm -rf "+base+"/lock/failed-* "+base+"/cache/*")
	l.fake("debootstrap", `case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac; echo "E: the archive is gone" >&2; exit 1`)
	l.fails("the archive is gone")
	if left := l.tool("find", base+"/lock", "-name", "failed-*"); left != "" {
		t.Error(left)
	}
}
