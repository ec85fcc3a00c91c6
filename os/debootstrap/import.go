package debootstrap

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"slices"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/transport"
)

// Import reads a backup of one disk from in, and makes the disk of it: of a
// stream of ours, a tar, a stream of dump(8), or a raw image, as it is or
// compressed by gzip, zstd, xz, bzip2 or lz4. What is none of these leaves the disk as
// it was; after any later failure it holds no valid signature of a filesystem or table.
func Import(ctx context.Context, s *session.Session, j *Job, in *os.File) error {
	j.begin(s)
	r := &restore{Job: j, in: in}
	err := s.Do(ctx, []session.Step{
		{Name: "claim the disk", Detail: j.Request.BlockDev, Run: r.claimTarget},
		{Name: "look at the backup", Detail: "from stdin", Run: r.look},
	})
	if err == nil {
		err = s.Do(ctx, r.steps())
	}
	if err == nil && r.advice != "" {
		warn(ctx, "%s", r.advice) // the last line, since Ganeti shows the last ones
	}
	return err
}

// restore is one run of the verb.
type restore struct {
	*Job
	in       *os.File
	stream   *transport.Stream
	manifest transport.Manifest // of a stream of ours

	touched, done bool // the disk was written to; it is whole
	wasEmpty      bool // before it was touched
	unmapped      int  // the undo stack's height before the disk is attached

	layout   partition.Layout
	root     partition.Partition
	spec     filesystem.Spec
	rawBytes int64  // a raw image's length
	spool    *spool // an image that is to become smaller
	uuid     string // what the filesystem is to have in the end
	label    string // the same, when the guest's files name it by that
	// renamed says that the layout was given the ids that the guest's files name.
	renamed bool
	swapIDs []string          // the UUIDs of the instance's other disks that are swap
	ids     map[string]string // what each old UUID becomes, under IMPORT_UUID=new
	// What a tar's or dump's own fstab says of the EFI system partition.
	espSerial  uint32
	bootsByESP bool
	advice     string // what is left to do for the admin
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
	disk := r.diskName()
	return []session.Step{
		{Name: "see that it fits", Detail: disk, Run: r.planFiles},
		{Name: "make room for the image beside the disk", Detail: r.Settings.CacheDir, When: r.isSpooled, Run: r.openSpool},
		{Name: "unpack the image there", Detail: describe(r.manifest), When: r.isSpooled, Run: r.fillSpool},
		{Name: "partition the disk", Detail: disk, Run: r.makeLayout},
		{Name: "make the filesystem", Detail: disk, Run: r.makeFilesystem},
		{Name: "fill it", Detail: string(r.stream.Kind), Run: r.fill},
		{Name: "make the guest's own files true", Detail: "fstab", Run: r.adjustGuest},
		{Name: "make the EFI system partition", Detail: "FAT32", When: r.needsESP, Run: r.makeESP},
		{Name: "make it boot", Detail: disk, When: r.needsBoot, Run: r.makeBoot},
		{Name: "unmount and sync", Detail: disk, Run: r.unmount},
		{Name: "give the filesystem its UUID", Detail: disk, Run: r.adopt},
		{Name: "let go of the disk", Detail: disk, Run: r.letGo},
	}
}

// blocksSteps writes the backup's blocks, and fits what they hold to the disk.
func (r *restore) blocksSteps() []session.Step {
	disk := r.diskName()
	return []session.Step{
		{Name: "see that it fits", Detail: disk, Run: r.planBlocks},
		{Name: "write the blocks", Detail: disk, Run: r.writeBlocks},
		{Name: "fit table and filesystem to the disk", Detail: disk, Run: r.fitBlocks},
		{Name: "give it new UUIDs", Detail: disk, When: r.wantsNewIDs, Run: r.renewBlocks},
		{Name: "let go of the disk", Detail: disk, Run: r.letGo},
	}
}

func (r *restore) swapSteps() []session.Step {
	disk := r.diskName()
	return []session.Step{
		{Name: "read the backup to its end", Detail: describe(r.manifest), Run: r.walkSwap},
		{Name: "make swap", Detail: disk, Run: r.makeSwapDisk},
		{Name: "let go of the disk", Detail: disk, Run: r.letGo},
	}
}

// claimTarget opens the disk. What an import that failed has left on it is
// erased before it is let go of.
func (r *restore) claimTarget(ctx context.Context) (err error) {
	if r.disk, err = r.claim(r.Request.BlockDev); err != nil {
		return err
	}
	r.session.Defer("erase the unfinished import", r.eraseUnfinished)
	r.unmapped = r.session.Mark()
	r.findSwaps(ctx)
	return nil
}

// eraseUnfinished leaves no signature on a disk whose import has failed, where its
// partitions begin neither.
func (r *restore) eraseUnfinished(ctx context.Context) error {
	if !r.touched || r.done {
		return nil
	}
	info(ctx, "erasing the signatures of the unfinished import from disk %s", r.disk.Path)
	partitions := r.layout.Partitions
	if l, err := partition.Read(r.disk.File(), r.disk.SizeBytes); err == nil {
		partitions = append(slices.Clip(partitions), l.Partitions...)
	}
	for _, p := range partitions {
		at := p.StartSector * partition.SectorSize
		if n := min(headBytes, r.disk.SizeBytes-at); n > 0 {
			if err := blockdev.ZeroRange(r.disk.File(), at, n); err != nil {
				return err
			}
		}
	}
	return filesystem.Wipe(ctx, r.disk.Node())
}

// look reads the stream's beginning.
func (r *restore) look(ctx context.Context) (err error) {
	transport.Widen(r.in)
	if r.stream, err = transport.Open(ctx, r.in); err != nil {
		return err
	}
	what := string(r.stream.Kind)
	if r.stream.Kind == transport.Ours {
		r.manifest = r.stream.Manifest
		what = describe(r.manifest)
	}
	if r.stream.Compression != "" {
		what += ", compressed by " + r.stream.Compression
	}
	info(ctx, "the backup is: %s", what)
	r.renewIDs()
	return nil
}

// shrinks reports whether an image of a filesystem that we know is larger than
// the disk: it then goes through its files.
func (r *restore) shrinks() bool {
	return r.manifest.Filesystem != nil && r.manifest.Disk.SizeBytes > r.disk.SizeBytes
}

// touch marks the disk as written to. Before it, a failure leaves the disk as
// it was. Every old signature is erased, of which a new file has none.
func (r *restore) touch(ctx context.Context) error {
	r.touched, r.wasEmpty = true, r.disk.IsEmpty()
	if r.wasEmpty {
		return nil
	}
	r.disk.Lock(true)
	defer r.disk.Lock(false)
	return filesystem.Wipe(ctx, r.disk.Node())
}

// unmount releases the filesystem and the devices; what could not be written
// out fails here.
func (r *restore) unmount(ctx context.Context) error {
	if r.spool != nil { // before a copy of it gets the same UUID
		r.unmapped = r.spool.mark
	}
	return r.undoTo(ctx, r.unmapped)
}

// letGo frees the disk, which is whole now.
func (r *restore) letGo(ctx context.Context) error {
	if err := firstError(r.undoTo(ctx, r.unmapped), r.disk.Sync()); err != nil {
		return err
	}
	r.done = true
	return r.Job.letGo(ctx)
}

func (r *restore) walkSwap(context.Context) error {
	return firstError(r.stream.Walk(transport.Sink{}), r.stream.Close())
}

func (r *restore) makeSwapDisk(ctx context.Context) error {
	if err := r.touch(ctx); err != nil {
		return err
	}
	l, err := r.attach(ctx, r.disk.File(), false)
	if err != nil {
		return err
	}
	fs := r.manifest.Filesystem
	if _, err = filesystem.MakeSwapWith(ctx, l.Path, r.newID(fs.UUID), fs.Label); err != nil {
		return err
	}
	l.Unlock()
	return nil
}

// planFiles lays out the disk and sees that the files fit on it, where the
// backup says how large they are.
func (r *restore) planFiles(context.Context) (err error) {
	fs := r.manifest.Filesystem
	if fs == nil { // a tar or a dump: as the settings say
		r.spec = filesystem.Spec{Type: r.fstype(), Suite: filesystem.OldestSuite(r.fstype())}
		if r.layout, err = r.settingsLayout(); err != nil {
			return fmt.Errorf("disk %s: %w", r.disk.Path, err)
		}
		r.root, _, _ = r.layout.Ours()
		return filesystem.Tools(r.spec.Type)
	}
	r.spec = filesystem.Spec{Type: filesystem.Type(fs.Type), Suite: fs.Suite, Label: fs.Label, MinInodes: fs.Inodes + fs.Inodes/16}
	if r.spec.Suite == "" {
		r.spec.Suite = filesystem.OldestSuite(r.spec.Type)
	}
	r.uuid = r.newID(fs.UUID)
	r.spec.UUID = r.uuid
	if err := r.planLayout(); err != nil {
		return err
	}
	need, room := filesystem.MinDiskBytes(r.spec.Type, r.spec.Suite, fs.UsedBytes, fs.Inodes), r.root.Sectors*partition.SectorSize
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
	if r.Request.IODisk != 0 {
		sizeBytes = max(sizeBytes, partition.MinDiskBytes)
	}
	l, err := partition.PlanBoot(r.style(), sizeBytes, r.Settings.PartitionAlignment, r.bootPartitions(), rand.Reader)
	if err != nil || sizeBytes == r.disk.SizeBytes {
		return l, err
	}
	return l.Fit(r.disk.SizeBytes)
}

// planLayout fits the backup's layout to the disk.
func (r *restore) planLayout() (err error) {
	if r.layout, err = layoutOf(r.manifest.Disk).Fit(r.disk.SizeBytes); err != nil {
		return fmt.Errorf("disk %s: %w", r.disk.Path, err)
	}
	if r.ids != nil {
		if r.layout, err = r.renewLayout(r.layout); err != nil {
			return err
		}
	}
	root, ok, why := r.layout.Ours()
	if !ok {
		return fmt.Errorf("the backup's manifest describes a disk that is not a layout of ours: %s", why)
	}
	r.root = root
	return nil
}
