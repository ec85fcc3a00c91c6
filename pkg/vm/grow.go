package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
)

// Growth says what of a guest is to grow.
type Growth struct {
	Role      string // of the volume: root, boot, swap, data1, …
	SizeBytes int64  // that it is to have, or, with Add, what is added
	Add       bool
	Stop      Stop
}

// Grow makes a guest's volume larger, and what is on it (Grow). A running guest does
// its part itself, by its agent, or is shut down first and started again at the end, whatever
// came of it. What was interrupted can be repeated.
func Grow(ctx context.Context, s *session.Session, virsh libvirt.Virsh, name string, fsck guestdisk.Fsck, wanted Growth) (did string, err error) {
	f, err := openGuest(ctx, s, virsh, name)
	if err != nil {
		return "", err
	}
	g := &growth{VM: f, Growth: wanted, session: s, fsck: fsck, mark: s.Mark(), sizeBytes: wanted.SizeBytes}
	var known bool
	if g.volume, known = f.Disks[wanted.Role]; !known {
		if wanted.Role == "root" {
			_, err = f.rootDisk()
			return "", err
		}
		return "", fmt.Errorf("the guest %s has no disk %s of its own: it has %s", name, wanted.Role, strings.Join(f.Roles(), ", "))
	}
	if wanted.Add {
		g.sizeBytes += g.volume.SizeBytes
	}
	did, err = g.run(ctx)
	if g.stopped {
		err = errors.Join(err, g.startAgain(context.WithoutCancel(ctx)))
	}
	return did, err
}

type growth struct {
	*VM
	Growth
	session   *session.Session
	fsck      guestdisk.Fsck
	mark      int // of the undo stack, when nothing was claimed
	volume    libvirt.Volume
	sizeBytes int64  // that the volume is to have
	enough    string // why there is nothing to do
	stopped   bool   // it ran before
	did       string // by the guest itself

	// What is on the disk.
	number      int             // of the partition; 0 is the whole disk
	startSector int64           // of 512 bytes
	fstype      filesystem.Type // "": a swap area
	fsBytes     int64           // what it has, by its superblock
	dfBefore    int64           // and by the guest's df, when that is asked
	volumeOnly  string          // why only the volume grows
}

func (g *growth) run(ctx context.Context) (did string, err error) {
	err = g.session.Do(ctx, []session.Step{
		{Name: "check that it can grow", Detail: g.volume.Path, Run: g.look},
	})
	switch {
	case err == nil && g.enough != "":
		return g.enough, nil
	case err == nil && g.isOnline():
		err = g.session.Do(ctx, []session.Step{
			{Name: "make the volume larger", Detail: fmt.Sprintf("to %d MiB", g.sizeBytes>>20), Run: g.resizeOnline},
			{Name: "have the guest grow its filesystem", Detail: string(g.fstype), When: g.hasContent, Run: g.growOnline},
		})
		did = g.did
	case err == nil:
		err = g.session.Do(ctx, []session.Step{
			{Name: "shut down the guest", Detail: g.Name, When: g.isRunning, Run: g.shutDown},
			{Name: "make the volume larger", Detail: fmt.Sprintf("to %d MiB", g.sizeBytes>>20), When: g.isLarger, Run: g.resize},
		})
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("volume %s: %w", g.volume.Name, err)
	case g.volumeOnly != "":
		return g.tellOfVolume(g.volume), nil
	case did != "":
		return did, nil
	}
	return guestdisk.Grow(ctx, g.session, g.volume.Path, g.fsck, false)
}

func (g *growth) hasContent(context.Context) (bool, string) {
	return session.NeededIf(g.volumeOnly == "", g.volumeOnly)
}

// look refuses what can't be made larger, while the guest may still run.
func (g *growth) look(ctx context.Context) error {
	if err := cmp.Or(g.mustBeWhole(g.Role), g.mayStop(ctx), g.mustNotBeMounted(), g.mustNotBeSaved(ctx)); err != nil {
		return err
	}
	if g.sizeBytes < g.volume.SizeBytes {
		return fmt.Errorf("it has %d MiB already, and is only made larger", g.volume.SizeBytes>>20)
	}
	if g.Pools[g.Role] == "" {
		return fmt.Errorf("%s is in no active pool of libvirt's", g.volume.Path)
	}
	mark := g.session.Mark()
	err := g.lookAtDisk(ctx)
	if err = cmp.Or(err, g.session.UndoTo(ctx, mark)); err == nil && g.enough == "" {
		err = g.hasRoom(ctx)
	}
	if err == nil && g.enough == "" && g.isOnline() {
		err = g.mayGrowOnline(ctx)
	}
	return err
}

// tablesShare is the part of new space that resize2fs(8) writes tables of inodes into: 256
// bytes for each 16 KiB (mke2fs.conf), and bitmaps.
const tablesShare = 50

// hasRoom refuses what the pool has no room for. Nothing makes a volume smaller again, and
// a filesystem is damaged whose tables can't be written.
func (g *growth) hasRoom(ctx context.Context) error {
	pool, err := g.virsh.FindPool(ctx, g.Pools[g.Role], "")
	if err != nil {
		return err
	}
	if err := hasRoom(ctx, pool, g.sizeBytes, g.sizeBytes-g.volume.SizeBytes); err != nil {
		return err
	}
	isExt := strings.HasPrefix(string(g.fstype), "ext")
	if tables := (g.sizeBytes - g.fsBytes) / tablesShare; g.volume.IsFile && isExt && tables > pool.FreeBytes {
		return fmt.Errorf("pool %s has %d MiB free, and the larger filesystem's tables need up to %d MiB at once", pool.Name, pool.FreeBytes>>20, tables>>20)
	}
	return nil
}

// mayStop refuses a running guest that isn't to be shut down, or can't be and come
// back.
func (g *growth) mayStop(ctx context.Context) error {
	if !g.Stop.Wanted {
		return g.canAnswer("can't grow what is on its disk")
	}
	return g.mustComeBack(ctx)
}

// lookAtDisk refuses what Grow would refuse, and finds out whether there is anything
// to do. The disk is only read.
func (g *growth) lookAtDisk(ctx context.Context) error {
	d, usedBy, err := guestdisk.Look(g.session, g.volume.Path, g.fsck)
	if err != nil {
		return err
	}
	if usedBy != "" && !g.Running() {
		return fmt.Errorf("disk %s is in use: %s; stop what uses it first", g.volume.Path, usedBy)
	}
	seen, err := d.LookToGrow(ctx, true)
	if err != nil {
		if !strings.HasPrefix(g.Role, "data") {
			return err
		}
		g.volumeOnly = err.Error() // a disk that the guest does with what it likes
		return nil
	}
	g.number, g.startSector, g.fstype = seen.Root.Number, seen.Root.StartSector, seen.Type
	g.fsBytes = seen.Before
	if seen.Layout.Style == partition.StyleNone {
		g.number = 0
	}
	if more, _ := g.isLarger(ctx); !more && seen.Fits() {
		g.enough = seen.Describe()
	}
	larger := seen.Layout
	larger.SizeBytes = g.sizeBytes
	_, err = larger.Grow()
	return err
}

// shutDown never forces it off: what the guest hasn't written yet is worth more
// than a larger disk.
func (g *growth) shutDown(ctx context.Context) error {
	err := g.VM.shutDown(ctx, g.Stop.Within)
	if err == nil {
		err = g.mustNotBeSaved(ctx) // by somebody else, meanwhile
		g.stopped = err == nil
		return err
	}
	if errors.Is(err, errNoAnswer) {
		return g.whyItStays(err, g.Stop.Within)
	}
	return fmt.Errorf("%w; if it shuts down: vm start %s", err, g.Name)
}

func (g *growth) isLarger(context.Context) (bool, string) {
	return session.NeededIf(g.sizeBytes > g.volume.SizeBytes, "it is that large already")
}

func (g *growth) resize(ctx context.Context) error {
	pool := g.Pools[g.Role]
	if !g.volume.IsFile {
		return g.virsh.ExtendLV(ctx, pool, g.volume.Path, g.sizeBytes)
	}
	// Not by libvirt, whose qemu-img would go by what the guest has written there.
	d, err := blockdev.Open(g.volume.Path, paths.LockDir, g.session.HostProc)
	if err != nil {
		return err
	}
	if err := cmp.Or(d.File().Truncate(g.sizeBytes), d.Sync(), d.Close()); err != nil {
		return err
	}
	return g.virsh.Refresh(ctx, pool)
}

// startAgain starts the guest when nothing here has its disk any longer.
func (g *growth) startAgain(ctx context.Context) error {
	err := g.session.Do(ctx, []session.Step{
		{Name: "give the disk back", Detail: g.volume.Path, Run: func(ctx context.Context) error { return g.session.UnwindTo(ctx, g.mark) }},
		{Name: "start the guest again", Detail: g.Name, Run: func(ctx context.Context) error { return g.virsh.Start(ctx, g.Domain.UUID) }},
	})
	if err != nil {
		err = fmt.Errorf("the guest %s was running and is shut off now: vm start %s: %w", g.Name, g.Name, err)
	}
	return err
}
