package backup

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
)

// bootPartitions are what a tar or a dump gets beside its root on gpt, as create
// makes them: what the guest boots by isn't known before its files are there.
func (r *restore) bootPartitions() partition.Boot {
	if !r.req.IsRoot() {
		return partition.Boot{}
	}
	return partition.Boot{BIOS: r.set.Firmware != "uefi", UEFI: r.set.Firmware != "bios"}
}

// needsESP reports whether the disk was given an EFI system partition for which
// the backup has nothing.
func (r *restore) needsESP(at place) (bool, string) {
	if at.described {
		return false, "what the backup has of it is put back"
	}
	_, ok := at.layout.ESP()
	return ok, "the disk has none"
}

// makeESP makes the EFI system partition's filesystem, under the UUID by which
// fstab mounts it, and puts the guest's signed boot loader onto it.
func (r *restore) makeESP(ctx context.Context, at place, fs newFS, known names, advise func(string)) error {
	esp, _ := at.layout.ESP()
	part, err := r.disk.Attach(ctx, esp, false)
	if err != nil {
		return err
	}
	if err := boot.MakeESP(part.Device, esp.SizeBytes(), known.espSerial); err != nil {
		return err
	}
	err = guest.Edit(ctx, fs.Dir, func(root *guest.Root) error {
		return boot.RestoreUEFI(boot.Target{Root: root, RootUUID: known.uuid}, part.Device)
	})
	if err != nil && known.bootsByESP {
		advise(fmt.Sprintf("the guest has no boot loader for UEFI: %v: run grub-install in the guest from a rescue system", err))
	}
	return context.Cause(ctx)
}

// needsBoot reports whether the guest booted by GRUB, and its boot record isn't
// in the backup, or names what is no longer there.
func (r *restore) needsBoot(ctx context.Context, at place, fs newFS) (bool, string) {
	if !r.req.IsRoot() {
		return false, "not the guest's first disk"
	}
	if at.described {
		switch {
		case !strings.HasPrefix(r.stream.Manifest.BootLoader, "grub-bios"):
			return false, "the guest's disk had no GRUB for BIOS"
		case at.root.Number > 0 && r.ids == nil:
			return false, "the backup has the boot record"
		}
		return true, ""
	}
	if _, ok := at.layout.BIOSBoot(); !ok && at.layout.Style == partition.StyleGPT {
		return false, "FIRMWARE=uefi"
	}
	if fs.Tree == nil { // in a plan
		return true, "if the guest has GRUB for BIOS"
	}
	var grub guest.GRUB
	err := guest.Edit(ctx, fs.Dir, func(root *guest.Root) error {
		grub = guest.HasGRUB(root)
		return nil
	})
	if err != nil || grub.Modules == "" || !grub.Config {
		return false, "the guest has no GRUB for BIOS"
	}
	return true, ""
}

// makeBoot makes the guest's GRUB boot it from this disk. Where that can't be
// done from here the backup is imported all the same, and the last line says
// what is left to do.
func (r *restore) makeBoot(ctx context.Context, at place, fs newFS, known names, advise func(string)) error {
	err := guest.Edit(ctx, fs.Dir, func(root *guest.Root) error {
		return boot.RestoreBIOS(ctx, boot.Target{
			Disk: r.disk.Node(), RootDevice: fs.Device, Dir: fs.Dir, Root: root,
			Style: at.layout.Style, Layout: &at.layout, RootNumber: at.root.Number, FSType: fs.Type, RootUUID: known.uuid,
			WorkDir: r.session.WorkDir,
		})
	})
	if err != nil {
		advise(fmt.Sprintf("the guest has no boot loader for BIOS: %v", err))
	}
	return context.Cause(ctx)
}

// renewESP gives the EFI system partition that came with the backup a new serial
// number, and names the root in its grub.cfg by the new UUID.
func (r *restore) renewESP(ctx context.Context, at place) error {
	esp, ok := at.layout.ESP()
	if r.ids == nil || !at.described || !ok {
		return nil
	}
	start, disk := esp.Offset(), r.disk.File()
	return readBlocks(ctx, disk, start, esp.SizeBytes(), func(offset int64, data []byte) error {
		renewed := bytes.Clone(data)
		if offset == start {
			r.ids.ofFAT(renewed)
		}
		if renewed = r.ids.inESP(renewed); bytes.Equal(renewed, data) {
			return nil
		}
		_, err := disk.WriteAt(renewed, offset)
		return err
	})
}
