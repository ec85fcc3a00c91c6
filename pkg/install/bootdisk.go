package install

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/session"
)

// bootDisk is the disk of a /boot of its own: an msdos table, in whose gap GRUB's
// core image lies, and one partition.
type bootDisk struct {
	disk   *blockdev.Disk
	table  partition.Layout
	loop   *blockdev.Loop
	device string // the partition
	uuid   string
}

// claimBoot opens the disk.
func claimBoot(s *session.Session, o *Order) (*bootDisk, error) {
	disk, err := claim(s, o.BootPath)
	if err != nil {
		return nil, err
	}
	table, err := partition.Plan(partition.StyleMSDOS, disk.SizeBytes, o.Settings.PartitionAlignment, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("disk %s: %w", disk.Path, err)
	}
	return &bootDisk{disk: disk, table: table}, nil
}

// make writes the table and makes the filesystem.
func (b *bootDisk) make(ctx context.Context, s *session.Session, o *Order) (err error) {
	b.disk.Lock(true)
	defer b.disk.Lock(false)
	if err := filesystem.Wipe(ctx, b.disk.Node()); err != nil {
		return err
	}
	if err := cmp.Or(b.table.Write(b.disk.File()), b.disk.Sync()); err != nil {
		return err
	}
	if b.loop, err = attachDisk(ctx, s, b.disk, true); err != nil {
		return err
	}
	defer b.loop.Unlock()
	start, sectors := b.table.Root()
	if b.device, err = b.loop.AddPartition(1, start, sectors); err != nil {
		return err
	}
	if err := filesystem.Wipe(ctx, b.device); err != nil {
		return err
	}
	b.uuid, err = filesystem.Make(ctx, filesystem.Spec{Type: o.fstype(), Device: b.device, Suite: o.Settings.Suite})
	return err
}

// fill moves the files of /boot onto its own filesystem.
func (b *bootDisk) fill(ctx context.Context, s *session.Session, o *Order, root rootDisk) error {
	if err := moveFolder(ctx, s, root, "/boot", b.device, "", o.fstype()); err != nil {
		return fmt.Errorf("%s has %d MiB: %w", b.disk.Path, b.disk.SizeBytes>>20, err)
	}
	return nil
}

// mounts is fstab's line of it, or none.
func (b *bootDisk) mounts(o *Order) []guest.Mount {
	if b == nil {
		return nil
	}
	_, pass := filesystem.FstabOptions(o.fstype(), false)
	return []guest.Mount{{UUID: b.uuid, Folder: "/boot", Filesystem: o.Settings.Filesystem, Options: "defaults", Pass: 2 * pass}}
}

// bootTarget is what the guest is to boot from. The files of a /boot of its own
// are still on the root's disk.
func bootTarget(o *Order, r rootDisk, own *bootDisk, workDir string, root *guest.Root) boot.Target {
	t := boot.Target{
		Disk: r.loop.Path, RootDevice: r.device, Dir: r.target, Root: root, Style: o.style(), RootNumber: o.rootNumber(),
		FSType: o.fstype(), RootUUID: r.uuid, RootSubvolume: o.rootLine().Subvolume, WorkDir: workDir, Trusted: true,
	}
	if p := r.bootPart(); p != nil {
		t.Boot, t.RootNumber, t.FSType = &boot.OwnBoot{UUID: p.uuid, Subvolume: p.line.Subvolume}, p.number, filesystem.Type(p.line.Filesystem)
	}
	if own != nil {
		t.Boot = &boot.OwnBoot{UUID: own.uuid}
		t.Disk, t.Style, t.RootNumber = own.loop.Path, partition.StyleMSDOS, 1
	}
	return t
}
