package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/session"
)

// Grub writes GRUB's boot record and core image anew, for UEFI the EFI system
// partition; the guest's grub.cfg stays as it is.
func (f *VM) Grub(ctx context.Context, fsck guestdisk.Fsck) error {
	s := f.session
	mark := s.Mark()
	var root, own *volumeTree // of the root, and of a volume for /boot; nil is none
	var at guestdisk.BootPlace
	rootPath, bootPath := f.Disks["root"].Path, f.Disks["boot"].Path
	disk := cmp.Or(bootPath, rootPath)
	startsByBIOS := func(context.Context) (bool, string) {
		_, esp := root.layout.ESP()
		_, room := root.layout.BIOSBoot()
		return session.NeededIf(room || !esp, "it starts by UEFI only")
	}
	startsByUEFI := func(context.Context) (bool, string) {
		_, esp := root.layout.ESP()
		return session.NeededIf(esp, "it has no EFI system partition")
	}
	return s.Do(ctx, []session.Step{
		{Name: "check that the guest is shut off", Detail: f.Name, Run: f.mayRepair},
		{Name: "claim the disks", Detail: disk, Run: func(context.Context) (err error) {
			if root, err = claimVolume(s, rootPath, fsck); err == nil && bootPath != "" {
				own, err = claimVolume(s, bootPath, fsck)
			}
			return err
		}},
		{Name: "mount the guest", Detail: f.Name, Run: func(ctx context.Context) (err error) {
			if err = root.mount(ctx); err != nil {
				return err
			}
			if own != nil {
				return own.mount(ctx)
			}
			at, err = root.disk.MountBoot(ctx, root.Tree)
			return err
		}},
		{Name: "write the boot record", Detail: disk, When: startsByBIOS, Run: func(ctx context.Context) error {
			return repairBIOS(ctx, root, own, at, s.WorkDir)
		}},
		{Name: "make the EFI system partition anew", Detail: disk, When: startsByUEFI, Run: func(ctx context.Context) error {
			return repairUEFI(ctx, root, at)
		}},
		{Name: "unmount, sync and release the disks", Detail: disk, Run: func(ctx context.Context) error { return s.UndoTo(ctx, mark) }},
	})
}

func (f *VM) mayRepair(ctx context.Context) error {
	_, err := f.rootDisk()
	return cmp.Or(err, f.mustBeWhole("root", "boot"), f.mustNotBeMounted(), f.canAnswer("must be shut off for that"), f.mustBeOff(""), f.mustNotBeSaved(ctx))
}

// volumeTree is a guest's volume whose one filesystem is mounted.
type volumeTree struct {
	disk   *guestdisk.Disk
	layout partition.Layout
	number int // of the partition; 0 is the whole disk
	*guestdisk.Tree
}

func claimVolume(s *session.Session, path string, fsck guestdisk.Fsck) (*volumeTree, error) {
	d, err := guestdisk.Claim(s, path, fsck)
	if err != nil {
		return nil, err
	}
	layout, p, err := d.Root()
	if err != nil {
		return nil, fmt.Errorf("disk %s: %w: install its boot loader from inside", path, err)
	}
	return &volumeTree{disk: d, layout: layout, number: p.Number}, nil
}

func (v *volumeTree) mount(ctx context.Context) error {
	part, err := v.disk.AttachRoot(ctx, "")
	if err == nil {
		v.Tree, err = part.MountRepaired(ctx)
	}
	return err
}

// repairBIOS writes the boot record and core image of the disk that has /boot.
func repairBIOS(ctx context.Context, root, own *volumeTree, at guestdisk.BootPlace, workDir string) error {
	return root.Edit(ctx, func(files *guest.Root) error {
		if own == nil {
			target := root.target(files, at)
			target.WorkDir = workDir
			return boot.RestoreBIOS(ctx, target)
		}
		return guest.Edit(ctx, own.Dir, func(ownFiles *guest.Root) error {
			return boot.RestoreBIOS(ctx, boot.Target{
				Disk: own.disk.Node(), Dir: root.Dir, Root: files, Style: own.layout.Style, RootNumber: own.number, FSType: own.Type,
				Boot: &boot.OwnBoot{Root: ownFiles}, WorkDir: workDir,
			})
		})
	})
}

// target is a disk with all of the guest, whose /boot, if it is apart, is mounted in its tree.
func (v *volumeTree) target(files *guest.Root, at guestdisk.BootPlace) boot.Target {
	t := boot.Target{
		Disk: v.disk.Node(), Dir: v.Dir, Root: files, Style: v.layout.Style, RootNumber: at.Number, FSType: at.Type,
		RootUUID: v.UUID(), RootSubvolume: at.Subvolume,
	}
	if at.IsApart {
		t.Boot = &boot.OwnBoot{UUID: at.UUID, Subvolume: at.Subvolume}
	}
	return t
}

// repairUEFI makes the EFI system partition anew, from the signed programs of the guest's
// packages.
func repairUEFI(ctx context.Context, root *volumeTree, at guestdisk.BootPlace) error {
	esp, _ := root.layout.ESP()
	part, err := root.disk.Attach(ctx, esp, false)
	if err != nil {
		return err
	}
	return root.Edit(ctx, func(files *guest.Root) error {
		names, err := guest.ReadNames(files)
		serial, ok := boot.ParseFATUUID(names.ESPUUID)
		if err == nil && !ok {
			err = errors.New("the guest's fstab names no EFI system partition by its UUID (/boot/efi)")
		}
		if err != nil {
			return err
		}
		return boot.RemakeESP(root.target(files, at), part.Device, esp.SizeBytes(), serial)
	})
}
