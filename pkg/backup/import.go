package backup

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/tell"
	"instance-debootstrap/pkg/transport"
)

// Import reads a backup of one disk from in, and makes the disk of it: of a
// stream of ours, a tar, a stream of dump(8), or a raw image, as it is or
// compressed by gzip, zstd, xz, bzip2 or lz4. What is none of these leaves the disk as
// it was; after any later failure it holds no valid signature of a filesystem or table.
func Import(ctx context.Context, s *session.Session, req *osapi.Request, set *settings.Settings, in *os.File) error {
	r := &restore{session: s, req: req, set: set, ids: newIDsFor(req, set.ImportUUID)}
	err := s.Do(ctx, []session.Step{
		{Name: "claim the disk", Detail: req.BlockDev, Run: func(ctx context.Context) (err error) {
			r.disk, err = claimTarget(s, req.BlockDev, guestdisk.Fsck(set.GuestFsck))
			r.swapIDs = swapsBeside(ctx, req)
			return err
		}},
		{Name: "identify the backup", Detail: "from stdin", Run: func(ctx context.Context) (err error) {
			r.stream, err = look(ctx, in)
			return err
		}},
	})
	if err == nil {
		r.manifest = r.stream.Manifest
		r.ids.learn(r.manifest)
		err = s.Do(ctx, r.steps())
	}
	if err == nil && r.advice != "" {
		tell.Warn(ctx, "%s", r.advice) // the last line, since Ganeti shows the last ones
	}
	return err
}

// PlanImport returns the recipe for a backup, of which it reads the beginning. Nothing is
// claimed.
func PlanImport(ctx context.Context, req *osapi.Request, set *settings.Settings, in *os.File) ([]session.Step, error) {
	path := req.BlockDev
	sizeBytes, _, err := blockdev.Size(path)
	if err != nil {
		return nil, err
	}
	r := &restore{session: &session.Session{}, req: req, set: set, ids: newIDsFor(req, set.ImportUUID)}
	r.disk = &target{Disk: &guestdisk.Disk{Disk: &blockdev.Disk{Path: path, SizeBytes: sizeBytes}}}
	if r.stream, err = look(ctx, in); err != nil {
		return nil, err
	}
	defer r.stream.Close()
	r.manifest = r.stream.Manifest
	r.ids.learn(r.manifest)
	steps := r.steps()
	for i := range steps {
		if steps[i].Name == fitsStep { // which decides by the sizes alone
			fits := steps[i].Run
			steps[i].Known = func(ctx context.Context) (string, error) { return "", fits(ctx) }
		}
	}
	return append([]session.Step{{Name: "claim the disk", Detail: path, Known: diskAsItIs(path)}}, steps...), nil
}

// fitsStep is the first of the steps that an import of files or blocks has.
const fitsStep = "check that it fits"

// restore is one run of the verb.
type restore struct {
	session  *session.Session
	req      *osapi.Request
	set      *settings.Settings
	ids      *newIDs
	stream   *transport.Stream
	manifest transport.Manifest // of a stream of ours
	swapIDs  []string           // the UUIDs of the instance's other disks that are swap

	disk     *target
	root     partition.Partition // in its layout, with the filesystem
	spec     filesystem.Spec
	part     *guestdisk.Part // with the filesystem
	tree     *guestdisk.Tree // it, mounted
	rootUUID string          // its UUID for now
	names    names           // by which the guest knows its disk
	spool    *spool          // an image that is to become smaller
	advice   string          // what is left to do for the admin
}

// steps is the recipe for what the stream holds.
func (r *restore) steps() []session.Step {
	switch {
	case r.manifest.Content == "swap":
		return r.swapSteps()
	case r.manifest.Content == "blocks" && r.shrinks():
		r.spool = &spool{}
		return r.filesSteps()
	case r.manifest.Content == "blocks" || r.stream.Kind == transport.Raw:
		return r.blocksSteps()
	}
	return r.filesSteps()
}

// filesSteps makes a new filesystem and puts the backup's files into it.
func (r *restore) filesSteps() []session.Step {
	disk := r.disk.Path
	return []session.Step{
		{Name: fitsStep, Detail: disk, Run: r.planFiles},
		{Name: "make a scratch file", Detail: r.set.CacheDir, When: r.isSpooled, Run: r.openSpool},
		{Name: "write the scratch image", Detail: describe(r.manifest), When: r.isSpooled, Run: r.fillSpool},
		{Name: "wipe the disk", Detail: disk, Run: r.clear},
		{Name: "make the filesystem", Detail: disk, Run: r.makeFilesystem},
		{Name: "unpack the files", Detail: string(r.stream.Kind), Run: r.fill},
		{Name: "update fstab and UUIDs", Detail: "in the guest", Run: r.adjustGuest},
		{Name: "make the EFI system partition", Detail: "FAT32", When: r.needsESP, Run: r.makeESP},
		{Name: "install the boot loader", Detail: disk, When: r.needsBoot, Run: r.makeBoot},
		{Name: "unmount and sync", Detail: disk, Run: r.unmount},
		{Name: "set the filesystem's UUID", Detail: disk, Run: r.adopt},
		{Name: "write the partition table", Detail: disk, When: r.hasTable, Run: r.writeTable},
		{Name: "commit", Detail: disk, Run: r.disk.commit},
	}
}

// blocksSteps writes the backup's blocks, and fits what they hold to the disk.
func (r *restore) blocksSteps() []session.Step {
	disk := r.disk.Path
	var rawBytes int64 // of a raw image
	return []session.Step{
		{Name: fitsStep, Detail: disk, Run: r.planBlocks},
		{Name: "write the blocks", Detail: disk, Run: func(ctx context.Context) (err error) {
			rawBytes, err = r.writeBlocks(ctx)
			return err
		}},
		{Name: "fit table and filesystem to the disk", Detail: disk, Run: func(ctx context.Context) error { return r.fitBlocks(ctx, rawBytes) }},
		{Name: "set new UUIDs", Detail: disk, When: r.wantsNewIDs, Run: r.renewBlocks},
		{Name: "commit", Detail: disk, Run: r.disk.commit},
	}
}

func (r *restore) swapSteps() []session.Step {
	disk := r.disk.Path
	return []session.Step{
		{Name: "verify the backup", Detail: describe(r.manifest), Run: r.walkSwap},
		{Name: "make swap", Detail: disk, Run: r.makeSwapDisk},
		{Name: "commit", Detail: disk, Run: r.disk.commit},
	}
}

// look reads the stream's beginning.
func look(ctx context.Context, in *os.File) (*transport.Stream, error) {
	transport.Widen(in)
	s, err := transport.Open(ctx, in)
	if err != nil {
		return nil, err
	}
	what := string(s.Kind)
	if s.Kind == transport.Ours {
		what = describe(s.Manifest)
	}
	if s.Compression != "" {
		what += ", compressed by " + s.Compression
	}
	tell.Info(ctx, "the backup is: %s", what)
	return s, nil
}

// shrinks reports whether an image of a filesystem that we know is larger than
// the disk: it then goes through its files.
func (r *restore) shrinks() bool {
	return r.manifest.Filesystem != nil && r.manifest.Disk.SizeBytes > r.disk.SizeBytes
}

func (r *restore) walkSwap(context.Context) error {
	return cmp.Or(r.stream.Walk(transport.Sink{}), r.stream.Close())
}

func (r *restore) makeSwapDisk(ctx context.Context) error {
	if err := r.disk.touch(ctx); err != nil {
		return err
	}
	l, err := blockdev.Attach(ctx, r.disk.File(), false)
	if err != nil {
		return err
	}
	fs := r.manifest.Filesystem
	_, err = filesystem.MakeSwapWith(ctx, l.Path, r.ids.of(fs.UUID), fs.Label) // udev is kept away until then
	l.Unlock()
	return errors.Join(err, l.Sync(), l.Detach(context.WithoutCancel(ctx)))
}

// planFiles lays out the disk and sees that the files fit on it, where the
// backup says how large they are.
func (r *restore) planFiles(context.Context) (err error) {
	fs := r.manifest.Filesystem
	if r.stream.Kind == transport.Dump {
		if _, err := command.Look("restore"); err != nil {
			return fmt.Errorf("the backup is a stream of dump: %w: install the package dump", err)
		}
	}
	if fs == nil { // a tar or a dump: as the settings say
		r.spec = filesystem.Spec{Type: filesystem.Type(r.set.Filesystem), Suite: filesystem.OldestSuite(filesystem.Type(r.set.Filesystem))}
		if r.disk.layout, err = r.settingsLayout(); err != nil {
			return fmt.Errorf("disk %s: %w", r.disk.Path, err)
		}
		r.root, _ = r.disk.layout.RootPartition()
		return filesystem.Tools(r.spec.Type)
	}
	r.spec = filesystem.Spec{Type: filesystem.Type(fs.Type), Suite: fs.Suite, Label: fs.Label, MinInodes: fs.Inodes + fs.Inodes/16}
	if r.spec.Suite == "" {
		r.spec.Suite = filesystem.OldestSuite(r.spec.Type)
	}
	r.names.uuid = r.ids.of(fs.UUID)
	r.spec.UUID = r.names.uuid
	if err := r.planLayout(); err != nil {
		return err
	}
	need, room := filesystem.MinDiskBytes(r.spec.Type, r.spec.Suite, fs.UsedBytes, fs.Inodes), r.root.SizeBytes()
	if need > room && r.disk.SizeBytes < r.manifest.Disk.SizeBytes {
		return fmt.Errorf("disk %s is too small: the backup's files use %d MiB, for which its %s needs %d MiB, and the disk has %d MiB",
			r.disk.Path, fs.UsedBytes>>20, fs.Type, (need+r.disk.SizeBytes-room+1<<20-1)>>20, r.disk.SizeBytes>>20)
	}
	return filesystem.Check(r.spec.Type, r.spec.Suite)
}

// settingsLayout lays out the disk as the settings say. Only a root disk has to
// have room for a system.
func (r *restore) settingsLayout() (partition.Layout, error) {
	sizeBytes := r.disk.SizeBytes
	if !r.req.IsRoot() {
		sizeBytes = max(sizeBytes, partition.MinDiskBytes)
	}
	l, err := partition.PlanBoot(partition.Style(r.set.PartitionStyle), sizeBytes, r.set.PartitionAlignment, r.bootPartitions(), rand.Reader)
	if err != nil || sizeBytes == r.disk.SizeBytes {
		return l, err
	}
	return l.Fit(r.disk.SizeBytes)
}

// planLayout fits the backup's layout to the disk.
func (r *restore) planLayout() (err error) {
	if r.disk.layout, err = layoutOf(r.manifest.Disk).Fit(r.disk.SizeBytes); err != nil {
		return fmt.Errorf("disk %s: %w", r.disk.Path, err)
	}
	if r.disk.layout, err = r.ids.ofLayout(r.disk.layout); err != nil {
		return err
	}
	if r.root, err = r.disk.layout.RootPartition(); err != nil {
		return fmt.Errorf("the backup's manifest describes a disk that is not a layout of ours: %w", err)
	}
	return nil
}

// unmount releases the filesystem and the devices; what could not be written
// out fails here.
func (r *restore) unmount(ctx context.Context) error {
	if r.spool != nil { // before a copy of it gets the same UUID
		r.disk.unmapped = r.spool.mark
	}
	return r.disk.detach(ctx)
}
