package guestdisk

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
)

// Seen is what can be told of a disk without attaching anything of it.
type Seen struct {
	Path      string
	SizeBytes int64
	UsedBy    string // "" is nothing that was found
	Layout    partition.Layout
	Root      partition.Partition // what holds its filesystem
	Unknown   error               // why that isn't known
	Several   error               // why its layout can't be taken apart, though Root is known
	Holds     filesystem.Info     // what is on Root
	Unread    error               // why that isn't known
	Claim     filesystem.Claim    // of a filesystem of a type that we make
	Unclaimed error               // why that isn't known
}

// See looks at a disk that others may use at this moment.
func See(ctx context.Context, path string) (Seen, error) {
	sizeBytes, usedBy, err := blockdev.Look(path, paths.LockDir)
	if err != nil {
		return Seen{Path: path}, err
	}
	seen, err := seeAt(ctx, path, sizeBytes)
	seen.UsedBy = usedBy
	return seen, err
}

// SeeContent is See without asking who uses the disk, which takes a while if that is a run of
// ours.
func SeeContent(ctx context.Context, path string) (Seen, error) {
	sizeBytes, _, err := blockdev.Size(path)
	if err != nil {
		return Seen{Path: path}, err
	}
	return seeAt(ctx, path, sizeBytes)
}

func seeAt(ctx context.Context, path string, sizeBytes int64) (Seen, error) {
	f, err := os.Open(path)
	if err != nil {
		return Seen{Path: path}, err
	}
	defer f.Close()
	return see(ctx, path, f, sizeBytes), nil
}

// See looks at a claimed disk.
func (d *Disk) See(ctx context.Context) Seen {
	seen := see(ctx, d.Node(), d.File(), d.SizeBytes)
	seen.Path = d.Path
	return seen
}

func see(ctx context.Context, node string, f *os.File, sizeBytes int64) Seen {
	s := Seen{Path: node, SizeBytes: sizeBytes}
	if s.Layout, s.Root, s.Unknown = rootOf(f, sizeBytes); s.Unknown == nil {
		_, s.Several = s.Layout.RootPartition()
		s.Holds, s.Claim, s.Unread, s.Unclaimed = probe(ctx, node, f, s.Root.Offset(), s.Root.SizeBytes())
	}
	return s
}

// MayClaim says why the disk can't be claimed, to be written to or not.
func (s Seen) MayClaim(write bool) error {
	err := blockdev.InUse(s.Path, s.UsedBy)
	if err == nil && write {
		err = blockdev.Writable(s.Path)
	}
	return err
}

// MayMountRoot says why the root filesystem can't be worked on; remedy is for a disk of
// which we don't know where that is.
func (s Seen) MayMountRoot(remedy string) error {
	if s.Unknown != nil {
		return noRoot(s.Path, s.Unknown, remedy)
	}
	if s.Unread != nil {
		return s.Unread
	}
	_, err := mountable(s.Path, s.Holds)
	return err
}

// String tells it in a plan.
func (s Seen) String() string {
	if why := cmp.Or(s.Unknown, s.Unread); why != nil {
		return fmt.Sprintf("%d MiB, %v", s.SizeBytes>>20, why)
	}
	return fmt.Sprintf("%d MiB, table: %s, holds %s", s.SizeBytes>>20, s.Layout.Style, s.Holds)
}

// hint says of a disk without a table and without anything known on it what it looks like: a
// format is never assumed. "" is nothing.
func hint(disk io.ReaderAt) string {
	head := make([]byte, 4)
	if _, err := disk.ReadAt(head, 0); err == nil && string(head) == "QFI\xfb" {
		return "it looks like a qcow2 image: if it is one, give --format qcow2"
	}
	return ""
}

// rootOf reads a disk's table and finds the partition that holds its filesystem, or its
// guest's root.
func rootOf(disk *os.File, sizeBytes int64) (layout partition.Layout, root partition.Partition, err error) {
	if layout, err = partition.Read(disk, sizeBytes); err != nil {
		return layout, root, err
	}
	if root, err = layout.GuestRoot(); err != nil {
		err = fmt.Errorf("not a layout of ours: %w", err)
	}
	return layout, root, err
}

// probe tells what is on a part of a disk, in bytes, and what a filesystem of a type that
// we make says of itself.
func probe(ctx context.Context, node string, disk *os.File, offset, sizeBytes int64) (found filesystem.Info, claim filesystem.Claim, unread, unclaimed error) {
	found, unread = filesystem.ProbeAt(ctx, node, offset, sizeBytes)
	if t, err := filesystem.ParseType(found.Type); unread == nil && err == nil {
		claim, unclaimed = filesystem.ReadClaim(disk, offset, t)
	}
	return found, claim, unread, unclaimed
}
