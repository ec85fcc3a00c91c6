package backup

import (
	"context"
	"fmt"
	"os"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/transport"
)

// describeDisk is what a manifest says of a disk.
func describeDisk(index int, sizeBytes int64, l partition.Layout) transport.Disk {
	d := transport.Disk{Index: index, SizeBytes: sizeBytes, Style: string(l.Style), ID: l.DiskID}
	for _, p := range l.Partitions {
		d.Partitions = append(d.Partitions, transport.Partition(p))
	}
	return d
}

// layoutOf is the layout that a manifest describes.
func layoutOf(d transport.Disk) partition.Layout {
	l := partition.Layout{Style: partition.Style(d.Style), SizeBytes: d.SizeBytes, DiskID: d.ID}
	for _, p := range d.Partitions {
		l.Partitions = append(l.Partitions, partition.Partition(p))
	}
	return l
}

// siblingAt says what one of the instance's disks holds, without claiming it: it
// may be exported by another process at this moment.
func siblingAt(ctx context.Context, path string) (transport.Sibling, bool) {
	f, err := os.Open(path)
	if err != nil {
		return transport.Sibling{}, false
	}
	defer f.Close()
	sizeBytes, _, err := blockdev.Look(path)
	if err != nil {
		return transport.Sibling{}, false
	}
	layout, err := partition.Read(f, sizeBytes)
	if err != nil {
		return transport.Sibling{}, false
	}
	root, ok, _ := layout.RootPartition()
	if !ok {
		return transport.Sibling{}, false
	}
	found, err := filesystem.ProbeAt(ctx, path, root.StartSector*partition.SectorSize, root.Sectors*partition.SectorSize)
	if err != nil || found.UUID == "" {
		return transport.Sibling{}, false
	}
	t, err := filesystem.ParseType(found.Type)
	if err == nil { // one on several disks is moved as it is
		claim, cerr := filesystem.ReadClaim(f, root.StartSector*partition.SectorSize, t)
		err = cerr
		if err == nil && claim.Devices > 1 {
			return transport.Sibling{}, false
		}
	}
	ours := err == nil || found.Type == "swap" && root.Number == 0
	return transport.Sibling{Type: found.Type, UUID: found.UUID, Label: found.Label, Moves: ours}, ours
}

// describe says in a line what a backup holds.
func describe(m transport.Manifest) string {
	disk := fmt.Sprintf("disk %d of %d MiB (%s)", m.Disk.Index, m.Disk.SizeBytes>>20, m.Disk.Style)
	switch {
	case m.Content == "files":
		return fmt.Sprintf("the files of %s, %s, %d MiB used", disk, m.Filesystem.Type, m.Filesystem.UsedBytes>>20)
	case m.Content == "swap":
		return disk + ", swap"
	case m.Filesystem != nil:
		return fmt.Sprintf("the used blocks of %s, %s", disk, m.Filesystem.Type)
	}
	return "the blocks of " + disk
}
