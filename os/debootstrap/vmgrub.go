package debootstrap

import (
	"context"
	"errors"
	"fmt"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
)

// GrubVM writes GRUB's boot record and core image anew, for UEFI the EFI system
// partition; the guest's grub.cfg stays as it is.
func GrubVM(ctx context.Context, s *session.Session, set *settings.Settings, virsh libvirt.Virsh, name string) error {
	f, err := openVM(ctx, s, virsh, name)
	if err != nil {
		return err
	}
	r := &repair{Found: f, root: &Job{Settings: set, session: s, mark: s.Mark()}}
	disk := f.Disks["root"].Path
	if vol, ok := f.Disks["boot"]; ok {
		disk, r.boot = vol.Path, &Job{Settings: set, session: s}
	}
	return s.Do(ctx, []session.Step{
		{Name: "see that it is shut off", Detail: name, Run: r.checkState},
		{Name: "claim the disks", Detail: disk, Run: r.claim},
		{Name: "mount the guest", Detail: name, Run: r.mount},
		{Name: "write the boot record", Detail: disk, When: r.startsByBIOS, Run: r.restoreBIOS},
		{Name: "make the EFI system partition anew", Detail: disk, When: r.startsByUEFI, Run: r.restoreUEFI},
		{Name: "unmount, sync and let go of the disks", Detail: disk, Run: r.root.letGo},
	})
}

// repair is work on a guest's boot record.
type repair struct {
	*Found
	root *Job // its root disk
	boot *Job // the disk of a /boot of its own; nil is none
}

func (r *repair) checkState(ctx context.Context) error {
	_, err := r.rootDisk()
	return firstError(err, r.mustBeWhole("root", "boot"), r.mustBeOff(""), r.mustNotBeSaved(ctx))
}

func (r *repair) claim(ctx context.Context) (err error) {
	if r.root.disk, err = r.root.claim(r.Disks["root"].Path); err != nil {
		return err
	}
	if r.boot != nil {
		if r.boot.disk, err = r.boot.claim(r.Disks["boot"].Path); err != nil {
			return err
		}
	}
	return nil
}

func (r *repair) mount(ctx context.Context) error {
	for _, j := range []*Job{r.root, r.boot} {
		if j == nil {
			continue
		}
		_, p, why := j.rootOf()
		if why != "" {
			return fmt.Errorf("disk %s: not a layout of ours (%s)", j.disk.Path, why)
		}
		err := j.attachPart(ctx, p, false)
		if err == nil {
			err = j.mountGuest(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *repair) restoreBIOS(ctx context.Context) error {
	j := r.root
	if r.boot != nil {
		j = r.boot
	}
	layout, p, _ := j.rootOf()
	t, err := j.probeType(ctx)
	if err != nil {
		return err
	}
	return r.root.inGuest(ctx, func(root *guest.Root) error {
		target := boot.Target{
			Disk: j.disk.Node(), Dir: r.root.target, Root: root, Style: layout.Style, RootNumber: p.Number, FSType: t, WorkDir: j.session.WorkDir,
		}
		if r.boot == nil {
			return boot.RestoreBIOS(ctx, target)
		}
		return r.boot.inGuest(ctx, func(own *guest.Root) error {
			target.Boot = &boot.OwnBoot{Root: own}
			return boot.RestoreBIOS(ctx, target)
		})
	})
}

// startsByBIOS tells whether a disk has room for GRUB's core image.
func (r *repair) startsByBIOS(context.Context) (bool, string) {
	layout, _, _ := r.root.rootOf()
	_, esp := layout.ESP()
	_, room := layout.BIOSBoot()
	return unless(room || !esp, "it starts by UEFI only")
}

func (r *repair) startsByUEFI(context.Context) (bool, string) {
	layout, _, _ := r.root.rootOf()
	_, esp := layout.ESP()
	return unless(esp, "it has no EFI system partition")
}

// restoreUEFI makes the EFI system partition anew, from the signed programs of the guest's
// packages.
func (r *repair) restoreUEFI(ctx context.Context) error {
	layout, _, _ := r.root.rootOf()
	esp, _ := layout.ESP()
	start, size := esp.StartSector*partition.SectorSize, esp.Sectors*partition.SectorSize
	l, err := blockdev.AttachWindow(ctx, r.root.disk.File(), start, size, false)
	if err != nil {
		return err
	}
	l.Unlock()
	err = r.fillESP(ctx, l.Path, size)
	return errors.Join(err, l.Sync(), l.Detach(context.WithoutCancel(ctx)))
}

func (r *repair) fillESP(ctx context.Context, device string, sizeBytes int64) error {
	seen, err := filesystem.Probe(ctx, r.root.fsysDev)
	if err != nil {
		return err
	}
	return r.root.inGuest(ctx, func(root *guest.Root) error {
		names, err := guest.ReadNames(root)
		serial, ok := boot.ParseFATUUID(names.ESPUUID)
		if err == nil && !ok {
			err = errors.New("the guest's fstab names no EFI system partition by its UUID (/boot/efi)")
		}
		if err != nil {
			return err
		}
		return boot.RemakeESP(root, device, sizeBytes, serial, seen.UUID)
	})
}
