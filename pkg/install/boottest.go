package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/qemu"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// BootTest starts a disk in a throw-away machine and waits until the guest is up.
// Not a byte of the disk is changed.
type BootTest struct {
	Path      string
	Name      string        // what messages call the disk; "" is Path
	Arch      string        // Debian's name of the guest's architecture; "" is what its EFI programs are for, or amd64
	Firmware  []string      // of qemu.Firmwares; none is each that the disk has a boot loader for
	Marker    string        // what the console says of a guest that is up; "" is a login prompt
	Timeout   time.Duration // of one boot; 0 is two minutes, and ten without KVM
	MemoryMiB int           // 0 is 1024
	Console   io.Writer     // takes what the guest says; nil is none

	session *session.Session
	disk    *blockdev.Disk
	kvm     bool
}

const (
	kvmTimeout       = 2 * time.Minute
	emulatedTimeout  = 10 * time.Minute
	defaultMemoryMiB = 1024
	consoleLines     = 15 // of a guest that didn't come up; Ganeti shows the last 20 lines of a log
)

// Run is the recipe of the boot test.
func (b *BootTest) Run(ctx context.Context, s *session.Session) error {
	b.session = s
	if b.Name == "" {
		b.Name = b.Path
	}
	return s.Do(ctx, []session.Step{
		{Name: "open the disk for reading", Detail: b.Name, Run: b.open},
		{Name: "choose the firmware", Detail: b.Name, Run: b.chooseFirmware},
		{Name: "check KVM", Run: b.probeKVM},
		{Name: "boot a throw-away copy", Detail: b.Name, Run: b.boot},
	})
}

func (b *BootTest) open(context.Context) (err error) {
	if b.disk, err = blockdev.OpenReadOnly(b.Path, paths.LockDir, b.session.HostProc); err != nil {
		return err
	}
	b.disk.Path = b.Name
	disk := b.disk
	b.session.Defer("release "+b.Name, func(context.Context) error { return disk.Close() })
	return nil
}

// chooseFirmware tests a disk with two boot loaders by both.
func (b *BootTest) chooseFirmware(context.Context) error {
	layout, err := partition.Read(b.disk.File(), b.disk.SizeBytes)
	var loader, arch string
	if err == nil {
		loader, arch, err = boot.Loader(b.disk.File(), layout)
	}
	b.Arch = cmp.Or(b.Arch, arch, "amd64")
	if len(b.Firmware) > 0 {
		return qemu.Check(b.Arch, b.Firmware)
	}
	if err != nil {
		return fmt.Errorf("disk %s: %w", b.Name, err)
	}
	if b.Firmware = firmwares(loader); len(b.Firmware) == 0 {
		return fmt.Errorf("disk %s has no boot loader: neither code in its boot record nor a program on an EFI system partition", b.Name)
	}
	return qemu.Check(b.Arch, b.Firmware)
}

// firmwares are what starts a boot loader, as boot.Loader names them.
func firmwares(loader string) []string {
	switch loader {
	case "grub-bios", "unknown":
		return []string{"bios"}
	case "grub-efi", "efi":
		return []string{"uefi"}
	case "grub-bios+efi":
		return []string{"bios", "uefi"}
	}
	return nil
}

func (b *BootTest) probeKVM(ctx context.Context) error {
	err := qemu.KVMWorks(ctx, b.Arch, b.session.WorkDir)
	b.kvm = err == nil
	if err != nil && context.Cause(ctx) == nil {
		tell.Warn(ctx, "the guest is emulated, which takes minutes: %v", err)
	}
	return context.Cause(ctx)
}

func (b *BootTest) boot(ctx context.Context) error {
	for _, firmware := range b.Firmware {
		if err := b.bootBy(ctx, firmware); err != nil {
			return fmt.Errorf("disk %s does not boot with firmware %s: %w", b.Name, firmware, err)
		}
	}
	return nil
}

// bootBy boots the disk once. What a guest that doesn't come up has said comes
// before the error.
func (b *BootTest) bootBy(ctx context.Context, firmware string) error {
	limit, memoryMiB, awaited := b.Timeout, b.MemoryMiB, "a login prompt"
	if limit == 0 && b.kvm {
		limit = kvmTimeout
	} else if limit == 0 {
		limit = emulatedTimeout
	}
	if memoryMiB == 0 {
		memoryMiB = defaultMemoryMiB
	}
	if b.Marker != "" {
		awaited = strconv.Quote(b.Marker)
	}
	console := &qemu.Console{Marker: b.Marker, Copy: b.Console}
	begin := time.Now()
	limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s did not come on its serial port within %v", awaited, limit))
	defer cancel()
	err := qemu.Machine{
		Arch: b.Arch, Firmware: firmware, Disk: b.disk.File(), IsFile: b.disk.IsFile, MemoryMiB: memoryMiB, KVM: b.kvm, WorkDir: b.session.WorkDir,
	}.Boot(limited, console)
	if err == nil {
		tell.Info(ctx, "firmware %s: %s after %.1f s", firmware, awaited, time.Since(begin).Seconds())
		return nil
	}
	tail := console.Tail(consoleLines)
	for _, line := range tail {
		tell.Warn(ctx, "console: %s", line)
	}
	if len(tail) == 0 {
		err = fmt.Errorf("%w (its serial port said nothing)", err)
	}
	return err
}

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
func bootTest(ctx context.Context, s *session.Session, o *Order, boots bool) error {
	if !boots {
		tell.Warn(ctx, "BOOT_TEST: the guest has no boot loader, so it isn't booted")
		return nil
	}
	mark := s.Mark()
	b := BootTest{Path: o.Request.BlockDev, Name: o.Disk()}
	return errors.Join(b.Run(ctx, s), s.UndoTo(ctx, mark))
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
