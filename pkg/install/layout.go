package install

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/tell"
)

// layoutPath is the file of LAYOUT on this node.
func (o *Order) layoutPath() string {
	if name := o.Settings.Layout; !strings.HasPrefix(name, "/") {
		return filepath.Join(paths.LayoutsDir(), name)
	}
	return o.Settings.Layout
}

// withLayout is the order with what its LAYOUT asks for, which says the table's style and the
// root's filesystem, too.
func (o *Order) withLayout() (*Order, error) {
	if o.Settings.Layout == "" {
		return o, nil
	}
	lines, err := o.readLayout()
	if err != nil {
		if o.Request.Verb == osapi.Verify {
			err = fmt.Errorf("%w (an import, which takes none, goes on with -O layout=none)", err)
		}
		return o, err
	}
	order, set := *o, *o.Settings
	order.parts, order.Settings = lines, &set
	set.PartitionStyle = string(partition.StyleGPT)
	set.Filesystem = order.rootLine().Filesystem
	return &order, nil
}

func isRoot(l settings.LayoutLine) bool { return l.Folder == "/" }

func (o *Order) readLayout() ([]settings.LayoutLine, error) {
	path := o.layoutPath()
	text, err := trustedFile(path, o.StrictFiles())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("LAYOUT=%s: %w", o.Settings.Layout, noLayout(path))
	}
	if err != nil {
		return nil, fmt.Errorf("LAYOUT: %w", err)
	}
	lines, err := settings.ParseLayout(path, text)
	if err != nil {
		return nil, fmt.Errorf("LAYOUT: %w", err)
	}
	return lines, o.checkLayout(path, lines)
}

// LookForLayout tells why no LAYOUT of that name is on this node.
func LookForLayout(name string) error {
	if err := settings.CheckLayoutName(name); err != nil {
		return err
	}
	path := filepath.Join(paths.LayoutsDir(), name)
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = noLayout(path)
	}
	return err
}

// noLayout says that a file isn't there, and which are.
func noLayout(path string) error {
	entries, _ := os.ReadDir(paths.LayoutsDir())
	if len(entries) == 0 {
		return fmt.Errorf("there is no %s: write it, or copy it there from a node that has it, or an example from %s-examples", path, paths.LayoutsDir())
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return fmt.Errorf("there is no %s: write it, or take one that is there (%s)", path, joinPaths(names))
}

// checkLayout refuses what can't be done of a file that can be read.
func (o *Order) checkLayout(path string, lines []settings.LayoutLine) error {
	var faults []error
	refuse := func(l settings.LayoutLine, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("LAYOUT: %s:%d: %w", path, l.Line, err))
		}
	}
	if o.BootPath != "" {
		faults = append(faults, errors.New("LAYOUT is for a disk with all of the guest, and this one has its /boot on another: set LAYOUT=none"))
	}
	for _, l := range lines {
		if o.Fresh && l.Disk != o.Request.Root {
			refuse(l, errors.New("a layout of vm create is for its one volume: leave the line out, and give the guest a further disk (--disk SIZE,mount=FOLDER)"))
			continue
		}
		if l.Disk != o.Request.Root && mustBeFirst(l.Folder) {
			refuse(l, fmt.Errorf("folder %s: must be on the instance's first disk, %d, by which the guest boots and is renamed: move the line there", l.Folder, o.Request.Root))
		}
		if l.Folder == "" {
			if l.Disk == o.Request.Root && o.isReadOnly(o.Request.BlockDev) {
				refuse(l, fmt.Errorf("no guest can swap on a read-only disk (DISK_%d_ACCESS=ro): leave the line out", l.Disk))
			}
			continue
		}
		t := filesystem.Type(l.Filesystem)
		refuse(l, errors.Join(filesystem.Check(t, o.Settings.Suite), filesystem.KernelHas(t)))
		for _, d := range o.Settings.DataDisks {
			if !isRoot(l) && o.Request.Named(d.Name) != nil && (l.Folder+"/" == d.Folder+"/" || strings.HasPrefix(l.Folder, d.Folder+"/")) {
				refuse(l, fmt.Errorf("folder %s would be hidden by the data disk %s on %s (DATA_DISKS): leave one out", l.Folder, d.Name, d.Folder))
			}
		}
	}
	return errors.Join(faults...)
}

// mustBeFirst tells whether a folder has what is looked for on the first disk.
func mustBeFirst(folder string) bool {
	return folder == "/" || folder == "/boot" || folder != "" && strings.HasPrefix("/var/lib/", folder+"/") || strings.HasPrefix(folder+"/", "/var/lib/")
}

// folders are those that get filesystems of their own, as the file has them: those above
// before those below.
func (o *Order) folders() (lines []settings.LayoutLine) {
	for _, l := range o.parts {
		if l.Folder != "" && !isRoot(l) {
			lines = append(lines, l)
		}
	}
	return lines
}

func folderNames(lines []settings.LayoutLine) (names []string) {
	for _, l := range lines {
		names = append(names, l.Folder)
	}
	return names
}

// hasOwnBoot tells whether /boot is a filesystem of its own.
func (o *Order) hasOwnBoot() bool {
	return o.BootPath != "" || slices.Contains(folderNames(o.parts), "/boot")
}

// furtherTypes are the filesystems of the folders.
func (o *Order) furtherTypes() (types []filesystem.Type) {
	for _, l := range o.folders() {
		types = append(types, filesystem.Type(l.Filesystem))
	}
	return types
}

// partsOn are the partitions of one of the instance's disks, a line of the file each: not its
// further subvolumes.
func (c Choice) partsOn(disk int) (lines []settings.LayoutLine, parts []partition.Part) {
	var sizes []int64
	for _, l := range c.parts {
		if l.Disk == disk && l.Of == 0 {
			lines, sizes = append(lines, l), append(sizes, l.Bytes)
		}
	}
	return lines, partition.FolderParts(c.Arch, folderNames(lines), sizes)
}

// subvolumesOf are the lines of a partition's further subvolumes.
func (c Choice) subvolumesOf(line settings.LayoutLine) (lines []settings.LayoutLine) {
	for _, l := range c.parts {
		if l.Of == line.Line && line.Of == 0 {
			lines = append(lines, l)
		}
	}
	return lines
}

// rootLine is the root's; the zero value is that there is no layout.
func (o *Order) rootLine() settings.LayoutLine {
	if i := slices.IndexFunc(o.parts, isRoot); i >= 0 {
		return o.parts[i]
	}
	return settings.LayoutLine{}
}

// rootParts are those of the root's disk.
func (c Choice) rootParts() ([]settings.LayoutLine, []partition.Part) {
	return c.partsOn(c.Request.Root)
}

// layout is how the root's disk, of so many bytes, is partitioned.
func (c Choice) layout(sizeBytes int64) (partition.Layout, error) {
	boot, align := partition.Boot{BIOS: c.Boot.BIOS, UEFI: c.Boot.UEFI}, c.Settings.PartitionAlignment
	if c.parts != nil {
		_, parts := c.rootParts()
		l, err := partition.PlanParts(sizeBytes, align, boot, parts, rand.Reader)
		if err != nil {
			err = fmt.Errorf("LAYOUT: %s: %w", c.layoutPath(), err)
		}
		return l, err
	}
	return partition.PlanBoot(c.style(), sizeBytes, align, boot, rand.Reader)
}

// CheckSize refuses a disk, of so many bytes, that can't be partitioned.
func (c Choice) CheckSize(sizeBytes int64) error {
	if c.parts == nil {
		_, err := partition.Plan(c.style(), sizeBytes, c.Settings.PartitionAlignment, rand.Reader)
		return err
	}
	l, err := c.layout(sizeBytes)
	if err != nil {
		return err
	}
	return c.partsFit(l, c.Request.Root, nil)
}

// partsFit looks whether each folder's partition on a disk has room for what is to be in it, by
// the folders; nil is that nothing is known of that.
func (c Choice) partsFit(l partition.Layout, disk int, rooms map[string]cache.Room) error {
	var faults []error
	lines, parts := c.partsOn(disk)
	for i, part := range parts {
		line, room := lines[i], rooms[lines[i].Folder]
		if line.Folder == "" {
			continue
		}
		has := numbered(l, part.Number).SizeBytes()
		if need := filesystem.MinDiskBytes(filesystem.Type(line.Filesystem), c.Settings.Suite, room.Bytes, room.Inodes); need > has {
			faults = append(faults, fmt.Errorf("LAYOUT: %s:%d: %s has %s, and its %s needs %s: give it more", c.layoutPath(), line.Line, line.Folder, tell.MiB(max(0, has)), line.Filesystem, tell.MiB(need)))
		}
	}
	return errors.Join(faults...)
}

// foldersFit is partsFit for what is in tars: the tree's, and that of what is kept. None of the
// folders may be a link there.
func (c Choice) foldersFit(ctx context.Context, l partition.Layout, tars ...string) error {
	folders := folderNames(c.folders())
	if len(folders) == 0 {
		return nil
	}
	var faults []error
	rooms := map[string]cache.Room{}
	for _, tar := range tars {
		if err := cache.RoomBelow(ctx, tar, folders, rooms); err != nil {
			return err
		}
		blocked, err := cache.InTheWay(ctx, tar, folders, false)
		if err != nil {
			return err
		}
		for _, line := range c.folders() {
			if by := blocked[line.Folder]; by != "" {
				faults = append(faults, fmt.Errorf("LAYOUT: %s:%d: folder %s: %s is a link, or no folder, in %s: give the folder that it leads to a filesystem, or leave the line out", c.layoutPath(), line.Line, line.Folder, by, tar))
			}
		}
	}
	return errors.Join(append(faults, c.partsFit(l, c.Request.Root, rooms))...)
}

func numbered(l partition.Layout, number int) partition.Partition {
	i := slices.IndexFunc(l.Partitions, func(p partition.Partition) bool { return p.Number == number })
	return l.Partitions[i]
}

// describeLayout says it in a plan.
func (o *Order) describeLayout() string {
	var texts []string
	for _, l := range o.parts {
		size := "the rest"
		switch {
		case l.Of > 0:
			size = fmt.Sprintf("in the btrfs of line %d", l.Of)
		case l.Bytes > 0:
			size = tell.MiB(l.Bytes)
		}
		text := fmt.Sprintf("%s %s, %s", cmp.Or(l.Folder, "swap"), size, l.Filesystem)
		if l.Subvolume != "" {
			text += " subvolume " + l.Subvolume
		}
		if l.Disk != o.Request.Root {
			text += fmt.Sprintf(" on disk %d", l.Disk)
		}
		texts = append(texts, text)
	}
	return fmt.Sprintf("layout %s: %s", o.Settings.Layout, strings.Join(texts, "; "))
}
