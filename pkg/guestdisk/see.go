package guestdisk

import (
	"context"
	"fmt"
	"os"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
)

// Seen is what can be told of a disk that isn't claimed.
type Seen struct {
	Path      string
	SizeBytes int64
	UsedBy    string // "" is nothing that was found
	Layout    partition.Layout
	Root      partition.Partition // what holds its filesystem
	Holds     filesystem.Info     // and what that is
	Claim     filesystem.Claim    // of a filesystem of a type that we make
	Fault     error               // why Root or what it holds isn't known
}

// See looks at a disk that others may use at this moment.
func See(ctx context.Context, path string) (seen Seen, err error) {
	seen.Path = path
	if seen.SizeBytes, seen.UsedBy, err = blockdev.Look(path); err != nil {
		return seen, err
	}
	f, err := os.Open(path)
	if err != nil {
		return seen, err
	}
	defer f.Close()
	if seen.Layout, seen.Root, seen.Fault = rootOf(f, seen.SizeBytes); seen.Fault == nil {
		seen.Holds, seen.Claim, seen.Fault = probe(ctx, path, f, seen.Root.Offset(), seen.Root.SizeBytes())
	}
	return seen, nil
}

// MayClaim says why the disk can't be claimed.
func (s Seen) MayClaim() error {
	if s.UsedBy != "" {
		return fmt.Errorf("disk %s is in use: %s; stop what uses it first", s.Path, s.UsedBy)
	}
	return nil
}

// String tells it in a plan.
func (s Seen) String() string {
	if s.Fault != nil {
		return fmt.Sprintf("%d MiB, %v", s.SizeBytes>>20, s.Fault)
	}
	return fmt.Sprintf("%d MiB, table: %s, holds %s", s.SizeBytes>>20, s.Layout.Style, s.Holds)
}

// rootOf reads a disk's table and finds the partition that holds its filesystem. The error
// says why its layout can't be taken apart.
func rootOf(disk *os.File, sizeBytes int64) (layout partition.Layout, root partition.Partition, err error) {
	if layout, err = partition.Read(disk, sizeBytes); err != nil {
		return layout, root, err
	}
	if root, err = layout.RootPartition(); err != nil {
		err = fmt.Errorf("not a layout of ours: %w", err)
	}
	return layout, root, err
}

// probe tells what is on a part of a disk, in bytes, and what a filesystem of a type that
// we make says of itself, if that can be read.
func probe(ctx context.Context, node string, disk *os.File, offset, sizeBytes int64) (found filesystem.Info, claim filesystem.Claim, err error) {
	if found, err = filesystem.ProbeAt(ctx, node, offset, sizeBytes); err != nil {
		return found, claim, err
	}
	if t, err := filesystem.ParseType(found.Type); err == nil {
		if read, err := filesystem.ReadClaim(disk, offset, t); err == nil {
			claim = read
		}
	}
	return found, claim, nil
}
