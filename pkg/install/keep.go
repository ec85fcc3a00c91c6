package install

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/kept"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/receipt"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// keepNothing is what to do about a disk of which nothing can be kept.
const keepNothing = "REINSTALL_KEEP=none installs it all the same, and keeps nothing"

// keeps tells whether files of the old guest come into the new one. What is on a disk that
// Ganeti gives an instance first may be another's.
func (o *Order) keeps(context.Context) (bool, string) {
	if len(o.Settings.ReinstallKeep) == 0 {
		return false, "REINSTALL_KEEP is not set"
	}
	return session.NeededIf(o.isReinstall(), "it isn't a reinstall")
}

func (o *Order) isReinstall() bool { return !o.Fresh && (o.Reinstall || o.Request.Reinstall) }

// checkKeep refuses what a data disk would hide, and to leave unasked what a reinstall that
// failed has kept: Ganeti forgets a parameter that was for that one.
func (o *Order) checkKeep() error {
	if o.isReinstall() && len(o.Settings.ReinstallKeep) == 0 && !o.Settings.ReinstallKeepNone {
		held, _, err := kept.Of(o.keptKey())
		if len(held) > 0 {
			return fmt.Errorf("REINSTALL_KEEP: held for this instance are %v: give REINSTALL_KEEP=%s, which puts them into the new guest, or none, which leaves them there", held[0], strings.Join(held[0].Paths, ","))
		}
		return err
	}
	for _, path := range o.Settings.ReinstallKeep {
		if err := o.keptFurther(path); err != nil {
			return err
		}
		for _, d := range o.Settings.DataDisks {
			if strings.HasPrefix(path+"/", d.Folder+"/") && o.Request.Named(d.Name) != nil {
				return fmt.Errorf("REINSTALL_KEEP: %s is on the data disk %s, which a reinstall keeps: leave it out", path, d.Name)
			}
		}
	}
	return nil
}

var uuidForm = pattern.New(`^[0-9A-Za-z-]{8,64}$`)

// keptKey names the instance, also after it was renamed; by hand, its disk.
func (o *Order) keptKey() string {
	if uuidForm().MatchString(o.Request.InstanceUUID) {
		return o.Request.InstanceUUID
	}
	name := o.Disk()
	if path, err := filepath.Abs(name); err == nil && !strings.Contains(name, ":") {
		name = path
	}
	return fmt.Sprintf("disk-%x", sha256.Sum256([]byte(name)))[:37]
}

// keptAsItIs is for a plan.
func (o *Order) keptAsItIs(ctx context.Context) (string, error) {
	whole, _, err := kept.Of(o.keptKey())
	if err != nil || len(whole) > 0 {
		return fmt.Sprintf("%d held by earlier runs", len(whole)), err
	}
	if free, what, err := filesystem.IsBlankOrSwap(ctx, o.Request.BlockDev); err == nil && free && what == "blank" {
		return "the disk is blank", nil
	}
	seen, err := guestdisk.See(ctx, o.Request.BlockDev)
	if err != nil {
		return "", nil // the first step has said it
	}
	f, err := os.Open(o.Request.BlockDev)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if isWipedRoot(seen, f) {
		return "", nil
	}
	return "", seen.MayMountRoot(keepNothing)
}

// isEmptyRoot tells of a table of ours, or a disk without one, on which no filesystem is known:
// none was made, or it is damaged.
func isEmptyRoot(seen guestdisk.Seen) bool {
	return seen.Unknown == nil && seen.Unread == nil && seen.Holds == (filesystem.Info{})
}

// isWipedRoot tells of one that a run had wiped, and had made no filesystem on.
func isWipedRoot(seen guestdisk.Seen, disk io.ReaderAt) bool {
	if !isEmptyRoot(seen) {
		return false
	}
	wiped, err := filesystem.IsWiped(disk, seen.Root.Offset())
	return err == nil && wiped
}

// bareDisk is the mark of a disk without a table and without anything known: that is what a run
// has begun that was ended when it had wiped the old one.
const bareDisk = "none"

// markOf is by what a disk is known that a run has begun: its table, or without one, its
// filesystem.
func markOf(seen guestdisk.Seen) string {
	_, err := filesystem.ParseType(seen.Holds.Type)
	switch {
	case err != nil && !isEmptyRoot(seen):
		return ""
	case seen.Layout.Style != partition.StyleNone:
		return seen.Layout.DiskID
	case isEmptyRoot(seen):
		return bareDisk
	}
	return seen.Holds.UUID
}

// begin notes with what is held by what the disk will be known. What else is held for the
// instance isn't in what is made of the disk now; a note that can't be read is told of by who
// needs it.
func (c Choice) begin(ctx context.Context, r rootDisk, held *kept.Held, image *rootImage) error {
	all, _, _ := kept.Of(c.keptKey())
	for _, other := range all {
		if held == nil || other.ID != held.ID {
			if err := other.Begin(); err != nil {
				return err
			}
		}
	}
	switch {
	case held == nil:
		return nil
	case r.table.Style != partition.StyleNone:
		return held.Begin(r.table.DiskID, bareDisk)
	case image == nil:
		return held.Begin(r.uuid, bareDisk)
	}
	copied, err := filesystem.Probe(ctx, image.File.Name()) // whose UUID the disk has at first
	if err != nil {
		return err
	}
	return held.Begin(r.uuid, copied.UUID, bareDisk)
}

// oldGuest is what the disk holds before it is installed.
type oldGuest struct {
	tree    *guestdisk.Tree  // nil: it can't be read
	why     error            // it can't, or what is to be kept is apart
	apart   bool             // what is to be kept is on a filesystem, or in a subvolume, of its own
	nothing bool             // and there is nothing
	receipt *receipt.Receipt // nil: the guest has none
	started bool             // it has been, so that it is whole, whoever installed it
	mark    string           // by which a disk is known that a run has begun; "" is one with what we don't make
}

// randomSeed is what systemd leaves in a guest that it has started. A tree that we make has none.
const randomSeed = "/var/lib/systemd/random-seed"

func lookAtOldGuest(ctx context.Context, s *session.Session, o *Order, disk *blockdev.Disk) (old oldGuest) {
	d := guestdisk.Of(s, disk, guestdisk.Fsck(o.Settings.GuestFsck))
	if free, what, err := filesystem.IsBlankOrSwap(ctx, disk.Node()); disk.IsEmpty() || err == nil && free && what == "blank" {
		return oldGuest{nothing: true}
	}
	seen := d.See(ctx)
	if isWipedRoot(seen, disk.File()) {
		return oldGuest{nothing: true}
	}
	old.mark = markOf(seen)
	var apart error
	for _, path := range o.Settings.ReinstallKeep {
		if folders := d.Apart(path); folders != "" && apart == nil {
			apart = fmt.Errorf("disk %s: of %s the old guest has %s on a filesystem of its own, and only what is on its root can be kept: leave that out", o.Disk(), path, folders)
		}
	}
	part, err := d.AttachRoot(ctx, "nothing of it can be read")
	if err == nil {
		// Of one that was half made nothing could be written back when it is unmounted.
		old.tree, err = part.ForReading().MountRepaired(ctx)
	}
	for _, path := range append([]string{receipt.File}, o.Settings.ReinstallKeep...) {
		if err == nil && (apart == nil || path == receipt.File) { // subvolumes of the root's, too
			err = d.MountBeside(ctx, old.tree, path, true)
		}
	}
	if err != nil {
		return oldGuest{why: cmp.Or(apart, err), mark: old.mark}
	}
	old.apart = apart != nil || slices.ContainsFunc(o.Settings.ReinstallKeep, old.tree.IsBeside)
	old.why = old.tree.Edit(ctx, func(root *guest.Root) error {
		old.receipt, _ = receipt.Read(root) // a guest without one was made by others, or not to its end
		old.started = root.Exists(randomSeed)
		return nil
	})
	if apart != nil { // whose guest it is counts all the same
		old.why = apart
	}
	return old
}

// keepFiles reads what is to be kept, before the disk is touched; nil is nothing. What an
// earlier run has read, which was ended before the new guest had it, is used instead.
func keepFiles(ctx context.Context, s *session.Session, c Choice, disk *blockdev.Disk, tree *cache.Entry) (h *kept.Held, err error) {
	held, unfinished, err := kept.Of(c.keptKey())
	if err != nil {
		return nil, err
	}
	for _, dir := range unfinished { // nobody else is at work on this disk
		err = errors.Join(err, kept.Discard(dir))
	}
	mark := s.Mark()
	old := lookAtOldGuest(ctx, s, c.Order, disk)
	if err == nil {
		h, err = c.keepOf(ctx, old, held)
	}
	err = errors.Join(err, s.UndoTo(ctx, mark))
	if err == nil && h != nil {
		err = c.takesKept(ctx, s, h, disk, tree)
	}
	isNew := h != nil && !slices.ContainsFunc(held, func(e kept.Held) bool { return e.ID == h.ID })
	if err != nil && isNew { // the old guest has its files
		return nil, errors.Join(err, h.Forget())
	}
	return h, err
}

// keepOf reads the old guest's files, or takes what is held already: that counts where the
// disk's guest isn't whole.
func (c Choice) keepOf(ctx context.Context, old oldGuest, held []kept.Held) (*kept.Held, error) {
	got := func(h kept.Held) bool {
		return old.receipt != nil && old.receipt.Kept != nil && old.receipt.Kept.ID == h.ID
	}
	had := func(h kept.Held) bool { return old.tree != nil && (old.tree.UUID() == h.RootUUID || got(h)) }
	at := slices.IndexFunc(held, got)
	switch {
	case len(held) > 0 && !slices.ContainsFunc(held, had):
		const another = "held for this instance are %v, and the disk has a guest that was installed without them, %s: unpack files.tar there if you need it, then remove that folder"
		if old.receipt != nil {
			return nil, fmt.Errorf(another, held[0], "on "+old.receipt.Installed.Format(time.DateOnly))
		}
		if old.started {
			return nil, fmt.Errorf(another, held[0], "and has been started")
		}
		isBegun := func(h kept.Held) bool { return h.IsBegun(old.mark) }
		if old.tree == nil && !old.nothing && !slices.ContainsFunc(held, isBegun) {
			return nil, fmt.Errorf("held for this instance are %v, and what the disk has isn't what a run has begun to make with them, and can't be read (REINSTALL_KEEP): %w; if it may go, run wipefs --all on the disk and zero its first MiB, and they come into the new guest; REINSTALL_KEEP=none installs without them", held[0], old.why)
		}
		tell.Info(ctx, "what an earlier run has read is kept: %v", held[0])
		return &held[0], nil
	case at >= 0 && old.apart && !old.started: // nobody has changed them, and they may be half moved
		tell.Info(ctx, "what an earlier run has read is kept: %v", held[at])
		return &held[at], nil
	case old.nothing:
		tell.Info(ctx, "the disk holds no guest of which anything could be kept")
		return nil, nil
	case old.why != nil:
		return nil, fmt.Errorf("nothing can be kept (REINSTALL_KEEP): %w; %s", old.why, keepNothing)
	}
	h, missing, err := kept.Hold(ctx, kept.Source{
		Key: c.keptKey(), Instance: c.Request.InstanceName, Disk: c.Disk(), RootUUID: old.tree.UUID(), Tree: old.tree.Dir, Mounts: old.tree.Mounts(), Edit: old.tree.Edit,
		Paths: c.Settings.ReinstallKeep, MaxBytes: c.Settings.ReinstallKeepMax, MetadataLoss: c.Settings.MetadataLoss,
	})
	if err != nil {
		return nil, err
	}
	for _, path := range missing {
		tell.Warn(ctx, "the old guest has no %s: nothing of it is kept (REINSTALL_KEEP)", path)
	}
	if h != nil {
		tell.Info(ctx, "kept are %v (%s)", *h, tell.MiB(h.Bytes))
	}
	for _, old := range held { // which this guest has, too
		err = errors.Join(err, old.Forget())
	}
	return h, err
}

// putBack gives the new guest what was kept. What it so says of its network counts as a hook's
// word.
func putBack(ctx context.Context, h *kept.Held, o *Order, r rootDisk, b before) (before, error) {
	if h == nil {
		return b, nil
	}
	found, err := lookBeforeHooks(ctx, r)
	if err == nil {
		err = h.Restore(ctx, r.target, o.Settings.MetadataLoss)
	}
	if err == nil {
		err = guest.Edit(ctx, r.target, func(root *guest.Root) error { return nameInterfaces(ctx, o, "the kept", found, root) })
	}
	if !b.hooksRan {
		b = found
	}
	return b, err
}

func forgetKept(h *kept.Held) error {
	if h == nil {
		return nil
	}
	return h.Forget()
}

// Failed adds to a run's error where the old guest's files are.
func (r *Run) Failed(err error) error {
	if r.kept == nil || !r.kept.Exists() {
		return err
	}
	return fmt.Errorf("%w; what was kept of the old guest is in %s, and the next reinstall with REINSTALL_KEEP puts it back", err, r.kept.Dir)
}
