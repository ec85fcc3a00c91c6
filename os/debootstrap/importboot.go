package debootstrap

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
)

// bootPartitions are what a tar or a dump gets beside its root on gpt, as create
// makes them: what the guest boots by isn't known before its files are there.
func (r *restore) bootPartitions() partition.Boot {
	if r.Request.IODisk != 0 {
		return partition.Boot{}
	}
	return partition.Boot{BIOS: r.Settings.Firmware != "uefi", UEFI: r.Settings.Firmware != "bios"}
}

// needsESP reports whether the disk was given an EFI system partition for which
// the backup has nothing.
func (r *restore) needsESP(context.Context) (bool, string) {
	if r.manifest.Filesystem != nil {
		return false, "what the backup has of it is put back"
	}
	_, ok := r.layout.ESP()
	return ok, "the disk has none"
}

// makeESP makes the EFI system partition's filesystem, under the UUID by which
// fstab mounts it, and puts the guest's signed boot loader onto it.
func (r *restore) makeESP(ctx context.Context) error {
	esp, _ := r.layout.ESP()
	l, err := blockdev.AttachWindow(ctx, r.disk.File(), esp.StartSector*partition.SectorSize, esp.Sectors*partition.SectorSize, false)
	if err != nil {
		return err
	}
	r.session.Defer("detach "+l.Path, l.Detach)
	l.Unlock()
	if err := boot.MakeESP(l.Path, esp.Sectors*partition.SectorSize, r.espSerial); err != nil {
		return err
	}
	err = r.inGuest(ctx, func(root *guest.Root) error { return boot.RestoreUEFI(root, l.Path, r.uuidInTheEnd()) })
	if err != nil && r.bootsByESP {
		r.advise("the guest has no boot loader for UEFI: %v: run grub-install in the guest from a rescue system", err)
	}
	return firstError(context.Cause(ctx), l.Sync())
}

// needsBoot reports whether the guest booted by GRUB, and its boot record isn't
// in the backup, or names what is no longer there.
func (r *restore) needsBoot(ctx context.Context) (bool, string) {
	if r.Request.IODisk != 0 {
		return false, "not the guest's first disk"
	}
	if r.manifest.Filesystem != nil {
		switch loader := r.manifest.BootLoader; {
		case !strings.HasPrefix(loader, "grub-bios"):
			return false, "the guest's disk had no GRUB for BIOS"
		case r.root.Number > 0 && r.ids == nil:
			return false, "the backup has the boot record"
		}
		return true, ""
	}
	if _, ok := r.layout.BIOSBoot(); !ok && r.layout.Style == partition.StyleGPT {
		return false, "FIRMWARE=uefi"
	}
	var grub guest.GRUB
	err := r.inGuest(ctx, func(root *guest.Root) error {
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
func (r *restore) makeBoot(ctx context.Context) error {
	err := r.inGuest(ctx, func(root *guest.Root) error {
		return boot.RestoreBIOS(ctx, boot.Target{
			Disk: r.disk.Node(), RootDevice: r.fsysDev, Dir: r.target, Root: root,
			Style: r.layout.Style, RootNumber: r.root.Number, FSType: r.spec.Type, RootUUID: r.uuidInTheEnd(),
			WorkDir: r.session.WorkDir,
		})
	})
	if err != nil {
		r.advise("the guest has no boot loader for BIOS: %v", err)
	}
	return context.Cause(ctx)
}

// advise keeps what is left to do for the admin.
func (r *restore) advise(format string, args ...any) {
	if r.advice == "" {
		r.advice = "the backup is imported"
	}
	r.advice += ", but " + fmt.Sprintf(format, args...)
}

// renewESP gives the EFI system partition that came with the backup a new serial
// number, and names the root in its grub.cfg by the new UUID. Nothing takes its
// filesystem apart, which may be a trap: UUIDs are replaced by others of the same
// length.
func (r *restore) renewESP(ctx context.Context) error {
	esp, ok := r.layout.ESP()
	if r.ids == nil || r.manifest.Filesystem == nil || !ok {
		return nil
	}
	start := esp.StartSector * partition.SectorSize
	disk := r.disk.File()
	return readBlocks(ctx, disk, start, esp.Sectors*partition.SectorSize, true, func(offset int64, data []byte) error {
		renewed := bytes.Clone(data)
		if offset == start {
			r.renewSerial(renewed)
		}
		for old, id := range r.ids {
			if len(old) == len(id) && len(id) == len(r.uuid) {
				renewed = bytes.ReplaceAll(renewed, []byte(old), []byte(id))
			}
		}
		if bytes.Equal(renewed, data) {
			return nil
		}
		_, err := disk.WriteAt(renewed, offset)
		return err
	})
}

// Places in the first sector of a FAT32 filesystem, in bytes (Microsoft's FAT
// specification, 3.3).
const (
	fatBackup = 50 // uint16, the sector with a copy of the first
	fatSerial = 67 // uint32
	fatName   = 82 // "FAT32   "
)

// renewSerial gives a FAT32 filesystem, by its beginning, the serial number that
// is made of the old one.
func (r *restore) renewSerial(fat []byte) {
	const sector = partition.SectorSize
	if len(fat) < sector || !bytes.HasPrefix(fat[fatName:], []byte("FAT32   ")) {
		return
	}
	old := boot.FATUUID(binary.LittleEndian.Uint32(fat[fatSerial:]))
	serial := r.deriveSerial(old)
	backup := int(binary.LittleEndian.Uint16(fat[fatBackup:])) * sector
	for _, at := range []int{0, backup} {
		if at+sector <= len(fat) && bytes.HasPrefix(fat[at+fatName:], []byte("FAT32   ")) {
			binary.LittleEndian.PutUint32(fat[at+fatSerial:], serial)
		}
	}
	r.ids[strings.ToLower(old)] = boot.FATUUID(serial)
}
