package debootstrap

import (
	"context"
	"fmt"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
)

// repair is work on a guest that is shut off.
type repair struct {
	found *Found
	virsh libvirt.Virsh
	root  *Job // its root disk
	boot  *Job // the disk of a /boot of its own; nil is none
}

// beginRepair finds a guest, which must be shut off, and takes its lock.
func beginRepair(ctx context.Context, s *session.Session, virsh libvirt.Virsh, name string) (*repair, error) {
	lock, err := lockVM(name, false)
	if err != nil {
		return nil, err
	}
	s.Defer("unlock "+name, func(context.Context) error { return lock.Close() })
	f, err := FindVM(ctx, virsh, name)
	if err != nil {
		return nil, err
	}
	if err := f.mustBeOff(""); err != nil {
		return nil, err
	}
	r := &repair{found: f, virsh: virsh, root: &Job{session: s, mark: s.Mark()}}
	if _, ok := f.Disks["root"]; !ok {
		return nil, fmt.Errorf("the guest %s has no volume that is named as its root's would be (%s or %s-root)", name, name, name)
	}
	if _, ok := f.Disks["boot"]; ok {
		r.boot = &Job{session: s}
	}
	return r, nil
}

// GrubVM writes GRUB's boot record and core image anew; the guest's grub.cfg stays
// as it is.
func GrubVM(ctx context.Context, s *session.Session, virsh libvirt.Virsh, name string) error {
	r, err := beginRepair(ctx, s, virsh, name)
	if err != nil {
		return err
	}
	disk := r.found.Disks["root"].Path
	if r.boot != nil {
		disk = r.found.Disks["boot"].Path
	}
	return s.Do(ctx, []session.Step{
		{Name: "claim the disks", Detail: disk, Run: r.claim},
		{Name: "mount the guest", Detail: name, Run: r.mount},
		{Name: "write the boot record", Detail: disk, Run: r.restoreBIOS},
		{Name: "unmount, sync and let go of the disks", Detail: disk, Run: r.root.letGo},
	})
}

func (r *repair) claim(ctx context.Context) (err error) {
	if r.root.disk, err = r.root.claim(r.found.Disks["root"].Path); err != nil {
		return err
	}
	if r.boot != nil {
		if r.boot.disk, err = r.boot.claim(r.found.Disks["boot"].Path); err != nil {
			return err
		}
	}
	return r.root.protectNode(ctx)
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
	return r.root.inGuest(func(root *guest.Root) error {
		target := boot.Target{
			Disk: j.disk.Node(), Dir: r.root.target, Root: root, Style: layout.Style, RootNumber: p.Number, FSType: t, WorkDir: j.session.WorkDir,
		}
		if r.boot == nil {
			return boot.RestoreBIOS(ctx, target)
		}
		return r.boot.inGuest(func(own *guest.Root) error {
			target.Boot = &boot.OwnBoot{Root: own}
			return boot.RestoreBIOS(ctx, target)
		})
	})
}

// GrowVM makes the volume of a guest's root larger, and what is on it (Grow). The
// size is the new one in bytes, or what is added to the old. What was interrupted
// can be repeated.
func GrowVM(ctx context.Context, s *session.Session, virsh libvirt.Virsh, name string, sizeBytes int64, add bool) (did string, err error) {
	r, err := beginRepair(ctx, s, virsh, name)
	if err != nil {
		return "", err
	}
	vol, pool := r.found.Disks["root"], r.found.Pools["root"]
	if add {
		sizeBytes += vol.SizeBytes
	}
	if sizeBytes < vol.SizeBytes {
		return "", fmt.Errorf("volume %s has %d MiB already, and is only made larger", vol.Name, vol.SizeBytes>>20)
	}
	grow := func() *Job {
		return &Job{Request: &osapi.Request{BlockDev: vol.Path}, Settings: &settings.Settings{}}
	}
	if sizeBytes == vol.SizeBytes {
		return Grow(ctx, s, grow(), false)
	}
	d, err := blockdev.Open(vol.Path, paths.LockDir, s.HostProc) // free, and of a layout that grows?
	if err != nil {
		return "", err
	}
	layout, err := partition.Read(d.File(), d.SizeBytes)
	if err == nil {
		_, err = layout.Fit(sizeBytes)
	}
	if err = firstError(err, d.Close()); err == nil {
		err = virsh.ResizeVolume(ctx, pool, vol.Name, sizeBytes)
	}
	if err != nil {
		return "", fmt.Errorf("volume %s: %w", vol.Name, err)
	}
	return Grow(ctx, s, grow(), false)
}
