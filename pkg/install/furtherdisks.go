package install

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/tell"
)

// furtherDisk is a disk beside the root's that a layout partitions. One that has what the
// layout says is taken as it is, so that a reinstall leaves it alone.
type furtherDisk struct {
	index int
	path  string
	disk  *blockdev.Disk
	table partition.Layout
	found []part // nil: it is blank
	whole bool   // what was made on it has all that belongs there
}

// unfinished is what a disk's partitions are called until all that belongs there is: what a
// killed run has left isn't taken for a guest's.
const unfinished = "unfinished"

func (d *furtherDisk) String() string { return fmt.Sprintf("disk %d (%s)", d.index, d.path) }

// furtherIndexes are the disks that the layout names beside the root's.
func (o *Order) furtherIndexes() (list []int) {
	for _, l := range o.parts {
		if l.Disk != o.Request.Root && !slices.Contains(list, l.Disk) {
			list = append(list, l.Disk)
		}
	}
	return list
}

// HasLayoutOn tells whether LAYOUT names a disk beside the root's; of a file that can't be read
// the error is still to come.
func (o *Order) HasLayoutOn(index int) bool {
	order, err := o.withLayout()
	return err == nil && slices.Contains(order.furtherIndexes(), index)
}

func (o *Order) describeFurther() string {
	var names []string
	for _, index := range o.furtherIndexes() {
		names = append(names, fmt.Sprintf("disk %d (%s)", index, strings.Join(o.describeParts(index), ", ")))
	}
	return joinPaths(names)
}

// furtherDisks finds them, and refuses those that can't be partitioned, whatever they hold.
func (o *Order) furtherDisks() (disks []*furtherDisk, err error) {
	file := o.layoutPath()
	var faults []error
	for _, index := range o.furtherIndexes() {
		i := slices.IndexFunc(o.Request.Disks, func(d osapi.Disk) bool { return d.Index == index && d.IsGuests() })
		if i < 0 {
			faults = append(faults, fmt.Errorf("LAYOUT: %s: disk %d is none of the instance's: give it one more (gnt-instance modify --disk add:size=SIZE), or take its lines out", file, index))
			continue
		}
		switch d := o.Request.Disks[i]; {
		case d.ReadOnly():
			faults = append(faults, fmt.Errorf("LAYOUT: %s: disk %d is read-only (DISK_n_ACCESS=ro): make it writable (gnt-instance modify --disk N:modify,mode=rw)", file, index))
		default:
			found, _ := o.dataDisks()
			if use := usedAs(o, found, d.Path); use != "" {
				faults = append(faults, fmt.Errorf("LAYOUT: %s: disk %d is %s already: check DATA_DISKS, swapdev and the disks' names", file, index, use))
				continue
			}
			disks = append(disks, &furtherDisk{index: index, path: d.Path})
		}
	}
	return disks, errors.Join(faults...)
}

// claimFurther opens them.
func claimFurther(ctx context.Context, s *session.Session, c Choice) ([]*furtherDisk, error) {
	disks, err := c.furtherDisks()
	for _, d := range disks {
		if err != nil {
			return nil, err
		}
		if d.disk, err = claim(s, d.path); err == nil {
			err = d.look(ctx, c, d.disk.Node(), d.disk.File(), d.disk.SizeBytes)
		}
	}
	return disks, err
}

// look finds out whether the disk, which is read at node, is blank, or has what the layout
// says. All else is an error.
func (d *furtherDisk) look(ctx context.Context, c Choice, node string, f *os.File, sizeBytes int64) error {
	_, what, err := filesystem.IsBlankOrSwap(ctx, node)
	if err != nil {
		return fmt.Errorf("%v: %w", d, err)
	}
	if what != "blank" {
		var differs string
		if d.found, differs = c.foundParts(ctx, d.index, node, f, sizeBytes); differs != "" {
			return fmt.Errorf("%v holds %s, which isn't what the layout says (%s), and only a blank disk is partitioned; if that may go, run wipefs --all on it, and blkdiscard --zeroout", d, what, differs)
		}
		return nil
	}
	_, parts := c.partsOn(d.index)
	if d.table, err = partition.PlanParts(sizeBytes, c.Settings.PartitionAlignment, partition.Boot{}, parts, rand.Reader); err != nil {
		return fmt.Errorf("LAYOUT: %s: %v: %w", c.layoutPath(), d, err)
	}
	return c.partsFit(d.table, d.index, nil)
}

// foundParts returns the partitions of a disk that has those of the layout, each with its
// filesystem; differs says what is another.
func (c Choice) foundParts(ctx context.Context, disk int, node string, f *os.File, sizeBytes int64) (found []part, differs string) {
	table, err := partition.Read(f, sizeBytes)
	if err != nil {
		return nil, err.Error()
	}
	lines, wanted := c.partsOn(disk)
	if len(table.Partitions) != len(wanted) {
		return nil, fmt.Sprintf("it has %d partitions, not %d", len(table.Partitions), len(wanted))
	}
	for i, want := range wanted {
		at := slices.IndexFunc(table.Partitions, func(p partition.Partition) bool { return p.Number == want.Number })
		if at < 0 || table.Partitions[at].Name != want.Name {
			return nil, fmt.Sprintf("its partition %d isn't called %s", want.Number, want.Name)
		}
		p := table.Partitions[at]
		info, err := filesystem.ProbeAt(ctx, node, p.Offset(), p.SizeBytes())
		if err != nil {
			return nil, err.Error()
		}
		if info.Type != lines[i].Filesystem || info.UUID == "" {
			return nil, fmt.Sprintf("its partition %d holds %s, not %s", p.Number, info, lines[i].Filesystem)
		}
		of := part{line: lines[i], number: p.Number, uuid: info.UUID}
		if differs := c.lacksSubvolume(ctx, f, p, lines[i]); differs != "" {
			return nil, differs
		}
		found = append(append(found, of), c.subvolumeParts(of)...)
	}
	return found, ""
}

// furtherAsTheyAre is for a plan.
func (c Choice) furtherAsTheyAre(ctx context.Context) (string, error) {
	disks, err := c.furtherDisks()
	faults := []error{err}
	var texts []string
	for _, d := range disks {
		size, err := lookAt(d.path, true)
		if err == nil {
			var f *os.File
			if f, err = os.Open(d.path); err == nil {
				err = errors.Join(d.look(ctx, c, d.path, f, size), f.Close())
			}
		}
		faults = append(faults, err)
		switch {
		case err != nil:
		case d.found != nil:
			texts = append(texts, fmt.Sprintf("%v: has what the layout says, and is taken as it is", d))
		default:
			texts = append(texts, fmt.Sprintf("%v: blank", d))
		}
	}
	return strings.Join(texts, "; "), errors.Join(faults...)
}

func (o *Order) hasFurther(context.Context) (bool, string) {
	return session.NeededIf(len(o.furtherIndexes()) > 0, "the layout has partitions on the root's disk alone")
}

// makeFurther partitions the blank ones, and makes their filesystems.
func makeFurther(ctx context.Context, s *session.Session, c Choice, disks []*furtherDisk) (parts []part, err error) {
	for _, d := range disks {
		if d.found != nil {
			tell.Info(ctx, "%v: has what the layout says, and is taken as it is", d)
			parts = append(parts, d.found...)
			continue
		}
		made, err := d.make(ctx, s, c)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", d, err)
		}
		parts = append(parts, made...)
	}
	return parts, nil
}

func (d *furtherDisk) make(ctx context.Context, s *session.Session, c Choice) ([]part, error) {
	d.disk.Lock(true)
	defer d.disk.Lock(false)
	s.Defer("make it blank again", d.blankAgain)
	begun := d.table
	begun.Partitions = slices.Clone(begun.Partitions)
	for i := range begun.Partitions {
		begun.Partitions[i].Name = unfinished
	}
	if err := begun.Write(d.disk.File()); err != nil {
		return nil, err
	}
	loop, err := attachDisk(ctx, s, d.disk, true)
	if err != nil {
		return nil, err
	}
	parts, err := makeParts(ctx, s, c, d.index, loop, d.table, true)
	if err == nil {
		loop.Unlock()
	}
	return parts, err
}

// blankAgain is for a disk that was blank, and that a run which has failed has begun.
func (d *furtherDisk) blankAgain(context.Context) error {
	if d.whole {
		return nil
	}
	if err := filesystem.BlankAgain(d.disk.Node()); err != nil {
		return fmt.Errorf("%v: it was blank, and holds what is begun of it now: %w", d, err)
	}
	return nil
}

// finishFurther calls the partitions that were made, and are filled, as the layout does.
func finishFurther(disks []*furtherDisk) error {
	for _, d := range disks {
		if d.found != nil {
			continue
		}
		if err := cmp.Or(d.table.Write(d.disk.File()), d.disk.MakeDurable()); err != nil {
			return fmt.Errorf("%v: %w", d, err)
		}
		d.whole = true
	}
	return nil
}

// byLine has partitions in the order of the layout's file.
func byLine(parts []part) []part {
	return slices.SortedFunc(slices.Values(parts), func(a, b part) int { return a.line.Line - b.line.Line })
}

// keptFurther refuses to keep what is on a disk that a reinstall leaves alone.
func (o *Order) keptFurther(path string) error {
	i := slices.IndexFunc(o.folders(), func(l settings.LayoutLine) bool {
		return l.Disk != o.Request.Root && (strings.HasPrefix(path+"/", l.Folder+"/") || strings.HasPrefix(l.Folder+"/", path+"/"))
	})
	if i < 0 {
		return nil
	}
	return fmt.Errorf("REINSTALL_KEEP: %s has to do with disk %d, which a reinstall leaves alone: leave it out", path, o.folders()[i].Disk)
}

// lacksSubvolume says which of the subvolumes that a partition is to have it hasn't; "" is that
// it has all.
func (c Choice) lacksSubvolume(ctx context.Context, f *os.File, p partition.Partition, line settings.LayoutLine) string {
	if line.Subvolume == "" {
		return ""
	}
	loop, err := blockdev.AttachWindow(ctx, f, p.Offset(), p.SizeBytes(), true)
	if err != nil {
		return err.Error()
	}
	names, err := filesystem.Subvolumes(ctx, loop.Path)
	if err := errors.Join(err, loop.Detach(ctx)); err != nil {
		return err.Error()
	}
	for _, l := range append(c.subvolumesOf(line), line) {
		if !slices.Contains(names, l.Subvolume) {
			return fmt.Sprintf("its partition %d has no subvolume %s", p.Number, l.Subvolume)
		}
	}
	return ""
}
