package boot

import (
	"context"
	"errors"
	"fmt"
	"os"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/pattern"
)

// Setup is what Install is told of a new guest beside its Target.
type Setup struct {
	Plan         Plan
	Console      Console
	ESPDevice    string // the EFI system partition's node, with UEFI
	Distribution string // "debian" or "ubuntu"
	Arch         string
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
		programs["/EFI/"+vendor(s.Distribution)+"/grub.cfg"] = espConfig(t.RootUUID)
	}
	if t.Boot != nil || !hasOwnConfig(t.Root) { // a hook's names /boot on the root's
		if err := writeConfig(t, kernels, s.Console); err != nil {
			return Kernel{}, err
		}
	}
	if s.Plan.Legacy {
		if err := writeLegacyMenu(t, kernels, s.Console); err != nil {
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

func writeConfig(t Target, kernels []Kernel, c Console) error {
	if err := t.Root.MkdirAll("/boot/grub", 0o755); err != nil {
		return err
	}
	return t.Root.WriteFile("/boot/grub/grub.cfg", config(title(t.Root), t, kernels, c), 0o600, guest.Reset)
}

// MendConfig replaces a grub.cfg that names a device of the node's: what
// update-grub, run here by a hook, can leave. It reports whether it did.
func MendConfig(t Target, c Console) (bool, error) {
	text, err := t.Root.ReadFile("/boot/grub/grub.cfg", maxConfig)
	if err != nil || !nodesDevice().Match(text) {
		return false, nil
	}
	kernels, err := Kernels(t.Root)
	if err != nil || len(kernels) == 0 {
		return false, err
	}
	return true, writeConfig(t, kernels, c)
}

const maxConfig = 1 << 20

var (
	startsKernel = pattern.New(`(?m)^\s*linux\S*\s`)
	nodesDevice  = pattern.New(`/dev/(loop|mapper|dm-)`)
)

// hasOwnConfig reports whether the guest has a grub.cfg that starts a kernel and
// names no device of the node's.
func hasOwnConfig(root *guest.Root) bool {
	text, err := root.ReadFile("/boot/grub/grub.cfg", maxConfig)
	return err == nil && startsKernel().Match(text) && !nodesDevice().Match(text)
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
	for _, name := range []string{"/boot/extlinux/extlinux.conf", "/boot/syslinux/syslinux.cfg", "/extlinux.conf", "/boot/loader/loader.conf", "/etc/lilo.conf"} {
		if root.Exists(name) {
			return name, nil
		}
	}
	return "", nil
}
