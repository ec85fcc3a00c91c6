package guestdisk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// Grow fits the last partition of a disk that was enlarged, and the filesystem in
// it, to the disk, and returns what it did: the filesystem or swap area of the
// whole disk, where there is no table. With dryRun it returns what it would do. The
// guest has had the disk: nothing on it is trusted.
//
// It can be killed at any moment, and run again: the table is written first, and a
// filesystem is whole that is smaller than its partition.
func Grow(ctx context.Context, s *session.Session, path string, fsck Fsck, dryRun bool) (did string, err error) {
	mark := s.Mark()
	var d *Disk
	var g *Growth
	err = s.Do(ctx, []session.Step{
		{Name: "claim the disk", Detail: path, Run: func(context.Context) (err error) {
			d, err = Claim(s, path, fsck)
			return err
		}},
		{Name: "probe the disk", Detail: path, Run: func(ctx context.Context) (err error) {
			g, err = d.LookToGrow(ctx, dryRun)
			return err
		}},
	})
	if err != nil {
		return "", err
	}
	if dryRun || g.Fits() {
		return g.Describe(), nil
	}
	after := g.Before
	isFilesystem := func(context.Context) (bool, string) { return g.Type != "", "the disk is swap" }
	err = s.Do(ctx, []session.Step{
		{Name: "check the filesystem", Detail: g.What, When: isFilesystem, Run: g.check},
		{Name: "write the partition table", Detail: string(g.Layout.Style), When: g.tableChanges, Run: g.writeTable},
		{Name: "grow the filesystem", Detail: g.What, When: isFilesystem, Run: func(ctx context.Context) (err error) {
			after, err = g.growFilesystem(ctx)
			return err
		}},
		{Name: "grow the swap area", Detail: path, When: g.isSwap, Run: func(context.Context) (err error) {
			after, err = g.growSwap()
			return err
		}},
		{Name: "release the disk", Detail: path, Run: func(ctx context.Context) error { return s.UndoTo(ctx, mark) }},
	})
	if err != nil {
		return "", err
	}
	return g.describe(after, true), nil
}

// Growth is what there is to grow on a disk.
type Growth struct {
	Layout partition.Layout
	Root   partition.Partition // the last, which grows
	Type   filesystem.Type     // "": a swap area
	What   string              // its name for messages
	Before int64               // bytes of the filesystem or the swap area

	disk         *Disk
	part         *Part            // with the filesystem, as large as it is to be
	fitted       partition.Layout // what the table is to be
	goal         partition.Partition
	tableIsRight bool
	recovery     string // why it has to be recovered first
	stale        bool   // copies of its superblock say another size
}

// LookToGrow finds out what there is to grow, and refuses what can't be. Only to look at,
// not a byte of the disk can be written.
func (d *Disk) LookToGrow(ctx context.Context, onlyLook bool) (*Growth, error) {
	g := &Growth{disk: d}
	if err := g.look(ctx, onlyLook); err != nil {
		return nil, fmt.Errorf("disk %s is left as it is: %w", d.Path, err)
	}
	return g, nil
}

func (g *Growth) look(ctx context.Context, onlyLook bool) error {
	if err := g.lookAtTable(); err != nil {
		return err
	}
	found, err := filesystem.ProbeAt(ctx, g.disk.Node(), g.Root.Offset(), g.goal.SizeBytes())
	if err != nil {
		return err
	}
	whole := g.Layout.Style == partition.StyleNone
	switch {
	case whole && found == filesystem.Info{}:
		if looks := hint(g.disk.File()); looks != "" {
			return errors.New(looks)
		}
		return errors.New("it holds nothing that could grow")
	case found.Type == "swsuspend":
		return errors.New("the guest is hibernated on it; start it and shut it down")
	case whole && found.Type == "swap" && found.PTType == "":
		g.What = "swap area"
		g.Before, err = filesystem.SwapSize(g.disk.File())
	default:
		err = g.lookAtFilesystem(ctx, found, onlyLook)
	}
	if err == nil && g.Before > g.goal.SizeBytes() {
		err = fmt.Errorf("its %s has %d MiB, and there is room for %d MiB: the disk or the partition was made smaller: give it its size back", g.What, g.Before>>20, g.room()>>20)
	}
	return err
}

func (g *Growth) lookAtTable() (err error) {
	if g.Layout, err = partition.Read(g.disk.File(), g.disk.SizeBytes); err != nil {
		return err
	}
	if g.Root, err = g.Layout.Growing(); err != nil {
		return fmt.Errorf("not a layout of ours (%w): grow it from inside the guest", err)
	}
	if g.fitted, err = g.Layout.Grow(); err != nil {
		return err
	}
	g.goal, _ = g.fitted.Growing()
	g.tableIsRight, err = g.fitted.IsOn(g.disk.File())
	return err
}

func (g *Growth) lookAtFilesystem(ctx context.Context, found filesystem.Info, onlyLook bool) (err error) {
	if g.Type, err = filesystem.ParseType(found.Type); err != nil || g.Layout.Style == partition.StyleNone && found.PTType != "" {
		return fmt.Errorf("it holds %s, and only ext2, ext3, ext4, xfs, btrfs and a whole disk's swap grow", found)
	}
	g.What = found.Type
	if err := filesystem.Tools(g.Type); err != nil {
		return err
	}
	if g.part, err = g.disk.Attach(ctx, g.goal, onlyLook); err != nil {
		return err
	}
	if g.Before, err = g.filesystemSize(); err != nil {
		return err
	}
	if _, g.recovery, err = filesystem.IsClean(g.part.Device, g.Type); err != nil || g.Type != filesystem.XFS {
		return err
	}
	g.stale, err = filesystem.HasStaleCopies(ctx, g.part.Device)
	return err
}

// room is the size in bytes of what the filesystem is to fill, in blocks of 4 KiB.
func (g *Growth) room() int64 { return g.goal.SizeBytes() &^ 4095 }

// Fits reports whether there is nothing to do.
func (g *Growth) Fits() bool { return g.tableIsRight && g.Before >= g.room() && !g.stale }

func (g *Growth) isSwap(context.Context) (bool, string) { return g.Type == "", "the disk is not swap" }

func (g *Growth) tableChanges(context.Context) (bool, string) {
	return !g.tableIsRight, "it is right already"
}

// check does what the guest's boot would do, in full, before anything else is
// changed: of xfs and btrfs a mount tells. Only an xfs whose superblock's copies are of
// another size is given them first, since it would be found damaged.
func (g *Growth) check(ctx context.Context) error {
	if g.stale && g.part.fsck != Full {
		if err := g.part.onFolder(func(dir string) error { return filesystem.RenewCopies(ctx, g.part.Device, dir) }); err != nil {
			return err
		}
	}
	if err := filesystem.RepairForeign(ctx, g.part.Device, g.Type); err != nil {
		return err
	}
	if g.Type != filesystem.XFS && g.Type != filesystem.Btrfs {
		return nil
	}
	s := g.disk.session
	mark := s.Mark()
	_, err := g.part.Mount(ctx, g.Type)
	return cmp.Or(err, s.UndoTo(ctx, mark))
}

// writeTable writes the table for the disk's new size.
func (g *Growth) writeTable(context.Context) error {
	g.disk.Lock(true)
	defer g.disk.Lock(false)
	return g.fitted.Write(g.disk.File())
}

// Apply makes the table and the filesystem of the last partition as large as the disk, and says
// what it did. Who calls it releases the disk.
func (g *Growth) Apply(ctx context.Context) (did string, err error) {
	after := g.Before
	if err = g.check(ctx); err == nil && !g.tableIsRight {
		err = g.writeTable(ctx)
	}
	if err == nil {
		after, err = g.growFilesystem(ctx)
	}
	return g.describe(after, true), err
}

// growFilesystem returns the size in bytes that the filesystem has then.
func (g *Growth) growFilesystem(ctx context.Context) (int64, error) {
	if err := g.part.Grow(ctx, g.Type); err != nil {
		return 0, err
	}
	return g.filesystemSize()
}

// filesystemSize is the size in bytes of the attached filesystem, by its own
// account.
func (g *Growth) filesystemSize() (int64, error) {
	claim, err := g.part.claimed(g.Type)
	return claim.SizeBytes, err
}

// claimed is what an attached filesystem says of itself. One on several disks is refused:
// the kernel would take the others from wherever it has seen them, also from other guests.
func (p *Part) claimed(t filesystem.Type) (filesystem.Claim, error) {
	f, err := os.Open(p.Device)
	if err != nil {
		return filesystem.Claim{}, err
	}
	defer f.Close()
	claim, err := filesystem.ReadClaim(f, 0, t)
	if err == nil && claim.Devices != 1 {
		err = fmt.Errorf("its %s is on %d disks: grow it from inside the guest", t, claim.Devices)
	}
	return claim, err
}

// growSwap returns the size in bytes that the swap area has then.
func (g *Growth) growSwap() (int64, error) {
	if err := filesystem.GrowSwap(g.disk.File(), g.disk.SizeBytes); err != nil {
		return 0, err
	}
	return filesystem.SwapSize(g.disk.File())
}

// Describe says what there is to do.
func (g *Growth) Describe() string {
	text := g.describe(max(g.Before, g.room()), false) // ext leaves out a last group that is too small
	if g.recovery != "" && !g.Fits() {
		text += "; first " + g.recovery
	}
	return text
}

// describe says what was done, or would be; after is the size in bytes that the
// filesystem or swap area has then.
func (g *Growth) describe(after int64, done bool) string {
	var changes []string
	if g.goal.Sectors > g.Root.Sectors {
		changes = append(changes, fmt.Sprintf("partition %d from %s to %s", g.Root.Number, tell.MiB(g.Root.SizeBytes()), tell.MiB(g.goal.SizeBytes())))
	}
	grew, to, rewritten := "grew", "to", "its %s table is written anew"
	if !done {
		grew, to, rewritten = "would grow", "up to", "would write its %s table anew"
	}
	if after != g.Before {
		changes = append(changes, fmt.Sprintf("its %s from %s %s %s", g.What, tell.MiB(g.Before), to, tell.MiB(after)))
	}
	switch {
	case len(changes) > 0:
		return fmt.Sprintf("disk %s of %s: %s %s", g.disk.Path, tell.MiB(g.disk.SizeBytes), grew, strings.Join(changes, ", "))
	case !g.tableIsRight:
		return fmt.Sprintf("disk %s: "+rewritten+", for the disk's size", g.disk.Path, g.Layout.Style)
	case g.stale && done:
		return fmt.Sprintf("disk %s: the copies of its xfs's superblock are written anew, which an earlier growth had left", g.disk.Path)
	case g.stale:
		return fmt.Sprintf("disk %s: would write the copies of its xfs's superblock anew, which an earlier growth has left", g.disk.Path)
	}
	end := "fills it"
	if g.Before < g.room() {
		end = "is as large as it gets"
	}
	return fmt.Sprintf("disk %s of %s: nothing to do, its %s of %s %s", g.disk.Path, tell.MiB(g.disk.SizeBytes), g.What, tell.MiB(g.Before), end)
}
