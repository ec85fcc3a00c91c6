package debootstrap

import (
	"context"
	"fmt"
	"os"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
)

// customize runs the hooks, and makes the rest of the guest fit what they did.
func (j *Job) customize(ctx context.Context) error {
	if err := j.runHooks(ctx); err != nil {
		return err
	}
	return j.inGuest(ctx, func(root *guest.Root) error {
		if err := j.heedTable(ctx, root); err != nil {
			return err
		}
		return j.nameInterfaces(ctx, root)
	})
}

// heedTable looks at the partition table that the hooks leave on BLOCKDEV. The
// partitions that this run has made filesystems on must be where they were; what
// else a hook has done to the table stays as it is.
func (j *Job) heedTable(ctx context.Context, root *guest.Root) error {
	if j.style() == partition.StyleNone {
		return nil
	}
	disk, err := os.Open(j.loop.Path)
	if err != nil {
		return err
	}
	defer disk.Close()
	now, err := partition.Read(disk, j.disk.SizeBytes)
	if err != nil {
		return fmt.Errorf("a hook has damaged the partition table of %s: %w", j.diskName(), err)
	}
	if why := j.table.MovedIn(now); why != "" {
		return fmt.Errorf("a hook has changed the partition table of %s: %s; to write boot code, let it write the 440 bytes before the table only (dd bs=440 count=1 conv=notrunc)", j.diskName(), why)
	}
	if j.table.Equal(now) {
		return nil
	}
	info(ctx, "a hook has changed the partition table: it stays as it is")
	before := j.table.DiskID
	j.table = now
	if before == now.DiskID || j.boot.Loader != "grub" || j.BootPath != "" {
		return nil
	}
	return boot.WriteUdevRules(root, now.DiskID)
}
