package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"

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

// Export writes a backup of one of the instance's disks (IODisk) to out; size, when it
// isn't nil, is told the stream's length in bytes before it begins.
func Export(ctx context.Context, s *session.Session, req *osapi.Request, set *settings.Settings, out, size *os.File) error {
	return s.Do(ctx, ExportSteps(s, req, set, out, size))
}

// ExportSteps is the recipe; a plan has an empty session and no files.
func ExportSteps(s *session.Session, req *osapi.Request, set *settings.Settings, out, size *os.File) []session.Step {
	path, mark := req.BlockDev, s.Mark()
	var e *export
	return []session.Step{
		{Name: "claim the disk", Detail: path, Known: diskAsItIs(path), Run: func(ctx context.Context) error {
			d, err := guestdisk.ClaimForReading(s, path, guestdisk.Fsck(set.GuestFsck))
			e = &export{session: s, index: req.IODisk, isRoot: req.IsRoot(), format: set.ExportFormat, onLoss: set.MetadataLoss, out: out, size: size, disk: d}
			if err == nil {
				e.manifest.Siblings = siblings(ctx, req, d)
			}
			return err
		}},
		{Name: "probe the disk", Detail: path, Run: func(ctx context.Context) error { return e.look(ctx) }},
		{Name: "recover the filesystem", Detail: path, Run: func(ctx context.Context) error { return e.recover(ctx) }},
		{Name: "collect the backup's metadata", Detail: path, Run: func(ctx context.Context) error { return e.describe(ctx) }},
		{Name: "write the backup", Detail: path, Run: func(ctx context.Context) error { return e.write(ctx) }},
		{Name: "release the disk", Detail: path, Run: func(ctx context.Context) error { return s.UndoTo(ctx, mark) }},
	}
}

// export is one run of the verb.
type export struct {
	session   *session.Session
	index     int    // of the disk
	isRoot    bool   // it is the guest's root
	format    string // EXPORT_FORMAT
	onLoss    string // METADATA_LOSS
	out, size *os.File

	disk     *guestdisk.Disk
	layout   partition.Layout
	root     partition.Partition // where the filesystem is
	fs       filesystem.Type     // "" is none that we know
	part     *guestdisk.Part     // with the filesystem
	tree     *guestdisk.Tree     // it, mounted; nil where blocks are exported
	unmapped int                 // the undo stack's height before the disk is attached
	manifest transport.Manifest
	parts    iter.Seq[part] // of an image, in the disk's order
	acls     int            // files and folders with ACLs, which dump loses
	firstACL string         // one of these
}

// dumpFormat is the EXPORT_FORMAT that isn't a stream of ours.
const dumpFormat = "dump"

// siblings are what the instance's disks hold, for the import that may give them all new
// UUIDs.
func siblings(ctx context.Context, req *osapi.Request, d *guestdisk.Disk) (list []transport.Sibling) {
	for _, other := range req.Disks {
		if other.Index != req.IODisk && !other.IsGuests() {
			continue
		}
		path := other.Path
		if other.Index == req.IODisk {
			path = d.Node()
		}
		if s, ok := siblingAt(ctx, path); ok {
			s.Index = other.Index
			list = append(list, s)
		}
	}
	return list
}

// look finds out what is on the disk, and so how it is exported: as files, as
// swap, or, where we don't know, as the blocks that it is.
func (e *export) look(ctx context.Context) error {
	layout, root, err := e.disk.Root()
	e.layout, e.root = layout, root
	m := &e.manifest
	m.Format, m.Tool, m.Role = transport.FormatFor(false), paths.Version, "data"
	if e.isRoot {
		m.Role = "root"
	}
	m.Disk = describeDisk(e.index, e.disk.SizeBytes, layout)
	m.Content, m.Holes = "blocks", "zero"
	if err != nil {
		m.Disk.Style, m.Disk.ID, m.Disk.Partitions = "unknown", "", nil
		return e.asBlocks(ctx, err.Error())
	}
	e.unmapped = e.session.Mark()
	if e.part, err = e.disk.Attach(ctx, root, true); err != nil {
		return err
	}
	found, err := filesystem.Probe(ctx, e.part.Device)
	if err != nil { // more than one thing is on it
		return e.asBlocks(ctx, err.Error())
	}
	if found.Type == "swap" && root.Number == 0 {
		m.Content, m.Holes, m.Role = "swap", "", "swap"
		m.Filesystem = &transport.Filesystem{Type: "swap", UUID: found.UUID, Label: found.Label, SizeBytes: e.disk.SizeBytes}
		return e.refuseDump("swap")
	}
	if e.fs, err = filesystem.ParseType(found.Type); err != nil {
		e.fs = ""
		return e.asBlocks(ctx, "it holds "+found.String())
	}
	claim, err := filesystem.ReadClaim(e.disk.File(), root.Offset(), e.fs)
	if err != nil {
		return err
	}
	if claim.Devices > 1 {
		return e.asBlocks(ctx, fmt.Sprintf("its %s is on %d disks", e.fs, claim.Devices))
	}
	m.Filesystem = &transport.Filesystem{
		Type: found.Type, UUID: found.UUID, Label: found.Label, Partition: root.Number, SizeBytes: root.SizeBytes(),
	}
	if e.fs == filesystem.XFS || e.fs == filesystem.Btrfs {
		return e.refuseDump(found.Type)
	}
	return nil
}

// asBlocks exports the disk as it is, and says why.
func (e *export) asBlocks(ctx context.Context, why string) error {
	if err := e.refuseDump("no filesystem that we know: " + why); err != nil {
		return err
	}
	tell.Info(ctx, "disk %s is exported block by block: %s", e.disk.Path, why)
	e.fs, e.manifest.Content, e.manifest.Holes = "", "blocks", "zero"
	return nil
}

func (e *export) refuseDump(what string) error {
	if e.format != dumpFormat {
		return nil
	}
	return fmt.Errorf("EXPORT_FORMAT=dump is for ext2, ext3 and ext4, and disk %s holds %s: set EXPORT_FORMAT=tar", e.disk.Path, what)
}

// recover mounts the filesystem read-only, from a device that can't be written
// to. A journal that has to be replayed for it is replayed in place, as the next
// boot would; where the disk can't be written to either, its blocks are what
// there is to export.
func (e *export) recover(ctx context.Context) error {
	if e.fs == "" {
		return nil
	}
	clean, why, err := filesystem.IsClean(e.part.Device, e.fs)
	if err != nil {
		return err
	}
	if clean {
		e.tree, err = e.part.Mount(ctx, e.fs)
		if err == nil || !errors.Is(err, filesystem.ErrNeedsReplay) {
			return err
		}
		why = "its log has to be replayed"
	}
	if err := e.session.UndoTo(ctx, e.unmapped); err != nil {
		return err
	}
	if e.disk.ReadOnly {
		return e.asBlocks(ctx, why+", and the disk is read-only")
	}
	tell.Info(ctx, "disk %s was not unmounted by its guest (%s): it is recovered in place, as the next boot would", e.disk.Path, why)
	if err := e.replay(ctx); err != nil {
		return fmt.Errorf("disk %s can't be recovered: %w", e.disk.Path, err)
	}
	if e.part, err = e.disk.Attach(ctx, e.root, true); err != nil {
		return err
	}
	e.tree, err = e.part.Mount(ctx, e.fs)
	return err
}

// replay does to the filesystem what the next boot would.
func (e *export) replay(ctx context.Context) error {
	part, err := e.disk.Attach(ctx, e.root, false)
	if err == nil {
		err = filesystem.Repair(ctx, part.Device, e.fs)
	}
	if err == nil && (e.fs == filesystem.XFS || e.fs == filesystem.Btrfs) {
		_, err = part.Mount(ctx, e.fs) // their kernel code replays it
	}
	return cmp.Or(err, e.session.UndoTo(ctx, e.unmapped), e.disk.Sync())
}

// describe fills in what the manifest says of the filesystem's content and of
// how the guest boots.
func (e *export) describe(ctx context.Context) error {
	m := &e.manifest
	var err error
	if m.BootLoader, _, err = boot.Loader(e.disk.File(), e.layout); err != nil {
		return fmt.Errorf("disk %s: %w", e.disk.Path, err)
	}
	if e.fs == "" {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(e.tree.Dir, &st); err != nil {
		return err
	}
	m.Filesystem.UsedBytes = int64(st.Blocks-st.Bfree) * st.Bsize
	m.Filesystem.Inodes = int64(st.Files - st.Ffree)
	err = e.tree.Edit(ctx, func(root *guest.Root) error {
		m.Filesystem.Suite = guest.ReadSuite(root)
		return nil
	})
	if err == nil && m.Filesystem.Suite == "" {
		m.Filesystem.Suite, err = filesystem.MatchSuite(ctx, e.part.Device, e.fs)
	}
	if err != nil {
		return err
	}
	if e.fs == filesystem.Btrfs {
		n, err := filesystem.Subvolumes(ctx, e.part.Device)
		if err != nil {
			return err
		}
		if n > 0 {
			return e.asBlocks(ctx, fmt.Sprintf("its btrfs has %d subvolumes", n))
		}
	}
	m.Content, m.Holes = "files", ""
	if e.wantsImage() {
		err = e.asImage(ctx)
		if err == nil || context.Cause(ctx) != nil {
			return err
		}
		if e.format != "auto" {
			return fmt.Errorf("EXPORT_FORMAT=image: disk %s: %w: set EXPORT_FORMAT=tar, or have the guest check it", e.disk.Path, err)
		}
		tell.Warn(ctx, "disk %s is exported as files: %v", e.disk.Path, err)
	}
	return e.seeThatFilesFit(ctx)
}

// seeThatFilesFit looks for what its users have made that no tar can hold, before
// the backup begins: it then goes as blocks.
func (e *export) seeThatFilesFit(ctx context.Context) error {
	found, err := transport.Survey(ctx, e.tree.Dir)
	if err != nil {
		return err
	}
	e.acls, e.firstACL = found.ACLs, found.FirstACL
	switch {
	case found.Unfit == "" || e.format == dumpFormat:
		return nil
	case e.format == "auto" && !e.fs.IsExt():
		tell.Info(ctx, "disk %s is exported block by block: no tar can hold its file %s", e.disk.Path, found.Unfit)
		return e.asImage(ctx)
	}
	remedy := "set EXPORT_FORMAT=image"
	if e.format == "auto" { // which has just found that it can't be one
		remedy = "have the guest check its filesystem"
	}
	return fmt.Errorf("disk %s: no tar can hold its file %s: remove that, or %s", e.disk.Path, found.Unfit, remedy)
}

// wantsImage reports whether the filesystem is to be exported as its used blocks.
// Which those are of an xfs or btrfs, and what of them is needed, is less certain.
func (e *export) wantsImage() bool {
	switch e.format {
	case "image":
		return true
	case "auto":
		return e.fs.IsExt()
	}
	return false
}
