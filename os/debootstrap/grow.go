package debootstrap

import (
	"context"
	"fmt"
	"os"
	"strings"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/session"
)

// Grow fits the last partition of a disk that was enlarged, and the filesystem in
// it, to the disk, and returns what it did: the filesystem or swap area of the
// whole disk, where there is no table. With dryRun it returns what it would do. The
// guest has had the disk: nothing on it is trusted.
//
// It can be killed at any moment, and run again: the table is written first, and a
// filesystem is whole that is smaller than its partition.
func Grow(ctx context.Context, s *session.Session, j *Job, dryRun bool) (did string, err error) {
	j.begin(s)
	g := &growth{Job: j, dryRun: dryRun}
	disk := j.Request.BlockDev
	err = s.Do(ctx, []session.Step{
		{Name: "claim the disk", Detail: disk, Run: g.claimRoot},
		{Name: "see what is on it", Detail: disk, Run: g.look},
	})
	if err != nil {
		return "", err
	}
	if dryRun || g.fits() {
		return g.describe(), nil
	}
	err = s.Do(ctx, []session.Step{
		{Name: "check the filesystem", Detail: g.what, When: g.isFilesystem, Run: g.check},
		{Name: "write the partition table", Detail: string(g.layout.Style), When: g.tableChanges, Run: g.writeTable},
		{Name: "grow the filesystem", Detail: g.what, When: g.isFilesystem, Run: g.growFilesystem},
		{Name: "grow the swap area", Detail: disk, When: g.isSwap, Run: g.growSwap},
		{Name: "let go of the disk", Detail: disk, Run: g.letGo},
	})
	if err != nil {
		return "", err
	}
	return g.describe(), nil
}

// growth is one run of the command.
type growth struct {
	*Job
	dryRun bool

	layout, fitted partition.Layout // the disk's, and what it is to be
	root, goal     partition.Partition
	tableIsRight   bool
	fstype         filesystem.Type // "": a swap area
	what           string          // its name for messages
	before, after  int64           // bytes of the filesystem or the swap area
	recovery       string          // why it has to be recovered first
}

// look finds out what there is to grow, and refuses what can't be.
func (g *growth) look(ctx context.Context) error {
	if err := g.lookAtTable(); err != nil {
		return fmt.Errorf("disk %s is left as it is: %w", g.disk.Path, err)
	}
	found, err := filesystem.ProbeAt(ctx, g.disk.Node(), g.root.StartSector*partition.SectorSize, g.goal.Sectors*partition.SectorSize)
	if err != nil {
		return err
	}
	whole := g.layout.Style == partition.StyleNone
	switch {
	case whole && found == filesystem.Info{}:
		return fmt.Errorf("disk %s holds nothing that could grow", g.disk.Path)
	case found.Type == "swsuspend":
		return fmt.Errorf("disk %s is left as it is: the guest is hibernated on it; start it and shut it down", g.disk.Path)
	case whole && found.Type == "swap" && found.PTType == "":
		g.what = "swap area"
		g.before, err = filesystem.SwapSize(g.disk.File())
	default:
		err = g.lookAtFilesystem(ctx, found)
	}
	if err != nil {
		return fmt.Errorf("disk %s is left as it is: %w", g.disk.Path, err)
	}
	if g.after = g.before; g.before > g.goal.Sectors*partition.SectorSize {
		return fmt.Errorf("disk %s is left as it is: its %s has %d MiB, and there is room for %d MiB: the disk or the partition was made smaller",
			g.disk.Path, g.what, g.before>>20, g.room()>>20)
	}
	return nil
}

func (g *growth) lookAtTable() (err error) {
	if g.layout, err = partition.Read(g.disk.File(), g.disk.SizeBytes); err != nil {
		return err
	}
	var ok bool
	var why string
	if g.root, ok, why = g.layout.Ours(); !ok {
		return fmt.Errorf("not a layout of ours (%s): grow it from inside the guest", why)
	}
	if g.fitted, err = g.layout.Grow(); err != nil {
		return err
	}
	g.goal, _, _ = g.fitted.Ours()
	g.tableIsRight, err = g.fitted.IsOn(g.disk.File())
	return err
}

func (g *growth) lookAtFilesystem(ctx context.Context, found filesystem.Info) (err error) {
	if g.fstype, err = filesystem.ParseType(found.Type); err != nil || g.layout.Style == partition.StyleNone && found.PTType != "" {
		return fmt.Errorf("it holds %s, and only ext2, ext3, ext4, xfs, btrfs and a whole disk's swap grow", found)
	}
	g.what = found.Type
	if err := filesystem.Tools(g.fstype); err != nil {
		return err
	}
	if err := g.attachPart(ctx, g.goal, g.dryRun); err != nil {
		return err
	}
	if g.before, err = g.filesystemSize(); err != nil {
		return err
	}
	_, g.recovery, err = filesystem.IsClean(g.fsysDev, g.fstype)
	return err
}

// room is the size in bytes of what the filesystem is to fill, in blocks of 4 KiB.
func (g *growth) room() int64 { return g.goal.Sectors * partition.SectorSize &^ 4095 }

// fits reports whether there is nothing to do.
func (g *growth) fits() bool { return g.tableIsRight && g.before >= g.room() }

func (g *growth) isFilesystem(context.Context) (bool, string) {
	return g.fstype != "", "the disk is swap"
}

func (g *growth) isSwap(context.Context) (bool, string) {
	return g.fstype == "", "the disk is not swap"
}

func (g *growth) tableChanges(context.Context) (bool, string) {
	return !g.tableIsRight, "it is right already"
}

// check does what the guest's boot would do, in full, before anything else is
// changed: of xfs and btrfs a mount tells.
func (g *growth) check(ctx context.Context) error {
	if err := filesystem.RepairForeign(ctx, g.fsysDev, g.fstype); err != nil {
		return err
	}
	if g.fstype != filesystem.XFS && g.fstype != filesystem.Btrfs {
		return nil
	}
	mark := g.session.Mark()
	return firstError(g.mountHostile(ctx, g.fstype, false), g.undoTo(ctx, mark))
}

// writeTable writes the table for the disk's new size.
func (g *growth) writeTable(context.Context) error {
	g.disk.Lock(true)
	defer g.disk.Lock(false)
	return g.fitted.Write(g.disk.File())
}

func (g *growth) growFilesystem(ctx context.Context) error {
	err := g.fillDevice(ctx, g.fstype)
	if err == nil {
		g.after, err = g.filesystemSize()
	}
	return err
}

// filesystemSize is the size in bytes of the attached filesystem, by its own
// account.
func (g *growth) filesystemSize() (int64, error) {
	f, err := os.Open(g.fsysDev)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	claim, err := filesystem.ReadClaim(f, 0, g.fstype)
	if err == nil && claim.Devices != 1 {
		err = fmt.Errorf("its %s is on %d disks", g.fstype, claim.Devices)
	}
	return claim.SizeBytes, err
}

func (g *growth) growSwap(context.Context) (err error) {
	if err = filesystem.GrowSwap(g.disk.File(), g.disk.SizeBytes); err == nil {
		g.after, err = filesystem.SwapSize(g.disk.File())
	}
	return err
}

// describe says what was done, or would be.
func (g *growth) describe() string {
	after, verb, to := g.after, "grew", "to"
	if g.dryRun {
		after, verb, to = max(g.before, g.room()), "would grow", "up to" // ext leaves out a last group that is too small
	}
	var changes []string
	if g.goal.Sectors > g.root.Sectors {
		changes = append(changes, fmt.Sprintf("partition %d from %s to %s", g.root.Number, inMiB(g.root.Sectors*partition.SectorSize), inMiB(g.goal.Sectors*partition.SectorSize)))
	}
	if after != g.before {
		changes = append(changes, fmt.Sprintf("its %s from %s %s %s", g.what, inMiB(g.before), to, inMiB(after)))
	}
	switch {
	case len(changes) > 0:
		text := fmt.Sprintf("disk %s of %s: %s %s", g.diskName(), inMiB(g.disk.SizeBytes), verb, strings.Join(changes, ", "))
		if g.dryRun && g.recovery != "" {
			text += "; first " + g.recovery
		}
		return text
	case !g.tableIsRight && g.dryRun:
		return fmt.Sprintf("disk %s: would write its %s table anew, for the disk's size", g.diskName(), g.layout.Style)
	case !g.tableIsRight:
		return fmt.Sprintf("disk %s: its %s table is written anew, for the disk's size", g.diskName(), g.layout.Style)
	}
	end := "fills it"
	if g.before < g.room() {
		end = "is as large as it gets"
	}
	return fmt.Sprintf("disk %s of %s: nothing to do, its %s of %s %s", g.diskName(), inMiB(g.disk.SizeBytes), g.what, inMiB(g.before), end)
}

// inMiB writes a size in MiB, with a decimal when it isn't a whole number.
func inMiB(sizeBytes int64) string {
	if sizeBytes%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", sizeBytes>>20)
	}
	return fmt.Sprintf("%.1f MiB", float64(sizeBytes)/(1<<20))
}
