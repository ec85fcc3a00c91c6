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
// beside are the instance's other disks, as Beside saw them. begins is called before the disk is
// written to.
func Import(ctx context.Context, s *session.Session, req *osapi.Request, set *settings.Settings, beside []transport.Sibling, in *os.File, begins func()) error {
	var disk *target
	var stream *transport.Stream
	err := s.Do(ctx, []session.Step{
		{Name: "claim the disk", Detail: req.BlockDev, Run: func(context.Context) (err error) {
			disk, err = claimTarget(s, req.BlockDev, guestdisk.Fsck(set.GuestFsck), begins)
			return err
		}},
		{Name: "identify the backup", Detail: "from stdin", Run: func(ctx context.Context) (err error) {
			stream, err = look(ctx, in)
			return err
		}},
	})
	if err != nil {
		return err
	}
	r := newRestore(s, req, set, disk, stream)
	for _, d := range beside {
		if d.Type == "swap" {
			r.swapIDs = append(r.swapIDs, d.UUID)
		}
	}
	var left []string
	if err := s.Do(ctx, r.steps(func(what string) { left = append(left, what) })); err != nil {
		return err
	}
	for _, what := range left { // at the end, since Ganeti shows the last lines
		tell.Warn(ctx, "%s", what)
	}
	return nil
}

// PlanImport returns the recipe for a backup, of which it reads the beginning. Nothing is
// claimed.
func PlanImport(ctx context.Context, req *osapi.Request, set *settings.Settings, in *os.File) ([]session.Step, error) {
	path := req.BlockDev
	sizeBytes, _, err := blockdev.Size(path)
	if err != nil {
		return nil, err
	}
	stream, err := look(ctx, in)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	disk := &target{Disk: &guestdisk.Disk{Disk: &blockdev.Disk{Path: path, SizeBytes: sizeBytes}}}
	steps := newRestore(&session.Session{}, req, set, disk, stream).steps(func(string) {})
	return append([]session.Step{{Name: "claim the disk", Detail: path, Known: diskAsItIs(path)}}, steps...), nil
}

// restore is what the steps of one run have to do with: a claimed disk and a backup of
// which the beginning was read. No step writes to it.
type restore struct {
	session *session.Session
	req     *osapi.Request
	set     *settings.Settings
	disk    *target
	swapIDs []string // the UUIDs of the instance's other disks that are swap
	stream  *transport.Stream
	ids     *newIDs
}

func newRestore(s *session.Session, req *osapi.Request, set *settings.Settings, disk *target, stream *transport.Stream) *restore {
	return &restore{session: s, req: req, set: set, disk: disk, stream: stream, ids: newIDsFor(req, set.ImportUUID, stream.Manifest)}
}

// place is where on the disk the backup's filesystem comes to be, and which it is.
type place struct {
	layout partition.Layout
	root   partition.Partition // in it, with the filesystem
	spec   filesystem.Spec
	// described says that the backup, or the image in it, says which filesystem it has:
	// neither a tar nor a dump does.
	described bool
}

// newFS is the new disk's filesystem.
type newFS struct {
	*guestdisk.Tree
	uuid string // that it has now
}

// steps is the recipe for what the stream holds; advise is told what is left to do for
// the admin.
func (r *restore) steps(advise func(string)) []session.Step {
	m := r.stream.Manifest
	isImage := m.Content == "blocks"
	switch {
	case m.Content == "swap":
		return r.swapSteps()
	case isImage && !r.shrinks() || r.stream.Kind == transport.Raw:
		return r.blocksSteps()
	}
	return r.filesSteps(isImage, advise)
}

// filesSteps makes a new filesystem and puts the backup's files into it: those of a larger
// disk's image by way of a scratch file.
func (r *restore) filesSteps(isImage bool, advise func(string)) []session.Step {
	disk := r.disk.Path
	at, unfit := r.planFiles()
	var (
		scratch *os.File
		image   *spool // nil is none
		part    *guestdisk.Part
		fs      newFS
		known   names
	)
	isSpooled := func(context.Context) (bool, string) { return isImage, "not an image of a larger disk" }
	needsESP := func(context.Context) (bool, string) { return r.needsESP(at) }
	needsBoot := func(ctx context.Context) (bool, string) { return r.needsBoot(ctx, at, fs) }
	hasTable := func(context.Context) (bool, string) {
		return at.layout.Style != partition.StyleNone, "the filesystem takes the whole disk"
	}
	return []session.Step{
		r.fitsStep(unfit),
		{Name: "make a scratch file", Detail: r.set.CacheDir, When: isSpooled, Run: func(context.Context) (err error) {
			scratch, err = r.openScratch()
			return err
		}},
		{Name: "write the scratch image", Detail: describe(r.stream.Manifest), When: isSpooled, Run: func(ctx context.Context) (err error) {
			image, err = r.fillScratch(ctx, scratch)
			return err
		}},
		{Name: "wipe the disk", Detail: disk, Run: func(ctx context.Context) (err error) {
			part, err = r.clear(ctx, at)
			return err
		}},
		{Name: "make the filesystem", Detail: disk, Run: func(ctx context.Context) (err error) {
			fs, err = r.makeFilesystem(ctx, part, at.spec)
			return err
		}},
		{Name: "unpack the files", Detail: string(r.stream.Kind), Run: func(ctx context.Context) error {
			return r.fill(ctx, at, fs.Dir, image)
		}},
		{Name: "update fstab and UUIDs", Detail: "in the guest", Run: func(ctx context.Context) (err error) {
			at, known, err = r.adjustGuest(ctx, at, fs)
			return err
		}},
		{Name: "make the EFI system partition", Detail: "FAT32", When: needsESP, Run: func(ctx context.Context) error {
			return r.makeESP(ctx, at, fs, known, advise)
		}},
		{Name: "install the boot loader", Detail: disk, When: needsBoot, Run: func(ctx context.Context) error {
			return r.makeBoot(ctx, at, fs, known, advise)
		}},
		{Name: "unmount and sync", Detail: disk, Run: r.disk.detach},
		{Name: "set the filesystem's UUID", Detail: disk, Run: func(ctx context.Context) error {
			return r.adopt(ctx, at, fs.uuid, known)
		}},
		{Name: "write the partition table", Detail: disk, When: hasTable, Run: func(ctx context.Context) error {
			return r.disk.publish(ctx, at.layout)
		}},
		{Name: "commit", Detail: disk, Run: r.disk.commit},
	}
}

// blocksSteps writes the backup's blocks, and fits what they hold to the disk.
func (r *restore) blocksSteps() []session.Step {
	disk := r.disk.Path
	at, unfit := r.planBlocks()
	var rawBytes int64 // of a raw image
	wantsNewIDs := func(context.Context) (bool, string) {
		return session.NeededIf(r.ids != nil && at.described, "IMPORT_UUID=keep, or a disk of unknown content")
	}
	return []session.Step{
		r.fitsStep(unfit),
		{Name: "write the blocks", Detail: disk, Run: func(ctx context.Context) (err error) {
			rawBytes, err = r.writeBlocks(ctx, at.layout.Partitions)
			return err
		}},
		{Name: "fit table and filesystem to the disk", Detail: disk, Run: func(ctx context.Context) (err error) {
			if r.stream.Kind == transport.Raw {
				at, err = r.fitRaw(ctx, rawBytes)
			} else if at.described {
				at, err = r.fitBlocks(ctx, at)
			} else if r.disk.SizeBytes > r.stream.Manifest.Disk.SizeBytes {
				_, err = r.fitSeveral(ctx)
			}
			return err
		}},
		{Name: "set new UUIDs", Detail: disk, When: wantsNewIDs, Run: func(ctx context.Context) error {
			return r.renewBlocks(ctx, at)
		}},
		{Name: "commit", Detail: disk, Run: r.disk.commit},
	}
}

// fitsStep tells what was decided before the first step, by the sizes alone: plans and runs
// refuse the same.
func (r *restore) fitsStep(unfit error) session.Step {
	return session.Step{
		Name: "check that it fits", Detail: r.disk.Path,
		Known: func(context.Context) (string, error) { return "", unfit },
		Run:   func(context.Context) error { return unfit },
	}
}

func (r *restore) swapSteps() []session.Step {
	disk := r.disk.Path
	return []session.Step{
		{Name: "verify the backup", Detail: describe(r.stream.Manifest), Run: r.walkSwap},
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
		what += ", compressed with " + s.Compression
	}
	tell.Info(ctx, "the backup is: %s", what)
	return s, nil
}

// shrinks reports whether an image of a filesystem that we know is larger than
// the disk: it then goes through its files.
func (r *restore) shrinks() bool {
	m := r.stream.Manifest
	return m.Filesystem != nil && m.Disk.SizeBytes > r.disk.SizeBytes
}

func (r *restore) walkSwap(context.Context) error {
	return cmp.Or(r.stream.Walk(transport.Sink{}), r.stream.Close())
}

func (r *restore) makeSwapDisk(ctx context.Context) error {
	if _, err := r.disk.touch(ctx, nil); err != nil {
		return err
	}
	l, err := blockdev.Attach(ctx, r.disk.File(), false)
	if err != nil {
		return err
	}
	r.session.Over(l.Path, r.disk.Path)
	fs := r.stream.Manifest.Filesystem
	_, err = filesystem.MakeSwapWith(ctx, l.Path, r.ids.of(fs.UUID), fs.Label) // udev is kept away until then
	l.Unlock()
	return errors.Join(err, l.Sync(), l.Detach(context.WithoutCancel(ctx)))
}

// planFiles lays out the disk and sees that the files fit on it, where the
// backup says how large they are.
func (r *restore) planFiles() (at place, err error) {
	m := r.stream.Manifest
	fs := m.Filesystem
	if r.stream.Kind == transport.Dump {
		if _, err := command.Look("restore"); err != nil {
			return at, fmt.Errorf("the backup is a stream of dump: %w: install the package dump", err)
		}
	}
	if fs == nil { // a tar or a dump: as the settings say
		t := filesystem.Type(r.set.Filesystem)
		at.spec = filesystem.Spec{Type: t, Suite: filesystem.OldestSuite(t)}
		if at.layout, err = r.settingsLayout(); err != nil {
			return at, fmt.Errorf("disk %s: %w", r.disk.Path, err)
		}
		at.root, _ = at.layout.RootPartition()
		return at, filesystem.Tools(t)
	}
	if at, err = r.planLayout(m.Disk, *fs); err != nil {
		return at, err
	}
	spec := &at.spec
	spec.Label, spec.MinInodes, spec.Suite = fs.Label, fs.Inodes+fs.Inodes/16, cmp.Or(fs.Suite, filesystem.OldestSuite(spec.Type))
	need, room := filesystem.MinDiskBytes(spec.Type, spec.Suite, fs.UsedBytes, fs.Inodes), at.root.SizeBytes()
	if need > room && r.disk.SizeBytes < m.Disk.SizeBytes {
		return at, fmt.Errorf("disk %s is too small: the backup's files use %d MiB, for which its %s needs %d MiB, and the disk has %d MiB",
			r.disk.Path, fs.UsedBytes>>20, fs.Type, (need+r.disk.SizeBytes-room+1<<20-1)>>20, r.disk.SizeBytes>>20)
	}
	return at, filesystem.Check(spec.Type, spec.Suite)
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

// planLayout fits a layout that is known to the disk, for a filesystem that is.
func (r *restore) planLayout(from transport.Disk, fs transport.Filesystem) (place, error) {
	at := place{described: true, spec: filesystem.Spec{Type: filesystem.Type(fs.Type), UUID: r.ids.of(fs.UUID)}}
	var err error
	if at.layout, err = layoutOf(from).Fit(r.disk.SizeBytes); err != nil {
		return at, fmt.Errorf("disk %s: %w", r.disk.Path, err)
	}
	if at.layout, err = r.ids.ofLayout(at.layout); err != nil {
		return at, err
	}
	if at.root, err = at.layout.RootPartition(); err != nil {
		return at, fmt.Errorf("the backup's manifest describes a disk layout that isn't one of ours: %w", err)
	}
	return at, nil
}
