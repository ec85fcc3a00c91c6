package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/pattern"
)

// Setup is what Install is told of a new guest beside its Target.
type Setup struct {
	Plan         Plan
	Menu         Menu
	ESPDevice    string // the EFI system partition's node, with UEFI
	Distribution string // "debian" or "ubuntu"
	Arch         string
	OwnLegacy    bool // a hook has written LegacyMenu: it stays
}

// ErrNoKernel is why a tree can't be made to boot.
var ErrNoKernel = errors.New("the tree has no kernel with an initramfs in /boot")

// Install makes a new guest boot from its disk: its first grub.cfg, unless a hook
// has had one made, GRUB's boot record and core image for BIOS, and the signed
// programs on the EFI system partition. The kernel that is started by default is
// returned.
func Install(ctx context.Context, t Target, s Setup) (Kernel, error) {
	kernels, err := Kernels(t.Root)
	if err != nil {
		return Kernel{}, err
	}
	if len(kernels) == 0 {
		return Kernel{}, ErrNoKernel
	}
	var programs map[string][]byte
	if s.Plan.UEFI { // before anything is written: they may be missing
		if programs, err = efiFiles(t.Root, s.Arch, vendor(s.Distribution)); err != nil {
			return Kernel{}, fmt.Errorf("UEFI: %w", err)
		}
		programs["/EFI/"+vendor(s.Distribution)+"/grub.cfg"] = espConfig(t.bootUUID(), t.onBoot("/boot/grub"))
	}
	if t.Boot != nil || !hasOwnConfig(t.Root, s.Plan.Loader) { // a hook's names /boot on the root's
		if err := writeConfig(t, kernels, s.Menu); err != nil {
			return Kernel{}, err
		}
	}
	if s.Plan.Legacy && !s.OwnLegacy {
		if err := writeLegacyMenu(t, kernels, s.Menu); err != nil {
			return Kernel{}, err
		}
	}
	if s.Plan.BIOS {
		if err := RestoreBIOS(ctx, t); err != nil {
			return Kernel{}, fmt.Errorf("BIOS: %w", err)
		}
	}
	if s.Plan.UEFI {
		if err := fillESP(s.ESPDevice, programs); err != nil {
			return Kernel{}, fmt.Errorf("UEFI: the EFI system partition: %w", err)
		}
	}
	return kernels[0], nil
}

func writeConfig(t Target, kernels []Kernel, m Menu) error {
	return t.Root.Put("/boot/grub/grub.cfg", config(title(t.Root), t, kernels, m), 0o600)
}

// MendConfig gives a guest whose boot loader a hook has installed a grub.cfg, where
// it can't start by its own: one that names a device of the node's, or one of
// grub-mkconfig's without a kernel, both of which update-grub leaves that runs here,
// or none beside the modules that grub-install has copied. It says why it did; "" is
// that it did not.
func MendConfig(t Target, m Menu) (why string, err error) {
	text, err := t.Root.ReadFile("/boot/grub/grub.cfg", maxConfig)
	switch modules := hasModules(t.Root); {
	case err == nil && nodesDevice().Match(text):
		why = "names a device of this node's"
	case errors.Is(err, fs.ErrNotExist) && modules:
		why = "is missing"
	case err == nil && modules && bytes.Contains(text, []byte("grub-mkconfig")) && !startsKernel().Match(text):
		why = "starts no kernel"
	default:
		return "", nil
	}
	kernels, err := Kernels(t.Root)
	if err != nil || len(kernels) == 0 {
		return "", err
	}
	return why, writeConfig(t, kernels, m)
}

// hasModules tells whether grub-install has run in the guest.
func hasModules(root *guest.Root) bool {
	for _, platform := range []string{"i386-pc", "x86_64-efi", "arm64-efi"} {
		if root.Exists("/boot/grub/" + platform + "/normal.mod") {
			return true
		}
	}
	return false
}

const maxConfig = 1 << 20

// LegacyMenu is the menu of GRUB legacy, which pygrub and the legacy PV-GRUB read.
const LegacyMenu = "/boot/grub/menu.lst"

var (
	startsKernel = pattern.New(`(?m)^\s*linux\S*\s`)
	startsLegacy = pattern.New(`(?m)^\s*title\s[^\n]*\n(\s*[a-z#][^\n]*\n)*?\s*kernel\s`)
	nodesDevice  = pattern.New(`/dev/(loop|mapper|dm-)`)
)

// hasOwnConfig reports whether the guest has a grub.cfg that starts a kernel, by
// what is to read it, and names no device of the node's. Where no GRUB is installed
// on the disk, but a hypervisor reads the menu ("menu"), one in GRUB legacy's syntax
// does, as a hook leaves it that links menu.lst to it.
func hasOwnConfig(root *guest.Root, loader string) bool {
	text, err := root.ReadFile("/boot/grub/grub.cfg", maxConfig)
	starts := startsKernel().Match(text) || loader == "menu" && startsLegacy().Match(text)
	return err == nil && starts && !nodesDevice().Match(text)
}

// NamesNodesDevice tells whether one of the guest's files does.
func NamesNodesDevice(root *guest.Root, file string) bool {
	text, err := root.ReadFile(file, maxConfig)
	return err == nil && nodesDevice().Match(text)
}

// InstalledBy reports what boot loader the disk has already, as a hook may have
// installed it: one with code in the boot record, on the EFI system partition
// (espDevice, "" is none), or with a configuration of its own. "" is none.
func InstalledBy(disk, espDevice string, root *guest.Root) (string, error) {
	f, err := os.Open(disk)
	if err != nil {
		return "", err
	}
	defer f.Close()
	code := make([]byte, codeBytes)
	if _, err := f.ReadAt(code, 0); err != nil {
		return "", err
	}
	for _, b := range code {
		if b != 0 {
			return "code in the boot record", nil
		}
	}
	if espDevice != "" {
		// What can't be read as it was made isn't ours any more.
		if used, err := ESPInUse(espDevice); err != nil || used {
			return "the EFI system partition isn't empty", nil
		}
	}
	for _, name := range []string{"/boot/extlinux/extlinux.conf", "/boot/extlinux.conf", "/boot/syslinux/syslinux.cfg", "/extlinux.conf", "/boot/loader/loader.conf", "/etc/lilo.conf"} {
		if root.Exists(name) {
			return name, nil
		}
	}
	return "", nil
}
