package guestdisk

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
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
	Name      string                 // what messages call the disk; "" is Path
	Arch      string                 // Debian's name of the guest's architecture; "" is what its EFI programs are for, or amd64
	Firmware  []string               // of qemu.Firmwares; none is each that the disk has a boot loader for
	Marker    string                 // what the console says of a guest that is up; "" is a login prompt
	Timeout   time.Duration          // of one boot; 0 is two minutes, and ten without KVM
	MemoryMiB int                    // 0 is 1024
	Console   io.Writer              // takes what the guest says; nil is none
	Up        func(console []string) // is given the last lines of a guest that is up; may be nil
}

const (
	kvmTimeout       = 2 * time.Minute
	emulatedTimeout  = 10 * time.Minute
	defaultMemoryMiB = 1024
	consoleLines     = 15 // of a guest that didn't come up; Ganeti shows the last 20 lines of a log
)

// Run is the recipe of the boot test.
func (b BootTest) Run(ctx context.Context, s *session.Session) error {
	b.Name = cmp.Or(b.Name, b.Path)
	var (
		disk *blockdev.Disk
		kvm  bool
	)
	return s.Do(ctx, []session.Step{
		{Name: "open the disk for reading", Detail: b.Name, Run: func(context.Context) (err error) {
			if disk, err = blockdev.OpenReadOnly(b.Path, paths.LockDir, s.HostProc); err != nil {
				return err
			}
			disk.Path = b.Name
			s.Defer("release "+b.Name, func(context.Context) error { return disk.Close() })
			return nil
		}},
		{Name: "choose the firmware", Detail: b.Name, Run: func(context.Context) (err error) {
			b.Arch, b.Firmware, err = b.chooseFirmware(disk)
			return err
		}},
		{Name: "check KVM", Run: func(ctx context.Context) error {
			err := qemu.KVMWorks(ctx, b.Arch, s.WorkDir)
			if kvm = err == nil; !kvm && context.Cause(ctx) == nil {
				tell.Warn(ctx, "the guest is emulated, which takes minutes: %v", err)
			}
			return context.Cause(ctx)
		}},
		{Name: "boot a throw-away copy", Detail: b.Name, Run: func(ctx context.Context) error {
			for _, firmware := range b.Firmware {
				machine := qemu.Machine{Arch: b.Arch, Firmware: firmware, Disk: disk.File(), IsFile: disk.IsFile, MemoryMiB: cmp.Or(b.MemoryMiB, defaultMemoryMiB), KVM: kvm, WorkDir: s.WorkDir}
				if err := b.boot(ctx, machine); err != nil {
					return fmt.Errorf("disk %s does not boot with firmware %s: %w", b.Name, firmware, err)
				}
			}
			return nil
		}},
	})
}

// chooseFirmware tests a disk with two boot loaders by both.
func (b BootTest) chooseFirmware(disk *blockdev.Disk) (arch string, firmware []string, err error) {
	layout, err := partition.Read(disk.File(), disk.SizeBytes)
	var loader string
	if err == nil {
		loader, arch, err = boot.Loader(disk.File(), layout)
	}
	arch, firmware = cmp.Or(b.Arch, arch, "amd64"), b.Firmware
	if len(firmware) == 0 {
		if err != nil {
			return "", nil, fmt.Errorf("disk %s: %w", b.Name, err)
		}
		if firmware = firmwares(loader); len(firmware) == 0 && hint(disk.File()) != "" {
			return "", nil, fmt.Errorf("disk %s has no boot loader: %s", b.Name, hint(disk.File()))
		} else if len(firmware) == 0 {
			return "", nil, fmt.Errorf("disk %s has no boot loader: neither code in its boot record nor a program on an EFI system partition", b.Name)
		}
	}
	if missing := qemu.Check(arch, firmware); missing != nil {
		return "", nil, missing
	}
	if err == nil && layout.Style != partition.StyleMSDOS && !strings.HasSuffix(loader, "efi") && slices.ContainsFunc(firmware, func(f string) bool { return f != "bios" }) {
		return "", nil, fmt.Errorf("disk %s has no program on an EFI system partition, so UEFI has nothing to start: --firmware bios", b.Name)
	}
	return arch, firmware, nil
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

// boot boots the disk once. What a guest that doesn't come up has said comes
// before the error.
func (b BootTest) boot(ctx context.Context, machine qemu.Machine) error {
	limit, awaited := b.Timeout, "a login prompt"
	if limit == 0 && machine.KVM {
		limit = kvmTimeout
	} else if limit == 0 {
		limit = emulatedTimeout
	}
	if b.Marker != "" {
		awaited = strconv.Quote(b.Marker)
	}
	console := &qemu.Console{Marker: b.Marker, Copy: b.Console}
	begin := time.Now()
	limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s did not come on its serial port within %v", awaited, limit))
	defer cancel()
	err := machine.Boot(limited, console)
	if err == nil {
		if b.Up != nil {
			b.Up(console.Tail(consoleLines))
		}
		tell.Info(ctx, "firmware %s: %s after %.1f s", machine.Firmware, awaited, time.Since(begin).Seconds())
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
