package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/tell"
	"instance-debootstrap/pkg/transport"
)

// ExportSteps is the recipe for a backup of one of the instance's disks (IODisk), which is
// written to out; beside are the others, as Beside saw them. size, when it isn't nil, is told
// the stream's length in bytes before it begins. A plan has an empty session and no files.
func ExportSteps(s *session.Session, req *osapi.Request, set *settings.Settings, beside []transport.Sibling, out, size *os.File) []session.Step {
	path, mark := req.BlockDev, s.Mark()
	e := &export{s, req, set, beside, out, size}
	known := func(ctx context.Context) (string, error) {
		seen, err := guestdisk.See(ctx, path)
		if err != nil {
			return "", err
		}
		_, refused := e.exportAs(seen)
		return seen.String(), cmp.Or(seen.MayClaim(false), refused)
	}
	var (
		disk    *guestdisk.Disk
		claimed int // the undo stack's height when it was
		from    source
		tree    *guestdisk.Tree
		backup  content
	)
	return []session.Step{
		{Name: "claim the disk", Detail: path, Known: known, Run: func(context.Context) (err error) {
			disk, err = guestdisk.ClaimForReading(s, path, guestdisk.Fsck(set.GuestFsck))
			claimed = s.Mark()
			return err
		}},
		{Name: "probe the disk", Detail: path, Run: func(ctx context.Context) (err error) {
			from, err = e.look(ctx, disk)
			return err
		}},
		{Name: "recover the filesystem", Detail: path, Run: func(ctx context.Context) (err error) {
			from, tree, err = e.recover(ctx, from, claimed)
			return err
		}},
		{Name: "collect the backup's metadata", Detail: path, Run: func(ctx context.Context) (err error) {
			backup, err = e.describe(ctx, from, tree)
			return err
		}},
		{Name: "write the backup", Detail: path, Run: func(ctx context.Context) error {
			return patiently(ctx, func() error {
				if set.ExportFormat == dumpFormat {
					return e.writeDump(ctx, tree)
				}
				return e.writeOurs(ctx, disk.File(), backup)
			})
		}},
		{Name: "release the disk", Detail: path, Run: func(ctx context.Context) error { return s.UndoTo(ctx, mark) }},
	}
}

// export is what one run of the verb is asked for.
type export struct {
	session   *session.Session
	req       *osapi.Request
	set       *settings.Settings
	beside    []transport.Sibling
	out, size *os.File
}

// source is the disk, and what was found on it.
type source struct {
	disk     *guestdisk.Disk
	layout   partition.Layout
	root     partition.Partition // where its filesystem is
	part     *guestdisk.Part     // that, for reading
	fs       filesystem.Type     // "" where blocks or swap are exported, and nothing is mounted
	manifest transport.Manifest
}

// dumpFormat is the EXPORT_FORMAT that isn't a stream of ours.
const dumpFormat = "dump"

// siblings are what the instance's disks hold, this one too, by their indexes: for the import
// that may give them all new UUIDs.
func (e *export) siblings(seen guestdisk.Seen) []transport.Sibling {
	list := slices.Clone(e.beside)
	if own, ok := siblingOf(seen); ok {
		own.Index = e.req.IODisk
		list = append(list, own)
		slices.SortFunc(list, func(a, b transport.Sibling) int { return a.Index - b.Index })
	}
	return list
}

// shape is how a disk is exported.
type shape struct {
	fs     filesystem.Type // as files, or as the used blocks of this; "" is neither
	isSwap bool
	why    string // it goes block by block
}

// exportAs decides by what is on a disk how it is exported, and refuses what EXPORT_FORMAT
// can't hold.
func (e *export) exportAs(seen guestdisk.Seen) (shape, error) {
	found := seen.Holds
	fs, typeErr := filesystem.ParseType(found.Type)
	as := shape{}
	switch {
	case seen.Unknown != nil:
		as.why = seen.Unknown.Error()
	case seen.Several != nil:
		as.why = "its guest has partitions of their own for " + severalFor(seen.Layout)
	case seen.Unread != nil: // more than one thing is on it
		as.why = seen.Unread.Error()
	case found.Type == "swap" && seen.Root.Number == 0:
		as.isSwap = true
	case typeErr != nil:
		as.why = "it holds " + found.String()
	case seen.Unclaimed != nil:
		return as, seen.Unclaimed
	case seen.Claim.Devices > 1:
		as.why = fmt.Sprintf("its %s is on %d disks", fs, seen.Claim.Devices)
	default:
		as.fs = fs
	}
	switch {
	case as.why != "":
		return as, e.refuseDump(seen.Path, blocksOf(as.why))
	case !as.fs.IsExt():
		return as, e.refuseDump(seen.Path, found.Type)
	case e.set.ExportFormat == dumpFormat:
		return as, lookForDump()
	}
	return as, nil
}

// severalFor says what there is beside the root.
func severalFor(l partition.Layout) string {
	var folders []string
	for _, p := range l.Beside() {
		folders = append(folders, p.Folder())
	}
	if len(folders) == 0 {
		return "swap"
	}
	return strings.Join(folders, ", ")
}

func blocksOf(why string) string { return "no filesystem that we know: " + why }

// look finds out what is on the disk, and so how it is exported: as files, as
// swap, or, where we don't know, as the blocks that it is.
func (e *export) look(ctx context.Context, d *guestdisk.Disk) (from source, err error) {
	seen := d.See(ctx)
	root, found := seen.Root, seen.Holds
	from.disk, from.layout, from.root = d, seen.Layout, root
	m := &from.manifest
	m.Siblings = e.siblings(seen)
	m.Format, m.Tool, m.Role = transport.FormatFor(false), paths.Version, "data"
	if e.req.IsRoot() {
		m.Role = "root"
	}
	m.Disk = describeDisk(e.req.IODisk, d.SizeBytes, from.layout)
	if seen.Unknown != nil || seen.Several != nil {
		m.Disk.Style, m.Disk.ID, m.Disk.Partitions = "unknown", "", nil
	}
	as, err := e.exportAs(seen)
	switch {
	case err != nil:
		return from, err
	case as.why != "":
		return e.asBlocks(ctx, from, as.why)
	case as.isSwap:
		m.Content, m.Role = "swap", "swap"
		m.Filesystem = &transport.Filesystem{Type: "swap", UUID: found.UUID, Label: found.Label, SizeBytes: d.SizeBytes}
		return from, nil
	}
	from.fs = as.fs
	m.Filesystem = &transport.Filesystem{
		Type: found.Type, UUID: found.UUID, Label: found.Label, Partition: root.Number, SizeBytes: root.SizeBytes(),
	}
	from.part, err = d.Attach(ctx, root, true)
	return from, err
}

// asBlocks exports the disk as it is, and says why.
func (e *export) asBlocks(ctx context.Context, from source, why string) (source, error) {
	if err := e.refuseDump(from.disk.Path, blocksOf(why)); err != nil {
		return from, err
	}
	tell.Info(ctx, "disk %s is exported block by block: %s", from.disk.Path, why)
	from.fs, from.manifest.Content, from.manifest.Holes = "", "blocks", "zero"
	return from, nil
}

func (e *export) refuseDump(disk, what string) error {
	if e.set.ExportFormat != dumpFormat {
		return nil
	}
	return fmt.Errorf("EXPORT_FORMAT=dump is for ext2, ext3 and ext4, and disk %s holds %s: set EXPORT_FORMAT=tar", disk, what)
}

// recover mounts the filesystem read-only, from a device that can't be written
// to. A journal that has to be replayed for it is replayed in place, as the next
// boot would; where the disk can't be written to either, its blocks are what
// there is to export. claimed is the undo stack's height before anything was attached.
func (e *export) recover(ctx context.Context, from source, claimed int) (source, *guestdisk.Tree, error) {
	if from.fs == "" {
		return from, nil, nil
	}
	clean, why, err := filesystem.IsClean(from.part.Device, from.fs)
	if err != nil {
		return from, nil, err
	}
	if clean {
		tree, err := from.part.Mount(ctx, from.fs)
		if err == nil || !errors.Is(err, filesystem.ErrNeedsReplay) {
			return from, tree, err
		}
		why = "its log has to be replayed"
	}
	if err := e.session.UndoTo(ctx, claimed); err != nil {
		return from, nil, err
	}
	if from.disk.ReadOnly {
		from, err = e.asBlocks(ctx, from, why+", and the disk is read-only")
		return from, nil, err
	}
	tell.Info(ctx, "disk %s was not unmounted by its guest (%s): recovering it in place, as the next boot would", from.disk.Path, why)
	if err := e.replay(ctx, from, claimed); err != nil {
		return from, nil, fmt.Errorf("disk %s can't be recovered: %w", from.disk.Path, err)
	}
	if from.part, err = from.disk.Attach(ctx, from.root, true); err != nil {
		return from, nil, err
	}
	tree, err := from.part.Mount(ctx, from.fs)
	return from, tree, err
}

// replay does to the filesystem what the next boot would.
func (e *export) replay(ctx context.Context, from source, claimed int) error {
	part, err := from.disk.Attach(ctx, from.root, false)
	if err == nil {
		err = filesystem.Repair(ctx, part.Device, from.fs)
	}
	if err == nil && !from.fs.IsExt() {
		_, err = part.Mount(ctx, from.fs) // their kernel code replays it
	}
	return cmp.Or(err, e.session.UndoTo(ctx, claimed), from.disk.Sync())
}

// describe fills in what the manifest says of the filesystem's content and of
// how the guest boots, and so comes to what is written.
func (e *export) describe(ctx context.Context, from source, tree *guestdisk.Tree) (_ content, err error) {
	m := &from.manifest
	if m.BootLoader, _, err = boot.Loader(from.disk.File(), from.layout); err != nil {
		return content{}, fmt.Errorf("disk %s: %w", from.disk.Path, err)
	}
	if m.Content == "swap" {
		return content{*m, 0, nothing{}}, nil
	}
	if from.fs != "" {
		if m.Filesystem, err = describeFilesystem(ctx, tree, *m.Filesystem); err != nil {
			return content{}, err
		}
	}
	if from.fs == filesystem.Btrfs {
		names, err := filesystem.Subvolumes(ctx, tree.Device)
		if err != nil {
			return content{}, err
		}
		if len(names) > 0 {
			if from, err = e.asBlocks(ctx, from, fmt.Sprintf("its btrfs has %d subvolumes", len(names))); err != nil {
				return content{}, err
			}
		}
	}
	if from.fs == "" {
		return content{*m, 0, allBlocks{from.disk}}, nil
	}
	// Which blocks of an xfs or btrfs are used, and what of them is needed, is less certain.
	if format := e.set.ExportFormat; format == "image" || format == "auto" && from.fs.IsExt() {
		image, err := asImage(ctx, from)
		if err == nil || context.Cause(ctx) != nil {
			return image, err
		}
		if format != "auto" {
			return content{}, fmt.Errorf("EXPORT_FORMAT=image: disk %s: %w: set EXPORT_FORMAT=tar, or have the guest check it", from.disk.Path, err)
		}
		tell.Warn(ctx, "disk %s is exported as files: %v", from.disk.Path, err)
	}
	return e.asFiles(ctx, from, tree)
}

// describeFilesystem adds to what is known of a filesystem what is in it.
func describeFilesystem(ctx context.Context, tree *guestdisk.Tree, fs transport.Filesystem) (*transport.Filesystem, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(tree.Dir, &st); err != nil {
		return nil, err
	}
	fs.UsedBytes = int64(st.Blocks-st.Bfree) * int64(st.Bsize)
	fs.Inodes = int64(st.Files - st.Ffree)
	err := guest.Edit(ctx, tree.Dir, func(root *guest.Root) error {
		fs.Suite = guest.ReadSuite(root)
		return nil
	})
	if err == nil && fs.Suite == "" {
		fs.Suite, err = filesystem.MatchSuite(ctx, tree.Device, tree.Type)
	}
	return &fs, err
}

// asFiles exports the mounted files. What its users have made that no tar can hold is
// looked for before the backup begins: it then goes as blocks.
func (e *export) asFiles(ctx context.Context, from source, tree *guestdisk.Tree) (content, error) {
	from.manifest.Content = "files"
	if e.set.ExportFormat == dumpFormat {
		return content{manifest: from.manifest, before: from.root.Offset()}, nil
	}
	ahead := transport.ReadAhead(ctx, tree.Dir) // which goes on while they are looked at
	e.session.Defer("stop reading ahead", func(context.Context) error { ahead.Stop(); return nil })
	asTar := content{from.manifest, from.root.Offset(), files{tree.Dir, e.set.MetadataLoss, ahead}}
	found, err := transport.Survey(ctx, tree.Dir)
	if err != nil || found.Unfit == "" {
		return asTar, err
	}
	ahead.Stop()
	isAuto := e.set.ExportFormat == "auto"
	if isAuto && !from.fs.IsExt() {
		tell.Info(ctx, "disk %s is exported block by block: no tar can hold its file %s", from.disk.Path, found.Unfit)
		return asImage(ctx, from)
	}
	remedy := "set EXPORT_FORMAT=image"
	if isAuto { // which has just found that it can't be one
		remedy = "have the guest check its filesystem"
	}
	return content{}, fmt.Errorf("disk %s: no tar can hold its file %s: remove that, or %s", from.disk.Path, found.Unfit, remedy)
}
