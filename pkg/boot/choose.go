package boot

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/ubuntu"
)

// Wish is what is asked for, and what is known of where the guest will run.
type Wish struct {
	Loader   string // auto, none or grub
	Kernel   string // auto, cloud or a package
	Firmware string // auto, bios, uefi or both

	Style            partition.Style
	AlignmentSectors int64 // of 512 bytes
	FSType           filesystem.Type
	Distribution     string // "debian" or "ubuntu"
	Suite, Arch      string
	Services         []string          // power, clock
	ExtraPkgs        []string          // the admin's own
	OwnBoot          bool              // /boot is a filesystem of its own
	Further          []filesystem.Type // of other folders
	InSubvolume      bool              // the root is in a subvolume of its btrfs
	OtherInit        bool              // one of these replaces systemd

	Hypervisor string            // Ganeti's; "" is an install by hand
	HV         map[string]string // its parameters
	BootType   string            // osapi.Request.BootType
}

// Plan is what a guest is made to boot with.
type Plan struct {
	// Loader is "grub", "menu" (a kernel and GRUB's configuration, for a
	// hypervisor that reads that), or "" for none.
	Loader     string
	Legacy     bool     // the menu is also in GRUB legacy's format, for PV-GRUB
	BIOS, UEFI bool     // what GRUB is installed for
	Packages   []string // the kernel and the boot loader
	Services   []string // packages of the guest's services
}

// Choose decides how the guest is to boot. Why says, for an auto that came to
// less than GRUB, what the reason is. A wish for GRUB that can't be granted is an
// error that names the setting to change.
func Choose(w Wish) (p Plan, why string, err error) {
	if w.Loader == "none" {
		return Plan{}, "BOOTLOADER=none", nil
	}
	loader := "grub"
	if w.Loader == "auto" {
		if loader, why = w.startedBy(); loader == "" {
			return Plan{}, why, nil
		}
	}
	p, err = w.plan(loader)
	switch needsGPT := errors.Is(err, errNeedsGPT); {
	case needsGPT && w.BootType == "uefi":
		return Plan{}, "", fmt.Errorf("boot_type=uefi starts the guest by UEFI: %w", err)
	case needsGPT && w.Firmware != "auto":
		return Plan{}, "", err
	case err != nil && w.Loader == "auto":
		return Plan{}, err.Error(), nil
	}
	if err != nil {
		return Plan{}, "", fmt.Errorf("BOOTLOADER=grub: %w", err)
	}
	return p, "", w.checkStart(p)
}

// checkStart refuses a boot loader for another firmware than the one that Ganeti starts
// the guest with: it would never be found.
func (w Wish) checkStart(p Plan) error {
	const end = "; BOOTLOADER=none is for a hook that installs one"
	how := w.BootType
	switch _, hasUEFI := w.hasFirmware(); {
	case how == "uefi" && !hasUEFI && p.Loader == "grub":
		return fmt.Errorf("boot_type=uefi starts the guest by UEFI, for which %s on %s has no GRUB that is known here: use boot_type=bios%s", w.Suite, w.Arch, end)
	case how == "uefi" && !p.UEFI && p.Loader == "grub":
		return fmt.Errorf("boot_type=uefi starts the guest by UEFI, and its GRUB would be for BIOS alone: use PARTITION_STYLE=gpt and FIRMWARE=auto (here: %s, %s)%s", w.Style, w.Firmware, end)
	case how == "bios" && !p.BIOS && p.Loader == "grub":
		return fmt.Errorf("boot_type=bios starts the guest by BIOS, and its GRUB would be for UEFI alone: use boot_type=uefi, or FIRMWARE=auto for a guest of amd64 (here: FIRMWARE=%s, %s)%s", w.Firmware, w.Arch, end)
	}
	return nil
}

// given is a hypervisor's parameter; Python's str() of what is unset is "None".
func (w Wish) given(name string) string {
	if v := w.HV[name]; v != "None" {
		return v
	}
	return ""
}

// startedBy returns what a hypervisor of Ganeti starts a guest's own kernel with
// (gnt-instance(8), "HYPERVISOR"), or why it doesn't.
func (w Wish) startedBy() (loader, why string) {
	kernel := w.given("kernel_path")
	switch w.Hypervisor {
	case "", "xen-hvm":
		return "grub", ""
	case "kvm":
		// A boot_type that is still to come starts from the disk, unless its name says
		// otherwise; a loader that isn't used does no harm.
		if strings.HasPrefix(w.BootType, "direct_kernel") || w.BootType == "" && kernel != "" {
			return "", strings.TrimSpace("the hypervisor starts the node's kernel " + kernel)
		}
		return "grub", ""
	case "xen-pvm":
		base := path.Base(kernel)
		if w.given("use_bootloader") == "True" || strings.HasPrefix(base, "pvgrub") || strings.HasPrefix(base, "pv-grub") || strings.HasPrefix(base, "grub-") {
			return "menu", ""
		}
		return "", "the hypervisor starts the node's kernel " + kernel
	}
	return "", "the hypervisor " + w.Hypervisor + " starts no kernel of the guest's"
}

func (w Wish) plan(loader string) (p Plan, err error) {
	p.Loader, p.Services = loader, w.servicePackages()
	kernel, err := w.kernel()
	if err != nil {
		return p, err
	}
	p.Packages = append([]string{kernel}, w.initramfsPackages()...)
	if loader == "grub" {
		if p.BIOS, p.UEFI, err = w.firmware(); err != nil {
			return p, err
		}
		p.Packages = append(p.Packages, w.grubPackages(p)...)
	} else if w.OwnBoot {
		return p, errors.New("what starts the guest reads the menu on its root: take the line of /boot out of the layout")
	} else if w.InSubvolume {
		return p, errors.New("what starts the guest reads the menu from the top of its root's filesystem: take the subvolumes out of the layout")
	} else {
		p.Packages = append(p.Packages, "grub2-common") // update-grub, at each upgrade of the kernel
		p.Legacy = strings.HasPrefix(path.Base(w.HV["kernel_path"]), "pv-grub")
	}
	for _, t := range append([]filesystem.Type{w.FSType}, w.Further...) { // what the initramfs and the guest's admin check it with
		if name := checkedBy[t]; name != "" && !slices.Contains(p.Packages, name) {
			p.Packages = append(p.Packages, name)
		}
	}
	return p, nil
}

var checkedBy = map[filesystem.Type]string{filesystem.XFS: "xfsprogs", filesystem.Btrfs: "btrfs-progs"}

// kernels are the metapackages of the archives: for all machines, and for
// virtual ones.
var kernels = map[string][2]string{
	"debian/amd64": {"linux-image-amd64", "linux-image-cloud-amd64"},
	"debian/arm64": {"linux-image-arm64", "linux-image-cloud-arm64"},
	"debian/i386":  {"linux-image-686-pae", "linux-image-686-pae"},
	"ubuntu/amd64": {"linux-image-virtual", "linux-image-virtual"}, // generic is the same one, with rarer drivers and 400 MiB of firmware
	"ubuntu/arm64": {"linux-image-virtual", "linux-image-virtual"},
	"ubuntu/i386":  {"linux-image-virtual", "linux-image-virtual"},
}

// i386Suites are the last ones that have a kernel for i386.
var i386Suites = strings.Fields("wheezy jessie stretch buster bullseye bookworm trusty xenial bionic")

// gzipInitramfs are the suites of Debian whose initramfs-tools don't compress by zstd, which later
// ones do if it is there: initramfs-tools-core recommends it.
var gzipInitramfs = strings.Fields("lenny squeeze wheezy jessie stretch buster bullseye")

// isUbuntuSince tells whether it is that suite of Ubuntu, or a later one: those that aren't known
// are.
func (w Wish) isUbuntuSince(suite string) bool {
	return w.Distribution == "ubuntu" && !ubuntu.Before(w.Suite, suite)
}

// initramfsPackages are what makes the initramfs, and compresses it, and comes by no dependency.
func (w Wish) initramfsPackages() []string {
	switch {
	case w.isUbuntuSince("resolute"): // whose kernels recommend it, and earlier ones' the other
		return []string{"dracut", "zstd"}
	case w.isUbuntuSince("lunar"): // whose initramfs-tools only recommends zstd; earlier ones depend on it, or don't know it
		return []string{"initramfs-tools", "zstd"}
	case w.Distribution == "ubuntu":
		return []string{"initramfs-tools"}
	case !slices.Contains(gzipInitramfs, w.Suite):
		return []string{"zstd"}
	}
	return nil
}

func (w Wish) kernel() (string, error) {
	if w.Kernel != "auto" && w.Kernel != "cloud" {
		return w.Kernel, nil
	}
	names, ok := kernels[w.Distribution+"/"+w.Arch]
	if !ok || w.Arch == "i386" && !slices.Contains(i386Suites, w.Suite) {
		return "", fmt.Errorf("no kernel package is known for %s on %s: name one in KERNEL_PKG", w.Suite, w.Arch)
	}
	if w.Kernel == "cloud" {
		return names[1], nil
	}
	return names[0], nil
}

// beforeSecureBoot are suites without a signed GRUB and shim.
var beforeSecureBoot = strings.Fields("wheezy jessie stretch trusty")

// minGapSectors is the room before the first partition that GRUB's core image
// needs with every filesystem (512-byte sectors).
const minGapSectors = 512

// errNeedsGPT is a wish for UEFI on a disk that has no place for its loader. Who has set
// both, or has Ganeti start the guest so, is told, also with BOOTLOADER=auto: it isn't the
// suite's or the disk's doing.
var errNeedsGPT = errors.New("needs PARTITION_STYLE=gpt")

// hasFirmware says for which firmware there is a GRUB of the suite's that is known here.
func (w Wish) hasFirmware() (bios, uefi bool) {
	return w.Arch == "amd64" || w.Arch == "i386", (w.Arch == "amd64" || w.Arch == "arm64") && !slices.Contains(beforeSecureBoot, w.Suite)
}

func (w Wish) firmware() (bios, uefi bool, err error) {
	hasBIOS, hasUEFI := w.hasFirmware()
	firmware := w.Firmware
	if firmware == "auto" {
		switch {
		case w.Style == partition.StyleGPT && hasBIOS && hasUEFI:
			firmware = "both"
		case hasBIOS:
			firmware = "bios"
		default:
			firmware = "uefi"
		}
	}
	bios, uefi = firmware != "uefi", firmware != "bios"
	switch {
	case bios && !hasBIOS || uefi && !hasUEFI:
		return false, false, fmt.Errorf("%s on %s has no GRUB that is known here for FIRMWARE=%s: set FIRMWARE=auto, or BOOTLOADER=none", w.Suite, w.Arch, firmware)
	case w.Style == partition.StyleNone:
		return false, false, errors.New("a disk without a partition table has no room for GRUB: use PARTITION_STYLE=msdos or gpt")
	case uefi && w.Style != partition.StyleGPT:
		return false, false, fmt.Errorf("FIRMWARE=%s %w", firmware, errNeedsGPT)
	case w.Style == partition.StyleMSDOS && w.AlignmentSectors < minGapSectors:
		return false, false, fmt.Errorf("PARTITION_ALIGNMENT=%d leaves GRUB too little room before the partition: use 2048", w.AlignmentSectors)
	}
	return bios, uefi, nil
}

// grubPackages are what the guest's later upgrades keep GRUB fresh with. grub-pc
// is the one that installs itself for BIOS, and excludes grub-efi-*, but not the
// signed images.
func (w Wish) grubPackages(p Plan) []string {
	var out []string
	if p.BIOS {
		out = append(out, "grub-pc")
	}
	if p.UEFI {
		if !p.BIOS {
			out = append(out, "grub-efi-"+w.Arch)
		}
		out = append(out, "grub-efi-"+w.Arch+"-signed", "shim-signed")
	}
	return out
}
