package guestdisk

import (
	"context"
	"fmt"
	"os"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
)

// AsItIs says, for a plan, what is known of a disk without claiming it: its size, its table
// and what it holds, and whether we know where its root is. The error is why it can't be
// claimed.
func AsItIs(ctx context.Context, path string) (text string, isKnown bool, err error) {
	sizeBytes, usedBy, err := blockdev.Look(path)
	if err != nil {
		return "", false, err
	}
	if usedBy != "" {
		err = fmt.Errorf("disk %s is in use: %s; stop what uses it first", path, usedBy)
	}
	text = fmt.Sprintf("%d MiB", sizeBytes>>20)
	f, openErr := os.Open(path)
	if openErr != nil {
		return text, false, openErr
	}
	defer f.Close()
	layout, readErr := partition.Read(f, sizeBytes)
	if readErr != nil {
		return text + ", " + readErr.Error(), false, err
	}
	root, isKnown, why := layout.RootPartition()
	if !isKnown {
		return text + ", not a layout of ours: " + why, false, err
	}
	found, probeErr := filesystem.ProbeAt(ctx, path, root.StartSector*partition.SectorSize, root.Sectors*partition.SectorSize)
	if probeErr != nil {
		return text + ", " + probeErr.Error(), false, err
	}
	return fmt.Sprintf("%s, table: %s, holds %s", text, layout.Style, found), true, err
}
