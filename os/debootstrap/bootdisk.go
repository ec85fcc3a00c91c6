package debootstrap

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
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

func (j *Job) hasBootDisk(context.Context) (bool, string) {
	return unless(j.BootPath != "", "/boot is on the root's disk")
}

// claimBoot opens the disk, if there is one.
func (j *Job) claimBoot() (err error) {
	if j.BootPath == "" {
		return nil
	}
	b := &j.bootDisk
	if b.disk, err = j.claim(j.BootPath); err != nil {
		return err
	}
	b.table, err = partition.Plan(partition.StyleMSDOS, b.disk.SizeBytes, j.Settings.PartitionAlignment, rand.Reader)
	if err != nil {
		return fmt.Errorf("disk %s: %w", b.disk.Path, err)
	}
	return nil
}

// bootStyle is the style of the table that firmware starts from.
func (j *Job) bootStyle() partition.Style {
	if j.BootPath != "" {
		return partition.StyleMSDOS
	}
	return j.style()
}

// bootTable is the table of the disk that has /boot.
func (j *Job) bootTable() partition.Layout {
	if j.BootPath != "" {
		return j.bootDisk.table
	}
	return j.table
}

// bootTarget is what the guest is to boot from. The files of a /boot of its own
// are still on the root's disk.
func (j *Job) bootTarget(root *guest.Root) boot.Target {
	t := boot.Target{
		Disk: j.loop.Path, RootDevice: j.fsysDev, Dir: j.target, Root: root, Style: j.style(), RootNumber: j.rootNumber(),
		FSType: j.fstype(), RootUUID: j.rootUUID, WorkDir: j.session.WorkDir, Trusted: true,
	}
	if j.BootPath != "" {
		t.Boot = &boot.OwnBoot{UUID: j.bootDisk.uuid}
		t.Disk, t.Style, t.RootNumber = j.bootDisk.loop.Path, partition.StyleMSDOS, 1
	}
	return t
}

// bootMount is fstab's line of a /boot of its own.
func (j *Job) bootMount() *guest.Mount {
	if j.BootPath == "" {
		return nil
	}
	_, pass := filesystem.FstabOptions(j.fstype(), false)
	return &guest.Mount{UUID: j.bootDisk.uuid, Folder: "/boot", Filesystem: j.Settings.Filesystem, Options: "defaults", Pass: 2 * pass}
}

// makeBootDisk writes the table and makes the filesystem.
func (j *Job) makeBootDisk(ctx context.Context) (err error) {
	b := &j.bootDisk
	b.disk.Lock(true)
	defer b.disk.Lock(false)
	if err := filesystem.Wipe(ctx, b.disk.Node()); err != nil {
		return err
	}
	if err := firstError(b.table.Write(b.disk.File()), b.disk.Sync()); err != nil {
		return err
	}
	if b.loop, err = j.attach(ctx, b.disk.File(), true); err != nil {
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
	b.uuid, err = filesystem.Make(ctx, filesystem.Spec{Type: j.fstype(), Device: b.device, Suite: j.Settings.Suite})
	return err
}

// moveBoot moves the files of /boot onto its own filesystem. Until then they were
// on the root's: hooks saw one tree, and no path led out of it.
func (j *Job) moveBoot(ctx context.Context) error {
	b := &j.bootDisk
	j.session.Defer("sync "+b.device, func(context.Context) error { return syncDevice(b.device) })
	to, err := j.mount(ctx, "boot", func(dir string) error { return filesystem.Mount(ctx, b.device, dir, j.fstype()) })
	if err != nil {
		return err
	}
	from := filepath.Join(j.target, "boot")
	if err := command.Run(ctx, command.Cmd{Quiet: true, Args: []string{"cp", "--archive", from + "/.", to}}); err != nil {
		return fmt.Errorf("%s has %d MiB: %w", b.disk.Path, b.disk.SizeBytes>>20, err)
	}
	entries, err := os.ReadDir(from)
	for _, e := range entries {
		err = firstError(err, os.RemoveAll(filepath.Join(from, e.Name())))
	}
	return err
}
