package install

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/qemu"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// bootTests says whether the new guest is booted before the run ends.
func (c Choice) bootTests(context.Context) (bool, string) {
	switch {
	case !c.Settings.BootTest:
		return false, "BOOT_TEST is no"
	case c.Boot.Loader != "grub":
		return false, "the guest doesn't boot from its own disk: " + c.whyNoBoot
	}
	return true, ""
}

// bootTest boots a throw-away copy of the new guest, once its disk is free.
func bootTest(ctx context.Context, s *session.Session, c Choice, boots bool) error {
	if !boots {
		tell.Warn(ctx, "BOOT_TEST: the guest has no boot loader, so it isn't booted")
		return nil
	}
	mark := s.Mark()
	test := guestdisk.BootTest{Path: c.Request.BlockDev, Name: c.Disk()}
	if c.userData != "" {
		test.Marker = guest.CloudInitEnded
		test.Up = func(console []string) { cloudInitSaid(ctx, console) }
	}
	return errors.Join(test.Run(ctx, s), s.UndoTo(ctx, mark))
}

// checkBootTest refuses what the guest couldn't be tested with in the end.
func (c Choice) checkBootTest() error {
	if wanted, _ := c.bootTests(context.Background()); !wanted {
		return nil
	}
	if !qemu.Emulates(c.Arch) {
		return fmt.Errorf("BOOT_TEST=yes: no machine is known here for %s: set BOOT_TEST=no", c.Arch)
	}
	if !slices.ContainsFunc(c.console.Ports(), func(name string) bool { return name == "ttyS0" || name == "ttyAMA0" }) {
		return errors.New("BOOT_TEST=yes reads the guest's serial port, and it has none: set the hypervisor parameter serial_console, or BOOT_TEST=no")
	}
	var needed []string
	if c.Boot.BIOS {
		needed = append(needed, "bios")
	}
	if c.Boot.UEFI {
		needed = append(needed, "uefi")
	}
	if err := qemu.Check(c.Arch, needed); err != nil {
		return fmt.Errorf("BOOT_TEST=yes: %w", err)
	}
	return nil
}
