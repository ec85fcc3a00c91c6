package install

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/kept"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/session"
)

// rootDisk is the guest's root disk as it is made.
type rootDisk struct {
	table  partition.Layout // what it is partitioned as, also by a hook
	blank  bool             // it is a new file, so that there is nothing to erase on it
	loop   *blockdev.Loop   // BLOCKDEV, over the whole disk
	device string           // FSYSDEV, where the root filesystem is
	uuid   string           // the filesystem's
	target string           // TARGET, where it is mounted
	esp    espPart
	parts  []part // beside the root, of a layout
}

// espPart is the EFI system partition; the zero value is none.
type espPart struct {
	device string
	serial uint32 // of its filesystem
}

// uuid is the UUID of its filesystem, "" is none.
func (e espPart) uuid() string {
	if e.device == "" {
		return ""
	}
	return boot.FATUUID(e.serial)
}

// partitionDisk removes every old signature and writes the partition table. What the old guest
// had at the places of the new partitions goes before: one that is ended half made must not be
// seen with the old one's /var. The disk stays locked until it is mapped. held is of the old
// guest; nil is nothing. image is what will be copied to it; nil is none.
func partitionDisk(ctx context.Context, c Choice, disk *blockdev.Disk, held *kept.Held, image *rootImage) (r rootDisk, err error) {
	if r.table, err = c.layout(disk.SizeBytes); err != nil {
		return r, err
	}
	r.uuid = filesystem.NewUUID()
	if err := c.begin(ctx, r, held, image); err != nil {
		return r, err
	}
	disk.Lock(true)
	if r.blank = disk.IsEmpty(); !r.blank {
		if err := filesystem.Wipe(ctx, disk.Node()); err != nil {
			return r, err
		}
		for _, p := range r.table.Partitions {
			err = cmp.Or(err, filesystem.WipeRange(disk.File(), p.Offset(), p.SizeBytes()))
		}
		if err = cmp.Or(err, disk.File().Sync()); err != nil {
			return r, err
		}
	}
	return r, r.table.Write(disk.File())
}

// mapDisk makes the disk reachable: BLOCKDEV is a loop device over all of it,
// FSYSDEV the root partition's node, or BLOCKDEV itself when there are no
// partitions.
func mapDisk(ctx context.Context, s *session.Session, disk *blockdev.Disk, r rootDisk) (_ rootDisk, err error) {
	defer disk.Lock(false)
	partitioned := r.table.Style != partition.StyleNone
	if r.loop, err = attachDisk(ctx, s, disk, partitioned); err != nil {
		return r, err
	}
	r.device = r.loop.Path
	if !partitioned {
		return r, nil
	}
	start, sectors := r.table.Root()
	r.device, err = r.loop.AddPartition(rootPartition, start, sectors)
	return r, err
}

// makeRoot makes the root filesystem, of the image that was copied where there is
// one (nil is none), and mounts it on TARGET.
func makeRoot(ctx context.Context, s *session.Session, c Choice, disk *blockdev.Disk, r rootDisk, image *rootImage) (rootDisk, error) {
	o := c.Order
	r, err := mapDisk(ctx, s, disk, r)
	switch {
	case err != nil:
	case image != nil:
		err = image.spec.Finalize(ctx, r.device, image.Journal, r.uuid)
	default:
		if !r.blank {
			err = filesystem.Wipe(ctx, r.device)
		}
		if err == nil {
			r.uuid, err = filesystem.Make(ctx, filesystem.Spec{Type: o.fstype(), Device: r.device, Suite: o.Settings.Suite, UUID: r.uuid})
		}
	}
	if err == nil {
		err = c.makeSubvolumes(ctx, s, r.device, o.rootLine())
	}
	if err == nil { // udev is kept away from what they held
		r.parts, err = makeParts(ctx, s, c, c.Request.Root, r.loop, r.table, r.blank)
		r.parts = byLine(append(r.parts, c.subvolumeParts(part{line: o.rootLine(), number: rootPartition, device: r.device, uuid: r.uuid})...))
	}
	if err != nil {
		return r, err
	}
	r.loop.Unlock()
	if err := s.HideDevDisk(r.devLinks(o)); err != nil {
		return r, err
	}
	s.Defer("sync "+r.device, func(context.Context) error { return filesystem.SyncDevice(r.device) })
	r.target, err = mount(s, r.loop, "target", func(dir string) error {
		return filesystem.Mount(ctx, r.device, dir, o.fstype())
	})
	return r, err
}

// makeESP makes the filesystem that UEFI starts from, and adds the nodes of the
// partitions beside the root, for hooks.
func makeESP(r rootDisk) (e espPart, err error) {
	esp, _ := r.table.ESP()
	if e.device, err = r.loop.AddPartition(esp.Number, esp.StartSector, esp.Sectors); err != nil {
		return e, err
	}
	if e.serial, err = boot.RandomSerial(); err != nil {
		return e, err
	}
	return e, boot.MakeESP(e.device, esp.SizeBytes(), e.serial)
}

// devLinks are what /dev/disk has for tools in the namespace: the guest's own
// filesystems by UUID, no filesystem of the node's, and the disk that GRUB goes
// on by the name that debconf knows; the instance's own disks keep the names that
// Ganeti gave, and the first is the loop device by its, too.
func (r rootDisk) devLinks(o *Order) map[string]string {
	links := map[string]string{"/dev/disk/by-uuid/" + r.uuid: r.device, boot.BootDisk: r.loop.Path}
	if uuid := r.esp.uuid(); uuid != "" {
		links["/dev/disk/by-uuid/"+uuid] = r.esp.device
	}
	for _, p := range r.parts {
		if p.device != "" {
			links["/dev/disk/by-uuid/"+p.uuid] = p.device
		}
	}
	for _, d := range o.Request.Disks {
		to, err := filepath.EvalSymlinks(d.Path)
		if d.Path == o.Request.BlockDev {
			to, err = r.loop.Path, nil
		}
		if err == nil && strings.HasPrefix(d.Path, "/dev/disk/") {
			links[d.Path] = to
		}
	}
	return links
}

// mount mounts a filesystem on a folder of the session until the end of the
// run. What a hook or a package script left running or mounted there, or as loop devices
// over files on it, is ended first; the latter where the disk's loop device is known.
func mount(s *session.Session, loop *blockdev.Loop, name string, mount func(dir string) error) (string, error) {
	dir := filepath.Join(s.WorkDir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	s.Defer("remove "+dir, func(context.Context) error { return os.Remove(dir) })
	if err := mount(dir); err != nil {
		return "", err
	}
	// The scratch is dropped unsynced.
	var top *filesystem.Held
	if name != scratchName {
		var err error
		if top, err = filesystem.Hold(dir); err != nil {
			return "", errors.Join(err, filesystem.Unmount(dir))
		}
	}
	unmount := filesystem.Unmounting(dir)
	s.Defer("unmount "+dir, func(ctx context.Context) error {
		if loop != nil {
			loop.DetachStacked(ctx, dir)
		}
		strays := s.EndStrays(ctx, dir)
		open, err := top.Take()
		return errors.Join(strays, err, filesystem.SyncTree(open), filesystem.UnmountBelow(dir), unmount(dir))
	})
	return dir, nil
}
