package debootstrap

import (
	"context"
	"fmt"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
)

// GrubVM writes GRUB's boot record and core image anew; the guest's grub.cfg stays
// as it is.
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
		{Name: "write the boot record", Detail: disk, Run: r.restoreBIOS},
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
