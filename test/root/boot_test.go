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

// grubTree is the tiny tree with the node's GRUB as the guest's, and files that
// have the names of a kernel's.
func (l *lab) grubTree() {
	l.Helper()
	l.tinyTree()
	dir := l.TempDir()
	l.tool("tar", "-xf", l.tar(), "-C", dir)
	mkimage, err := exec.LookPath("grub-mkimage")
	must(l, err)
	l.tool("sh", "-e", "-c", `mkdir -p "$1/usr/bin" "$1/usr/lib/grub" "$1/boot"
cp -r /usr/lib/grub/i386-pc "$1/usr/lib/grub/"
cp "$2" "$1/usr/bin/grub-mkimage"
for lib in $(ldd "$2" | grep -o '/[^ ]*'); do mkdir -p "$1/${lib%/*}"; cp "$lib" "$1/$lib"; done
echo kernel >"$1/boot/vmlinuz-6.1.0-9-amd64"; echo initramfs >"$1/boot/initrd.img-6.1.0-9-amd64"
tar -cf "$3" -C "$1" .`, "sh", dir, mkimage, l.tar())
}

// reachesKernel starts the disk under a BIOS until GRUB tries the kernel, which is none.
func (l *lab) reachesKernel() {
	l.Helper()
	cmd := exec.CommandContext(l.Context(), "timeout", "60", "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "256", "-display", "none",
		"-serial", "stdio", "-nic", "none", "-drive", "format=raw,if=virtio,snapshot=on,file="+l.disk)
	out, err := cmd.StdoutPipe()
	must(l, err)
	must(l, cmd.Start())
	defer func() { cmd.Process.Signal(os.Interrupt); cmd.Wait() }()
	var said strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(said.String(), "premature end of file /boot/vmlinuz-6.1.0-9-amd64") {
		n, err := out.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			l.Fatalf("GRUB does not come to the kernel: %v\n%s", err, said.String())
		}
	}
}

func TestAGuestWithAKernelGetsGRUB(t *testing.T) {
	for _, style := range []string{"msdos", "gpt"} {
		l := newLab(t, 700)
		l.grubTree()
		l.env["OSP_PARTITION_STYLE"], l.env["OSP_FIRMWARE"] = style, "bios"
		log := l.create()
		if !strings.Contains(log, "the guest boots Linux 6.1.0-9-amd64") {
			t.Error(log)
		}
		l.reachesKernel()
		l.mounted(func(tree string) {
			if out, _ := exec.Command("grep", "-rlE", "/dev/loop|loop[0-9]", tree+"/boot", tree+"/etc").Output(); len(out) > 0 {
				t.Errorf("the node's device is named in %s", out)
			}
			for _, name := range []string{"etc/default/grub.d/instance-debootstrap.cfg", "etc/udev/rules.d/61-instance-debootstrap.rules", "boot/grub/i386-pc/core.img"} {
				if _, err := os.Stat(filepath.Join(tree, name)); err != nil {
					t.Error(err)
				}
			}
			rule, _ := os.ReadFile(tree + "/etc/udev/rules.d/61-instance-debootstrap.rules")
			if id := l.tool("blkid", "-p", "-s", "PTUUID", "-o", "value", l.disk); !strings.Contains(string(rule), `"`+id+`"`) {
				t.Errorf("the disk is %s, and the rule\n%s", id, rule)
			}
		})
	}
}

func TestAHooksBootLoaderWins(t *testing.T) {
	l := newLab(t, 600)
	l.grubTree()
	l.hook("50-grub", `printf 'menuentry x {\n linux /boot/vmlinuz-6.1.0-9-amd64 root='$FSYSDEV'\n}\n' >"$TARGET/boot/grub.tmp"
mkdir -p "$TARGET/boot/grub"; mv "$TARGET/boot/grub.tmp" "$TARGET/boot/grub/grub.cfg"
printf mine | dd of="$BLOCKDEV" conv=notrunc status=none`)
	log := l.create()
	if !strings.Contains(log, "a hook has installed a boot loader") || !strings.Contains(log, "names a device of this node's") {
		t.Error(log)
	}
	if code := l.tool("head", "-c", "4", l.disk); code != "mine" {
		t.Errorf("the boot record begins with %q", code)
	}
	l.mounted(func(tree string) {
		text, err := os.ReadFile(tree + "/boot/grub/grub.cfg")
		if err != nil || strings.Contains(string(text), "loop") || !strings.Contains(string(text), "root=UUID=") {
			t.Errorf("%v\n%s", err, text)
		}
	})
}

func TestBootLoaderGRUBIsRefusedBeforeTheDiskIsTouched(t *testing.T) {
	for want, change := range map[string]func(l *lab){
		"PARTITION_STYLE=msdos or gpt": func(l *lab) { l.env["OSP_PARTITION_STYLE"] = "none" },
		"has no kernel in /boot":       func(l *lab) {},
		"PARTITION_STYLE=gpt":          func(l *lab) { l.env["OSP_FIRMWARE"] = "uefi" },
	} {
		l := newLab(t, 600)
		l.tinyTree()
		l.env["OSP_BOOTLOADER"] = "grub"
		change(l)
		l.fails(want)
		l.untouched()
	}
}

func TestAutoGoesOnWithoutAKernel(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	log := l.create()
	if !strings.Contains(log, "does not boot from its disk") || !strings.Contains(log, "no kernel") {
		t.Error(log)
	}
	l.env["OSP_PARTITION_STYLE"] = "none"
	if log = l.create(); !strings.Contains(log, "no boot loader: a disk without a partition table") {
		t.Error(log)
	}
	l.env["OSP_PARTITION_STYLE"], l.env["INSTANCE_HV_kernel_path"] = "msdos", "/boot/vmlinuz-3-kvmU"
	if log = l.create(); !strings.Contains(log, "the hypervisor starts the node's kernel") {
		t.Error(log)
	}
}

// Where the archive has no kernel for the guest, it is installed without.
func TestATreeThatCannotHaveAKernelIsBuiltWithout(t *testing.T) {
	l := newLab(t, 600)
	l.fake("debootstrap", fmt.Sprintf(`
case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac
case "$*" in *linux-image*) echo "E: Couldn't find these debs: linux-image-amd64" >&2; exit 1;; esac
for a; do case "$a" in %s/*) target=$a;; esac; done
mkdir -p "$target/etc" "$target/usr"
echo 'root:x:0:0:root:/root:/bin/bash' >"$target/etc/passwd"; echo 'root:*:19000:0:99999:7:::' >"$target/etc/shadow"`, base))
	l.write("default", "BOOTSTRAP=debootstrap\nMIRROR=http://mirror.example/debian\n", 0o644)
	log := l.create()
	if !strings.Contains(log, "gets no kernel and no boot loader") || !strings.Contains(log, "find these debs") {
		t.Error(log)
	}
	l.env["OSP_BOOTLOADER"] = "grub"
	l.fails("debootstrap")
}

// A guest without a kernel is no answer to a kernel that was asked for by a wrong name,
// to an archive that fails, or to a tree that can't be trusted.
func TestAutoDoesNotTakeAnyFailureForALackOfKernels(t *testing.T) {
	for name, c := range map[string]struct{ says, kernel string }{
		"a kernel's name that is wrong": {"E: Couldn't find these debs: linux-image-amd65", "linux-image-amd65"},
		"a package of another kind":     {"E: Couldn't find these debs: dbus", "auto"},
		"an archive that fails":         {"E: Failed getting release file", "auto"},
	} {
		l := newLab(t, 600)
		l.fake("debootstrap", fmt.Sprintf(`case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac
case "$*" in *linux-image*) echo "%s" >&2; exit 1;; esac`, c.says))
		l.write("default", "BOOTSTRAP=debootstrap\nMIRROR=http://mirror.example/debian\nKERNEL_PKG="+c.kernel+"\n", 0o644)
		if log := l.fails(strings.TrimPrefix(c.says, "E: ")); strings.Contains(log, "gets no kernel") {
			t.Errorf("%s: %s", name, log)
		}
		l.untouched()
	}
}

func TestTheEFISystemPartitionIsInFstab(t *testing.T) {
	l := newLab(t, 700)
	l.grubTree()
	l.env["OSP_PARTITION_STYLE"] = "gpt"
	log := l.create() // the tree has no signed GRUB
	if !strings.Contains(log, "does not boot from its disk: UEFI") {
		t.Error(log)
	}
	l.mounted(func(tree string) {
		fstab, err := os.ReadFile(tree + "/etc/fstab")
		must(t, err)
		uuid := l.tool("blkid", "-p", "-O", fmt.Sprint(4096*512), "-s", "UUID", "-o", "value", l.disk)
		if !strings.Contains(string(fstab), "UUID="+uuid+" ") || !strings.Contains(string(fstab), " /boot/efi ") {
			t.Errorf("the EFI system partition has the UUID %s:\n%s", uuid, fstab)
		}
		if st, err := os.Stat(tree + "/boot/efi"); err != nil || !st.IsDir() {
			t.Error(err)
		}
	})
}
