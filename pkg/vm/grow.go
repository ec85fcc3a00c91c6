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
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
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
func (f *VM) Grow(ctx context.Context, fsck guestdisk.Fsck, wanted Growth) (did string, err error) {
	mark := f.session.Mark()
	g := &growth{VM: f, Growth: wanted, fsck: fsck}
	var known bool
	if g.disk, known = f.Disks[wanted.Role]; !known {
		if wanted.Role == "root" {
			_, err = f.rootDisk()
			return "", err
		}
		return "", fmt.Errorf("the guest %s has no disk %s of its own: it has %s", f.Name, wanted.Role, strings.Join(f.Roles(), ", "))
	}
	if wanted.Add {
		g.SizeBytes += g.disk.SizeBytes
	}
	did, stopped, err := g.run(ctx)
	if stopped {
		err = errors.Join(err, g.startAgain(context.WithoutCancel(ctx), mark))
	}
	return did, err
}

// growth is what is to grow: no step writes to it.
type growth struct {
	*VM
	Growth // with the size that the volume is to have
	fsck   guestdisk.Fsck
	disk   Disk
}

// content is what was found on the volume.
type content struct {
	number      int             // of the partition; 0 is the whole disk
	startSector int64           // of 512 bytes
	fstype      filesystem.Type // "": a swap area
	bytes       int64           // what it has, by its superblock
	dfBytes     int64           // and by the guest's df, when that is asked
	enough      string          // why there is nothing to do
	volumeOnly  string          // why only the volume grows
}

// run grows it; stopped tells that the guest ran, and was shut down for it.
func (g *growth) run(ctx context.Context) (did string, stopped bool, err error) {
	var on content
	size := fmt.Sprintf("to %d MiB", g.SizeBytes>>20)
	err = g.session.Do(ctx, []session.Step{
		{Name: "check that it can grow", Detail: g.disk.Path, Run: func(ctx context.Context) (err error) {
			on, err = g.look(ctx)
			return err
		}},
	})
	switch {
	case err == nil && on.enough != "":
		return on.enough, false, nil
	case err == nil && g.isOnline():
		hasContent := func(context.Context) (bool, string) { return session.NeededIf(on.volumeOnly == "", on.volumeOnly) }
		err = g.session.Do(ctx, []session.Step{
			{Name: "make the volume larger", Detail: size, Run: g.resizeOnline},
			{Name: "have the guest grow its filesystem", Detail: string(on.fstype), When: hasContent, Run: func(ctx context.Context) (err error) {
				did, err = g.growOnline(ctx, on)
				return err
			}},
		})
	case err == nil:
		err = g.session.Do(ctx, []session.Step{
			{Name: "shut down the guest", Detail: g.Name, When: g.isRunning, Run: func(ctx context.Context) (err error) {
				stopped, err = g.shutDown(ctx)
				return err
			}},
			{Name: "make the volume larger", Detail: size, When: g.isLarger, Run: g.resize},
		})
	}
	switch {
	case err != nil:
		return "", stopped, fmt.Errorf("volume %s: %w", g.disk.Name, err)
	case on.volumeOnly != "":
		return fmt.Sprintf("volume %s has %s; what is on it is the guest's to grow (%s)", g.disk.Name, tell.MiB(g.SizeBytes), on.volumeOnly), stopped, nil
	case did != "":
		return did, stopped, nil
	}
	did, err = guestdisk.Grow(ctx, g.session, g.disk.Path, g.fsck, false)
	return did, stopped, err
}

// look refuses what can't be made larger, while the guest may still run.
func (g *growth) look(ctx context.Context) (on content, err error) {
	if err := cmp.Or(g.mustBeWhole(g.Role), g.mayStop(ctx), g.mustNotBeMounted(), g.mustNotBeSaved(ctx)); err != nil {
		return on, err
	}
	if g.SizeBytes < g.disk.SizeBytes {
		return on, fmt.Errorf("it has %d MiB already, and is only made larger: give a larger size", g.disk.SizeBytes>>20)
	}
	if g.disk.Pool == "" {
		return on, fmt.Errorf("%s is in no active pool of libvirt's: start its pool (virsh pool-list --all, virsh pool-start)", g.disk.Path)
	}
	mark := g.session.Mark()
	on, err = g.lookAtDisk(ctx)
	if err = cmp.Or(err, g.session.UndoTo(ctx, mark)); err == nil && on.enough == "" {
		err = g.hasRoom(ctx, on)
	}
	if err == nil && on.enough == "" && g.isOnline() {
		on.dfBytes, err = g.mayGrowOnline(ctx, on)
	}
	return on, err
}

// tablesShare is the part of new space that resize2fs(8) writes tables of inodes into: 256
// bytes for each 16 KiB (mke2fs.conf), and bitmaps.
const tablesShare = 50

// hasRoom refuses what the pool has no room for. Nothing makes a volume smaller again, and
// a filesystem is damaged whose tables can't be written.
func (g *growth) hasRoom(ctx context.Context, on content) error {
	pool, err := g.virsh.FindPool(ctx, g.disk.Pool, "")
	if err != nil {
		return err
	}
	if err := hasRoom(ctx, pool, g.SizeBytes, g.SizeBytes-g.disk.SizeBytes); err != nil {
		return err
	}
	isExt := strings.HasPrefix(string(on.fstype), "ext")
	if tables := (g.SizeBytes - on.bytes) / tablesShare; g.disk.IsFile && isExt && tables > pool.FreeBytes {
		return fmt.Errorf("pool %s has %d MiB free, and the larger filesystem's tables need up to %d MiB at once: make room in it, or give a smaller size", pool.Name, pool.FreeBytes>>20, tables>>20)
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
func (g *growth) lookAtDisk(ctx context.Context) (on content, err error) {
	d, usedBy, err := guestdisk.Look(ctx, g.session, g.disk.Path, g.fsck)
	if err != nil {
		return on, err
	}
	if usedBy != "" && !g.Running() {
		return on, blockdev.InUse(g.disk.Path, usedBy)
	}
	seen, err := d.LookToGrow(ctx, true)
	if err != nil {
		if !strings.HasPrefix(g.Role, "data") {
			return on, err
		}
		on.volumeOnly = err.Error() // a disk that the guest does with what it likes
		return on, nil
	}
	on = content{number: seen.Root.Number, startSector: seen.Root.StartSector, fstype: seen.Type, bytes: seen.Before}
	if seen.Layout.Style == partition.StyleNone {
		on.number = 0
	}
	if more, _ := g.isLarger(ctx); !more && seen.Fits() {
		on.enough = seen.Describe()
	}
	larger := seen.Layout
	larger.SizeBytes = g.SizeBytes
	_, err = larger.Grow()
	return on, err
}

// shutDown never forces it off: what the guest hasn't written yet is worth more
// than a larger disk.
func (g *growth) shutDown(ctx context.Context) (stopped bool, err error) {
	err = g.VM.shutDown(ctx, g.Stop.Within)
	if err == nil {
		return true, g.mustNotBeSaved(ctx) // by somebody else, meanwhile; its disk is as it was
	}
	if errors.Is(err, errNoAnswer) {
		return false, g.whyItStays(err, g.Stop.Within)
	}
	return false, fmt.Errorf("%w; if it shuts down: vm start %s", err, g.Name)
}

func (g *growth) isLarger(context.Context) (bool, string) {
	return session.NeededIf(g.SizeBytes > g.disk.SizeBytes, "it is that large already")
}

func (g *growth) resize(ctx context.Context) error {
	if !g.disk.IsFile {
		return g.virsh.ExtendLV(ctx, g.disk.Pool, g.disk.Path, g.SizeBytes)
	}
	// Not by libvirt, whose qemu-img would go by what the guest has written there.
	d, err := blockdev.Open(g.disk.Path, paths.LockDir, g.session.HostProc)
	if err != nil {
		return err
	}
	if err := cmp.Or(d.File().Truncate(g.SizeBytes), d.Sync(), d.Close()); err != nil {
		return err
	}
	return g.virsh.Refresh(ctx, g.disk.Pool)
}

// startAgain starts the guest when nothing here has its disk any longer.
func (g *growth) startAgain(ctx context.Context, mark int) error {
	err := g.session.Do(ctx, []session.Step{
		{Name: "give the disk back", Detail: g.disk.Path, Run: func(ctx context.Context) error { return g.session.UndoTo(ctx, mark) }},
		{Name: "start the guest again", Detail: g.Name, Run: g.start},
	})
	if err != nil {
		err = fmt.Errorf("the guest %s was running and is shut off now: vm start %s: %w", g.Name, g.Name, err)
	}
	return err
}
