package backup

import (
	"cmp"
	"context"
	"slices"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// target is the disk that an import makes anew.
type target struct {
	*guestdisk.Disk
	session  *session.Session
	before   int // the undo stack's height before it was claimed
	unmapped int // and before anything of it was attached

	partitions    []partition.Partition // where signatures may come to be
	touched, done bool                  // it was written to; it is whole
	begins        func()                // is called before the disk is written to
}

// claimTarget opens the disk. What an import that failed has left on it is
// erased before it is let go of.
func claimTarget(s *session.Session, path string, fsck guestdisk.Fsck, begins func()) (*target, error) {
	t := &target{session: s, before: s.Mark(), begins: begins}
	var err error
	if t.Disk, err = guestdisk.Claim(s, path, fsck); err != nil {
		return nil, err
	}
	s.Defer("erase the unfinished import", t.eraseUnfinished)
	t.unmapped = s.Mark()
	return t, nil
}

// eraseUnfinished leaves no signature on a disk whose import has failed, where its
// partitions begin neither.
func (t *target) eraseUnfinished(ctx context.Context) error {
	if !t.touched || t.done {
		return nil
	}
	tell.Info(ctx, "erasing the signatures of the unfinished import from disk %s", t.Path)
	partitions := t.partitions
	if l, err := partition.Read(t.File(), t.SizeBytes); err == nil {
		partitions = append(slices.Clip(partitions), l.Partitions...)
	}
	for _, p := range partitions {
		at := p.Offset()
		if n := min(headBytes, t.SizeBytes-at); n > 0 {
			if err := blockdev.ZeroRange(t.File(), at, n); err != nil {
				return err
			}
		}
	}
	return filesystem.Wipe(ctx, t.Node())
}

// touch marks the disk as written to, at these partitions among others. Before it, a
// failure leaves the disk as it was. Every old signature is erased, of which a new file
// has none.
func (t *target) touch(ctx context.Context, partitions []partition.Partition) (wasEmpty bool, err error) {
	t.spoil(partitions)
	if t.IsEmpty() {
		return true, nil
	}
	t.Lock(true)
	defer t.Lock(false)
	return false, filesystem.Wipe(ctx, t.Node())
}

func (t *target) spoil(partitions []partition.Partition) {
	if !t.touched {
		t.begins()
	}
	t.touched, t.partitions = true, partitions
}

// writeTable writes the disk's table.
func (t *target) writeTable(l partition.Layout) error {
	t.partitions = l.Partitions
	return l.Write(t.File())
}

// publish makes the filesystem, which is whole and on the disk before it, one that a
// table leads to.
func (t *target) publish(ctx context.Context, l partition.Layout) error {
	if err := t.detach(ctx); err != nil {
		return err
	}
	if err := t.Sync(); err != nil {
		return err
	}
	return t.writeTable(l)
}

// detach unmounts what is mounted of the disk, and frees its devices; what could not be
// written out fails here.
func (t *target) detach(ctx context.Context) error { return t.session.UndoTo(ctx, t.unmapped) }

// commit frees the disk, which is whole now.
func (t *target) commit(ctx context.Context) error {
	if err := cmp.Or(t.detach(ctx), t.MakeDurable()); err != nil {
		return err
	}
	t.done = true
	return t.session.UndoTo(ctx, t.before)
}
