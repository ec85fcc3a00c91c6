package debootstrap

import (
	"context"
	"fmt"
	"strings"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/guest"
)

// needsBoot reports whether the guest booted by GRUB, and its boot record isn't
// in the backup, or names what is no longer there.
func (r *restore) needsBoot(context.Context) (bool, string) {
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
	var grub guest.GRUB
	err := r.inGuest(func(root *guest.Root) error {
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
	err := r.inGuest(func(root *guest.Root) error {
		return boot.RestoreBIOS(ctx, boot.Target{
			Disk: r.loop.Path, RootDevice: r.fsysDev, Dir: r.target, Root: root,
			Style: r.layout.Style, RootNumber: r.root.Number, FSType: r.spec.Type, RootUUID: r.uuidInTheEnd(),
			WorkDir: r.session.WorkDir,
		})
	})
	if err != nil {
		r.advice = fmt.Sprintf("the backup is imported, but the guest has no boot loader: %v", err)
	}
	return context.Cause(ctx)
}
