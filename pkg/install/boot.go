package install

import (
	"context"
	"errors"
	"strings"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// booting is what the guest boots by in the end.
type booting struct {
	by     string // grub, menu, hook; "" is nothing
	kernel boot.Kernel
}

func (c Choice) hasESP(context.Context) (bool, string) {
	return session.NeededIf(c.Boot.UEFI && c.style() == partition.StyleGPT, "the guest isn't to boot by UEFI")
}

func (c Choice) getsBoot(context.Context) (bool, string) { return c.Boot.Loader != "", c.whyNoBoot }

// makeBootable makes the guest boot from its disk, unless a hook has seen to that. tree is
// what the guest was made of; nil was bootstrapped in its place.
func makeBootable(ctx context.Context, c Choice, d disks, r rootDisk, tree *cache.Entry, b before, workDir string) (made booting, err error) {
	err = guest.Edit(ctx, r.target, func(root *guest.Root) error {
		target := bootTarget(c.Order, r, d.boot, workDir, root)
		menu, err := boot.ReadMenu(ctx, target, c.console)
		if err != nil {
			tell.Warn(ctx, "%v: the guest's update-grub will fail on it too; the first menu goes without", err)
		}
		if c.Boot.Loader == "grub" && !c.mustBoot() && !c.hasOwnBoot() { // a hook's finds /boot on the root
			by, err := boot.InstalledBy(r.loop.Path, r.esp.device, root)
			if err != nil {
				return err
			}
			if by != "" {
				made.by = "hook"
				return keepHooksLoader(ctx, by, target, menu)
			}
		}
		if err := c.warnOfAdminsInitramfs(ctx, tree, r.target); err != nil {
			return err
		}
		if tree == nil { // of a tree the kernel was known before the disk was touched
			if err := c.checkNICs(root); err != nil {
				return err
			}
		}
		ownLegacy, err := b.legacyMenu(ctx, root)
		if err != nil {
			return err
		}
		kernel, err := boot.Install(ctx, target, boot.Setup{
			Plan: c.Boot, Menu: menu, ESPDevice: r.esp.device,
			Distribution: c.Tool.Distribution(), Arch: c.Arch, OwnLegacy: ownLegacy,
		})
		switch {
		case err == nil:
			made = booting{c.Boot.Loader, kernel}
			tell.Info(ctx, "the guest boots Linux %s", pattern.Plain(kernel.Version))
			return nil
		case c.mustBoot() || context.Cause(ctx) != nil:
			return err
		case errors.Is(err, boot.ErrNoKernel):
			tell.Warn(ctx, "the guest does not boot from its disk: %v", err)
		default:
			tell.Warn(ctx, "the guest does not boot from its disk: %v; BOOTLOADER=none leaves the attempt out", err)
		}
		return nil
	})
	return made, err
}

// keepHooksLoader leaves alone what a hook has installed.
func keepHooksLoader(ctx context.Context, by string, target boot.Target, menu boot.Menu) error {
	tell.Info(ctx, "a hook has installed a boot loader (%s): it stays as it is", by)
	if strings.HasPrefix(by, "/") { // a configuration alone
		tell.Warn(ctx, "nothing on the disk starts by %s: there is no code in its boot record, and nothing on an EFI system partition: have the hook install the boot loader that reads it, or set BOOTLOADER=grub", by)
	}
	why, err := boot.MendConfig(target, menu)
	if why != "" {
		tell.Warn(ctx, "the hook's grub.cfg %s: it is written anew", why)
	}
	return err
}
