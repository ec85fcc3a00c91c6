package boot

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
)

func wish(change func(*Wish)) Wish {
	w := Wish{
		Loader: "auto", Kernel: "auto", Firmware: "auto", Style: partition.StyleMSDOS, AlignmentSectors: 2048, FSType: filesystem.Ext4,
		Distribution: "debian", Suite: "trixie", Arch: "amd64", Hypervisor: "kvm", HV: map[string]string{"kernel_path": "None"},
	}
	if change != nil {
		change(&w)
	}
	return w
}

func TestWhatTheGuestIsMadeToBootWith(t *testing.T) {
	bios := Plan{Loader: "grub", BIOS: true, Packages: []string{"linux-image-amd64", "zstd", "grub-pc"}}
	for _, c := range []struct {
		name   string
		change func(*Wish)
		want   Plan
		why    string // of none
	}{
		{"kvm without kernel_path", nil, bios, ""},
		{"kvm, kernel_path empty", func(w *Wish) { w.HV = map[string]string{"kernel_path": ""} }, bios, ""},
		{"kvm with the node's kernel", func(w *Wish) { w.HV = map[string]string{"kernel_path": "/boot/vmlinuz-3-kvmU"} }, Plan{}, "/boot/vmlinuz-3-kvmU"},
		{"kvm by boot_type from the disk, whatever kernel_path says", func(w *Wish) {
			w.HV = map[string]string{"kernel_path": "/boot/vmlinuz-3-kvmU"}
			w.BootType = "bios"
		}, bios, ""},
		{"kvm by boot_type with the node's kernel", func(w *Wish) {
			w.HV = map[string]string{"kernel_path": "/boot/vmlinuz-3-kvmU"}
			w.BootType = "direct_kernel"
		}, Plan{}, "/boot/vmlinuz-3-kvmU"},
		{"a boot_type that is still to come", func(w *Wish) {
			w.HV = map[string]string{"kernel_path": "/boot/vmlinuz-3-kvmU"}
			w.BootType = "direct_kernel_efi"
		}, Plan{}, "/boot/vmlinuz-3-kvmU"},
		{"another boot_type that is still to come", func(w *Wish) {
			w.HV = map[string]string{"kernel_path": "/boot/vmlinuz-3-kvmU"}
			w.BootType = "coreboot"
		}, bios, ""},
		{"boot_type=uefi", func(w *Wish) {
			w.Style, w.HV = partition.StyleGPT, map[string]string{"kernel_path": "/boot/vmlinuz-3-kvmU"}
			w.BootType = "uefi"
		}, Plan{Loader: "grub", BIOS: true, UEFI: true, Packages: []string{"linux-image-amd64", "zstd", "grub-pc", "grub-efi-amd64-signed", "shim-signed"}}, ""},
		{"by hand", func(w *Wish) { w.Hypervisor, w.HV = "", nil }, bios, ""},
		{"xen-hvm", func(w *Wish) { w.Hypervisor, w.HV = "xen-hvm", nil }, bios, ""},
		{"xen-pvm", func(w *Wish) {
			w.Hypervisor, w.HV = "xen-pvm", map[string]string{"kernel_path": "/boot/vmlinuz-3-xenU", "use_bootloader": "False"}
		}, Plan{}, "vmlinuz-3-xenU"},
		{"pygrub", func(w *Wish) {
			w.Hypervisor, w.HV = "xen-pvm", map[string]string{"kernel_path": "None", "use_bootloader": "True", "bootloader_path": "/usr/bin/pygrub"}
		}, Plan{Loader: "menu", Packages: []string{"linux-image-amd64", "zstd", "grub2-common"}}, ""},
		{"pvgrub", func(w *Wish) {
			w.Hypervisor, w.HV = "xen-pvm", map[string]string{"kernel_path": "/usr/lib/xen/boot/pvgrub-x86_64.bin"}
		}, Plan{Loader: "menu", Packages: []string{"linux-image-amd64", "zstd", "grub2-common"}}, ""},
		{"PV-GRUB, which is GRUB legacy", func(w *Wish) {
			w.Hypervisor, w.HV = "xen-pvm", map[string]string{"kernel_path": "/usr/lib/xen-4.4/boot/pv-grub-x86_64.gz"}
		}, Plan{Loader: "menu", Legacy: true, Packages: []string{"linux-image-amd64", "zstd", "grub2-common"}}, ""},
		{"lxc", func(w *Wish) { w.Hypervisor = "lxc" }, Plan{}, "lxc"},
		{"none", func(w *Wish) { w.Loader = "none" }, Plan{}, "BOOTLOADER=none"},
		{"grub whatever the hypervisor", func(w *Wish) { w.Loader, w.Hypervisor = "grub", "fake" }, bios, ""},
		{"gpt", func(w *Wish) { w.Style = partition.StyleGPT },
			Plan{Loader: "grub", BIOS: true, UEFI: true, Packages: []string{"linux-image-amd64", "zstd", "grub-pc", "grub-efi-amd64-signed", "shim-signed"}}, ""},
		{"uefi only", func(w *Wish) { w.Style, w.Firmware = partition.StyleGPT, "uefi" },
			Plan{Loader: "grub", UEFI: true, Packages: []string{"linux-image-amd64", "zstd", "grub-efi-amd64", "grub-efi-amd64-signed", "shim-signed"}}, ""},
		{"arm64", func(w *Wish) { w.Style, w.Arch, w.Hypervisor = partition.StyleGPT, "arm64", "" },
			Plan{Loader: "grub", UEFI: true, Packages: []string{"linux-image-arm64", "zstd", "grub-efi-arm64", "grub-efi-arm64-signed", "shim-signed"}}, ""},
		{"the small kernel, xfs", func(w *Wish) { w.Kernel, w.FSType = "cloud", filesystem.XFS },
			Plan{Loader: "grub", BIOS: true, Packages: []string{"linux-image-cloud-amd64", "zstd", "grub-pc", "xfsprogs"}}, ""},
		{"a kernel by name", func(w *Wish) { w.Kernel, w.Suite, w.Arch = "linux-image-686", "trixie", "i386" },
			Plan{Loader: "grub", BIOS: true, Packages: []string{"linux-image-686", "zstd", "grub-pc"}}, ""},
		{"ubuntu, whose initramfs-tools only recommends zstd", func(w *Wish) { w.Distribution, w.Suite = "ubuntu", "noble" },
			Plan{Loader: "grub", BIOS: true, Packages: []string{"linux-image-virtual", "initramfs-tools", "zstd", "grub-pc"}}, ""},
		{"an ubuntu whose initramfs-tools depends on it", func(w *Wish) { w.Distribution, w.Suite = "ubuntu", "jammy" },
			Plan{Loader: "grub", BIOS: true, Packages: []string{"linux-image-virtual", "initramfs-tools", "grub-pc"}}, ""},
		{"an old ubuntu", func(w *Wish) { w.Distribution, w.Suite = "ubuntu", "impish" },
			Plan{Loader: "grub", BIOS: true, Packages: []string{"linux-image-virtual", "initramfs-tools", "grub-pc"}}, ""},
		{"ubuntu with dracut", func(w *Wish) { w.Distribution, w.Suite = "ubuntu", "resolute" },
			Plan{Loader: "grub", BIOS: true, Packages: []string{"linux-image-virtual", "dracut", "zstd", "grub-pc"}}, ""},
		{"i386 in trixie", func(w *Wish) { w.Arch = "i386" }, Plan{}, "KERNEL_PKG"},
		{"i386 in bookworm", func(w *Wish) { w.Arch, w.Suite = "i386", "bookworm" },
			Plan{Loader: "grub", BIOS: true, Packages: []string{"linux-image-686-pae", "zstd", "grub-pc"}}, ""},
		{"no partition", func(w *Wish) { w.Style = partition.StyleNone }, Plan{}, "PARTITION_STYLE=msdos or gpt"},
		{"jessie on gpt", func(w *Wish) { w.Style, w.Suite = partition.StyleGPT, "jessie" },
			Plan{Loader: "grub", BIOS: true, Packages: []string{"linux-image-amd64", "grub-pc"}}, ""},
	} {
		got, why, err := Choose(wish(c.change))
		if err != nil || !cmp.Equal(got, c.want) || !strings.Contains(why, c.why) || c.why == "" && why != "" {
			t.Errorf("%s: %+v, %q, %v; want %+v, %q", c.name, got, why, err, c.want, c.why)
		}
	}
}

func TestGRUBThatCannotBeIsRefusedAndAutoSaysWhy(t *testing.T) {
	for want, change := range map[string]func(*Wish){
		"PARTITION_STYLE=msdos or gpt": func(w *Wish) { w.Style = partition.StyleNone },
		"needs PARTITION_STYLE=gpt":    func(w *Wish) { w.Arch = "arm64" },
		"PARTITION_ALIGNMENT=63":       func(w *Wish) { w.AlignmentSectors = 63 },
		"KERNEL_PKG":                   func(w *Wish) { w.Arch = "s390x" },
		"FIRMWARE=both":                func(w *Wish) { w.Suite, w.Firmware, w.Style = "jessie", "both", partition.StyleGPT },
	} {
		w := wish(change)
		if p, why, err := Choose(w); err != nil || p.Loader != "" || !strings.Contains(why, want) {
			t.Errorf("auto: %+v, %q, %v; want %q", p, why, err, want)
		}
		w.Loader = "grub"
		if _, _, err := Choose(w); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("grub: %v; want %q", err, want)
		}
	}
}

func TestUEFIThatIsAskedForWithoutAPlaceForItsLoaderIsRefusedWithAutoToo(t *testing.T) {
	for _, firmware := range []string{"uefi", "both"} {
		w := wish(func(w *Wish) { w.Firmware = firmware })
		for _, w.Loader = range []string{"auto", "grub"} {
			if p, why, err := Choose(w); err == nil || !strings.Contains(err.Error(), "FIRMWARE="+firmware+" needs PARTITION_STYLE=gpt") {
				t.Errorf("%s: %+v, %q, %v", w.Loader, p, why, err)
			}
		}
	}
}

func TestGRUBForAnotherFirmwareThanGanetiStartsIsRefused(t *testing.T) {
	for _, c := range []struct {
		how, want string
		change    func(*Wish)
	}{
		{"uefi", "PARTITION_STYLE=gpt", func(*Wish) {}},
		{"uefi", "needs PARTITION_STYLE=gpt", func(w *Wish) { w.Arch = "arm64" }},
		{"uefi", "FIRMWARE=auto", func(w *Wish) { w.Style, w.Firmware = partition.StyleGPT, "bios" }},
		{"uefi", "BOOTLOADER=none", func(w *Wish) { w.Style, w.Suite = partition.StyleGPT, "jessie" }},
		{"bios", "FIRMWARE=auto", func(w *Wish) { w.Style, w.Firmware = partition.StyleGPT, "uefi" }},
	} {
		for _, loader := range []string{"auto", "grub"} {
			w := wish(c.change)
			w.Loader, w.BootType = loader, c.how
			if _, _, err := Choose(w); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "boot_type="+c.how) {
				t.Errorf("BOOTLOADER=%s, boot_type=%s: %v; want %q", loader, c.how, err, c.want)
			}
		}
		w := wish(c.change)
		w.Loader, w.BootType = "none", c.how
		if p, _, err := Choose(w); err != nil || p.Loader != "" {
			t.Errorf("BOOTLOADER=none, boot_type=%s: %+v, %v", c.how, p, err)
		}
	}
}

// TestARemedyIsNotWhatIsSetAlready: where the suite or the architecture has no GRUB for the
// firmware, no table and no FIRMWARE gives it one.
func TestARemedyIsNotWhatIsSetAlready(t *testing.T) {
	for _, c := range []struct{ how, suite, arch, want string }{
		{"uefi", "jessie", "amd64", "jessie on amd64 has no GRUB that is known here: use boot_type=bios;"},
		{"uefi", "bookworm", "i386", "bookworm on i386 has no GRUB that is known here: use boot_type=bios;"},
		{"bios", "bookworm", "arm64", "use boot_type=uefi, or FIRMWARE=auto for a guest of amd64 (here: FIRMWARE=auto, arm64)"},
	} {
		w := wish(func(w *Wish) { w.Style, w.Suite, w.Arch, w.BootType = partition.StyleGPT, c.suite, c.arch, c.how })
		if _, _, err := Choose(w); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("boot_type=%s, %s on %s: %v; want %q", c.how, c.suite, c.arch, err, c.want)
		}
	}
}
