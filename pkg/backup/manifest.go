package backup

import (
	"context"
	"fmt"

	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/tell"
	"instance-debootstrap/pkg/transport"
)

// describeDisk is what a manifest says of a disk.
func describeDisk(index int, sizeBytes int64, l partition.Layout) transport.Disk {
	return transport.Disk{Index: index, SizeBytes: sizeBytes, Style: string(l.Style), ID: l.DiskID, Partitions: l.Partitions}
}

// layoutOf is the layout that a manifest describes.
func layoutOf(d transport.Disk) partition.Layout {
	return partition.Layout{Style: partition.Style(d.Style), SizeBytes: d.SizeBytes, DiskID: d.ID, Partitions: d.Partitions}
}

// diskAsItIs tells a plan what is on a disk, and whether it could be claimed.
func diskAsItIs(path string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		seen, err := guestdisk.See(ctx, path)
		if err != nil {
			return "", err
		}
		return seen.String(), seen.MayClaim(true)
	}
}

// Beside looks at the instance's other disks, each at open's path, without claiming them: what
// they hold now. A disk that can't be opened is warned of.
func Beside(ctx context.Context, req *osapi.Request, open func(disk osapi.Disk, look func(path string)) error) (list []transport.Sibling) {
	for _, d := range req.Disks {
		if d.Index == req.IODisk || !d.IsGuests() {
			continue
		}
		err := open(d, func(path string) {
			if s, ok := siblingAt(ctx, path); ok {
				s.Index = d.Index
				list = append(list, s)
			}
		})
		if err != nil {
			tell.Warn(ctx, "disk %d can't be looked at, so an fstab that names it by its UUID may have to be corrected by hand: %v", d.Index, err)
		}
	}
	return list
}

// ByPath is Beside's open for disks that all have paths.
func ByPath(d osapi.Disk, look func(path string)) error {
	look(d.Path)
	return nil
}

// siblingAt says what one of the instance's disks holds, without claiming it: it
// may be exported by another process at this moment.
func siblingAt(ctx context.Context, path string) (transport.Sibling, bool) {
	seen, err := guestdisk.SeeContent(ctx, path)
	if err != nil {
		return transport.Sibling{}, false
	}
	return siblingOf(seen)
}

func siblingOf(seen guestdisk.Seen) (transport.Sibling, bool) {
	found := seen.Holds
	isSwap := found.Type == "swap" && seen.Root.Number == 0
	if seen.Unknown != nil || seen.Several != nil || seen.Unread != nil || seen.Unclaimed != nil || found.UUID == "" || !isSwap && seen.Claim.Devices != 1 { // one on several disks is moved as it is
		return transport.Sibling{}, false
	}
	return transport.Sibling{Type: found.Type, UUID: found.UUID, Label: found.Label, Moves: true}, true
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
