package debootstrap

import (
	"context"
	"fmt"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
)

// GrowVM makes the volume of a guest's root larger, and what is on it (Grow). The
// size is the new one in bytes, or what is added to the old. What was interrupted
// can be repeated.
func GrowVM(ctx context.Context, s *session.Session, virsh libvirt.Virsh, name string, sizeBytes int64, add bool) (did string, err error) {
	f, err := openVM(ctx, s, virsh, name)
	if err != nil {
		return "", err
	}
	g := &vmGrowth{Found: f, session: s, sizeBytes: sizeBytes}
	if g.volume, err = f.rootDisk(); err != nil {
		return "", err
	}
	if add {
		g.sizeBytes += g.volume.SizeBytes
	}
	err = s.Do(ctx, []session.Step{
		{Name: "see that it can grow", Detail: g.volume.Path, Run: g.look},
		{Name: "make the volume larger", Detail: fmt.Sprintf("to %d MiB", g.sizeBytes>>20), When: g.isLarger, Run: g.resize},
	})
	if err != nil {
		return "", fmt.Errorf("volume %s: %w", g.volume.Name, err)
	}
	return Grow(ctx, s, &Job{Request: &osapi.Request{BlockDev: g.volume.Path}, Settings: &settings.Settings{}}, false)
}

type vmGrowth struct {
	*Found
	session   *session.Session
	volume    libvirt.Volume
	sizeBytes int64 // that the volume is to have
}

// look refuses a guest that runs, and a disk that Grow would refuse.
func (g *vmGrowth) look(context.Context) error {
	if err := g.mustBeOff(""); err != nil {
		return err
	}
	if g.sizeBytes < g.volume.SizeBytes {
		return fmt.Errorf("it has %d MiB already, and is only made larger", g.volume.SizeBytes>>20)
	}
	if g.Pools["root"] == "" {
		return fmt.Errorf("%s is in no active pool of libvirt's", g.volume.Path)
	}
	d, err := blockdev.Open(g.volume.Path, paths.LockDir, g.session.HostProc)
	if err != nil {
		return err
	}
	layout, err := partition.Read(d.File(), d.SizeBytes)
	if err == nil {
		_, err = layout.Fit(g.sizeBytes)
	}
	return firstError(err, d.Close())
}

func (g *vmGrowth) isLarger(context.Context) (bool, string) {
	return unless(g.sizeBytes > g.volume.SizeBytes, "it is that large already")
}

func (g *vmGrowth) resize(ctx context.Context) error {
	return g.virsh.ResizeVolume(ctx, g.Pools["root"], g.volume, g.sizeBytes)
}
