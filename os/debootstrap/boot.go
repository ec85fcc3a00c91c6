package debootstrap

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/pattern"
)

// bootJob is what a create knows of how its guest is to boot.
type bootJob struct {
	boot.Plan
	why     string // it is less than GRUB
	console boot.Console

	serial    uint32 // of the EFI system partition's filesystem
	espDevice string // its node
	kernel    boot.Kernel
	made      string // what the guest boots by in the end: grub, menu, hook; "" is nothing
}

// chooseBoot decides how the guest is to boot, once its architecture is known.
func (j *Job) chooseBoot() (err error) {
	s := j.Settings
	j.boot.Plan, j.boot.why, err = boot.Choose(boot.Wish{
		Loader: s.BootLoader, Kernel: s.KernelPkg, Firmware: s.Firmware,
		Style: j.bootStyle(), AlignmentSectors: s.PartitionAlignment, FSType: j.fstype(),
		Distribution: j.tool.Distribution(), Suite: s.Suite, Arch: j.arch, Services: s.GuestServices,
		ExtraPkgs: s.ExtraPkgs, OtherInit: bootstrap.ReplacesInit(s.ExtraPkgs),
		Hypervisor: j.Request.Hypervisor, HV: j.Request.HV,
	})
	j.boot.console = boot.Consoles(j.Request.Hypervisor, j.Request.HV)
	return errors.Join(err, j.checkBootTest())
}

// mustBoot says that a guest which can't boot by itself is a failure.
func (j *Job) mustBoot() bool { return j.Settings.BootLoader == "grub" }

// dropBoot goes on without a boot loader, and says why.
func (j *Job) dropBoot(ctx context.Context, why error) {
	warn(ctx, "the guest gets no kernel and no boot loader: %v", why)
	j.boot.Plan, j.boot.why = boot.Plan{}, why.Error()
}

// lacksBootPackage tells whether a tree wasn't built because the suite doesn't have a
// package that was chosen here for it to boot by. One that KERNEL_PKG names was not.
func (j *Job) lacksBootPackage(err error) bool {
	return slices.ContainsFunc(bootstrap.Lacking(err, j.boot.Packages), func(name string) bool { return name != j.Settings.KernelPkg })
}

// suitePackages are those that were chosen here, which the suite has or has not.
func (j *Job) suitePackages() []string {
	return slices.DeleteFunc(slices.Concat(j.boot.Packages, j.boot.Services, j.agentPackages()), func(name string) bool { return name == j.Settings.KernelPkg })
}

// treePackages are the packages of the tree beside its base system.
func (j *Job) treePackages() []string {
	out := slices.Clone(j.packages())
	for _, name := range slices.Concat(j.boot.Packages, j.boot.Services, j.agentPackages()) {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// bootPartitions are what firmware needs beside the root.
func (j *Job) bootPartitions() partition.Boot {
	return partition.Boot{BIOS: j.boot.BIOS, UEFI: j.boot.UEFI}
}

func (j *Job) hasESP(context.Context) (bool, string) {
	_, ok := j.table.ESP()
	return unless(ok || j.boot.UEFI && j.style() == partition.StyleGPT, "the guest isn't to boot by UEFI")
}

// makeESP makes the filesystem that UEFI starts from, and adds the nodes of the
// partitions beside the root, for hooks.
func (j *Job) makeESP(context.Context) error {
	esp, _ := j.table.ESP()
	var err error
	if j.boot.espDevice, err = j.loop.AddPartition(esp.Number, esp.StartSector, esp.Sectors); err != nil {
		return err
	}
	if j.boot.serial, err = randomSerial(); err != nil {
		return err
	}
	return boot.MakeESP(j.boot.espDevice, esp.Sectors*partition.SectorSize, j.boot.serial)
}

func randomSerial() (uint32, error) {
	var b [4]byte
	_, err := rand.Read(b[:])
	return binary.LittleEndian.Uint32(b[:]) | 1, err
}

// espUUID is the UUID of the EFI system partition's filesystem, "" is none.
func (j *Job) espUUID() string {
	if j.boot.espDevice == "" {
		return ""
	}
	return boot.FATUUID(j.boot.serial)
}

// devLinks are what /dev/disk has for tools in the namespace: the guest's own
// filesystems by UUID, no filesystem of the node's, and the disk that GRUB goes
// on by the name that debconf knows; the instance's own disks keep the names that
// Ganeti gave, and the first is the loop device by its, too.
func (j *Job) devLinks() map[string]string {
	links := map[string]string{"/dev/disk/by-uuid/" + j.rootUUID: j.fsysDev, boot.BootDisk: j.loop.Path}
	if uuid := j.espUUID(); uuid != "" {
		links["/dev/disk/by-uuid/"+uuid] = j.boot.espDevice
	}
	for _, d := range j.Request.Disks {
		to, err := filepath.EvalSymlinks(d.Path)
		if d.Path == j.Request.BlockDev {
			to, err = j.loop.Path, nil
		}
		if err == nil && strings.HasPrefix(d.Path, "/dev/disk/") {
			links[d.Path] = to
		}
	}
	return links
}

// prepareBoot writes what the guest's update-grub and its packages' upgrades have
// to know, before the hooks, which may run them.
func (j *Job) prepareBoot(root *guest.Root) error {
	if j.boot.Loader == "" {
		return nil
	}
	err := boot.WriteDefaults(root, j.boot.console)
	if err == nil {
		err = boot.WriteDeviceTimeout(root)
	}
	if err == nil && j.boot.Loader == "grub" {
		err = boot.WriteUdevRules(root, j.bootTable().DiskID)
	}
	if err == nil && j.boot.UEFI {
		err = root.MkdirAll("/boot/efi", 0o700)
	}
	return err
}

func (j *Job) getsBoot(context.Context) (bool, string) { return j.boot.Loader != "", j.boot.why }

// makeBootable makes the guest boot from its disk, unless a hook has seen to that.
func (j *Job) makeBootable(ctx context.Context) error {
	return j.inGuest(ctx, func(root *guest.Root) error {
		target := j.bootTarget(root)
		menu, err := boot.ReadMenu(ctx, target, j.boot.console)
		if err != nil {
			warn(ctx, "%v: the guest's update-grub will fail on it too; the first menu goes without", err)
		}
		if j.boot.Loader == "grub" && !j.mustBoot() {
			by, err := boot.InstalledBy(j.loop.Path, j.boot.espDevice, root)
			if err != nil {
				return err
			}
			if by != "" {
				j.boot.made = "hook"
				info(ctx, "a hook has installed a boot loader (%s): it stays as it is", by)
				why, err := boot.MendConfig(target, menu)
				if why != "" {
					warn(ctx, "the hook's grub.cfg %s: it is written anew", why)
				}
				return err
			}
		}
		if err := j.warnOfAdminsInitramfs(ctx); err != nil {
			return err
		}
		if j.tree == nil { // of a tree the kernel was known before the disk was touched
			if err := j.checkNICs(root); err != nil {
				return err
			}
		}
		ownLegacy, err := j.hooksMenu(ctx, root)
		if err != nil {
			return err
		}
		kernel, err := boot.Install(ctx, target, boot.Setup{
			Plan: j.boot.Plan, Menu: menu, ESPDevice: j.boot.espDevice,
			Distribution: j.tool.Distribution(), Arch: j.arch, OwnLegacy: ownLegacy,
		})
		switch {
		case err == nil:
			j.boot.kernel, j.boot.made = kernel, j.boot.Loader
			info(ctx, "the guest boots Linux %s", pattern.Plain(kernel.Version))
			return nil
		case j.mustBoot() || context.Cause(ctx) != nil:
			return err
		case errors.Is(err, boot.ErrNoKernel):
			warn(ctx, "the guest does not boot from its disk: %v", err)
		default:
			warn(ctx, "the guest does not boot from its disk: %v; BOOTLOADER=none leaves the attempt out", err)
		}
		return nil
	})
}

// hooksMenu tells whether a hook has written a menu for GRUB legacy that can stay.
func (j *Job) hooksMenu(ctx context.Context, root *guest.Root) (bool, error) {
	now, err := root.Fingerprint(boot.LegacyMenu)
	if err != nil || j.netBefore == nil || now == "" || now == j.menuBefore {
		return false, err
	}
	if boot.NamesNodesDevice(root, boot.LegacyMenu) {
		warn(ctx, "the hook's %s names a device of this node's: the guest can't start by it", boot.LegacyMenu)
		return false, nil
	}
	info(ctx, "a hook has written %s: it stays as it is", boot.LegacyMenu)
	return true, nil
}

// rootPartition is the number of the root's partition in a table that we make.
const rootPartition = 1

// rootNumber is the number of the root's partition, 0 where it is the whole disk,
// also in a table to which a hook has added others.
func (j *Job) rootNumber() int {
	if j.style() == partition.StyleNone {
		return 0
	}
	return rootPartition
}

// checkBootTree refuses a tree that was made elsewhere and can't boot, where a
// guest that boots was asked for.
func (j *Job) checkBootTree() error {
	if j.mustBoot() && j.tree != nil && j.tree.Key == "" && !j.tree.HasKernel {
		return fmt.Errorf("BOOTLOADER=grub: %s has no kernel in /boot: remove it to have a tree built with one, or set BOOTLOADER=auto", j.tree.Path)
	}
	return nil
}
