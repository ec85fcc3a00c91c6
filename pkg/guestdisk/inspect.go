package guestdisk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/dpkg"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/receipt"
	"instance-debootstrap/pkg/session"
)

// Inspection is what is on a disk.
type Inspection struct {
	Disk       string               `json:"disk"`
	SizeBytes  int64                `json:"size_bytes"`
	InUse      string               `json:"in_use,omitempty"` // what uses it
	Style      string               `json:"style"`            // none, msdos, gpt, or unknown
	ID         string               `json:"id,omitempty"`
	Fault      string               `json:"fault,omitempty"` // why the style is unknown
	Partitions []InspectedPartition `json:"partitions,omitempty"`
	Filesystem *InspectedFilesystem `json:"filesystem,omitempty"` // on the whole disk
	Hint       string               `json:"hint,omitempty"`       // what a disk with nothing known on it looks like
	BootLoader string               `json:"boot_loader"`          // by its boot record and partitions; none
	Receipt    *receipt.Receipt     `json:"receipt,omitempty"`
	NoReceipt  string               `json:"no_receipt,omitempty"`  // why there is none
	Signature  *receipt.Signature   `json:"signature,omitempty"`   // of the receipt, when keys are given
	Suite      string               `json:"suite,omitempty"`       // that the guest says it has now, when packages are asked for
	NoPackages string               `json:"no_packages,omitempty"` // why there are none, though they are asked for
	Packages   []dpkg.Package       `json:"packages,omitempty"`    // that the guest says it has now, when they are asked for
}

// InspectedPartition is a partition and what is on it.
type InspectedPartition struct {
	receipt.Partition
	TypeName   string               `json:"type_name"`
	Filesystem *InspectedFilesystem `json:"filesystem,omitempty"`
}

// InspectedFilesystem is what a filesystem, or another known content, says of itself.
type InspectedFilesystem struct {
	Type      string `json:"type"`
	UUID      string `json:"uuid,omitempty"`
	Label     string `json:"label,omitempty"`
	SizeBytes int64  `json:"size_bytes,omitempty"`
	UsedBytes int64  `json:"used_bytes,omitempty"`
	Fault     string `json:"fault,omitempty"` // why it isn't known
}

// Inspect looks at a disk, which a guest may have written, and changes no byte of
// it. Its filesystem is mounted, read-only, only for the receipt, and only if
// nothing uses the disk and it was unmounted cleanly; with packages, for these as well, and with
// keys for the receipt's signature.
func Inspect(ctx context.Context, s *session.Session, path string, fsck Fsck, packages bool, keys *receipt.Keys) (*Inspection, error) {
	d, usedBy, err := Look(ctx, s, path, fsck)
	if err != nil {
		return nil, err
	}
	if d.SizeBytes < partition.SectorSize {
		return nil, fmt.Errorf("disk %s has %d bytes: no disk has less than a sector of %d", path, d.SizeBytes, partition.SectorSize)
	}
	in := &Inspection{Disk: path, SizeBytes: d.SizeBytes, InUse: usedBy}
	layout, err := partition.Read(d.File(), d.SizeBytes)
	if in.Style, in.ID = string(layout.Style), layout.DiskID; err != nil {
		in.Style, in.Fault = "unknown", err.Error()
	}
	loader, _, loaderErr := boot.Loader(d.File(), layout)
	if loaderErr != nil {
		return nil, fmt.Errorf("disk %s: %w", path, loaderErr)
	}
	in.BootLoader = cmp.Or(loader, "none")
	if in.Style == string(partition.StyleNone) {
		if in.Filesystem = d.filesystemAt(ctx, 0, d.SizeBytes); in.Filesystem == nil {
			in.Hint = hint(d.File())
		}
	}
	for i, entry := range receipt.Partitions(layout) {
		p := InspectedPartition{Partition: entry, TypeName: layout.Partitions[i].TypeName()}
		if err == nil { // else it may lie anywhere
			p.Filesystem = d.filesystemAt(ctx, layout.Partitions[i].Offset(), layout.Partitions[i].SizeBytes())
		}
		in.Partitions = append(in.Partitions, p)
	}
	if usedBy != "" {
		in.NoReceipt = "the disk is in use"
		if packages {
			in.NoPackages = in.NoReceipt
		}
		return in, nil
	}
	d.inspectGuest(ctx, in, packages, keys)
	return in, nil
}

// inspectGuest looks into the guest's filesystem.
func (d *Disk) inspectGuest(ctx context.Context, in *Inspection, packages bool, keys *receipt.Keys) {
	var noPackages error
	err := d.readGuest(ctx, func(root *guest.Root) (err error) {
		if packages {
			in.Suite = guest.ReadSuite(root)
			if in.Packages, noPackages = guest.ReadPackages(root); noPackages == nil && in.Packages == nil {
				noPackages = errors.New("the guest has no list of them")
			}
		}
		if keys != nil {
			in.Signature = keys.Verify(root)
		}
		in.Receipt, err = receipt.Read(root)
		return err
	})
	if err != nil {
		in.NoReceipt = err.Error()
	}
	if packages && in.Packages == nil {
		in.NoPackages = cmp.Or(noPackages, err).Error()
	}
}

// filesystemAt probes a part of the disk, in bytes; nil is nothing that is known.
func (d *Disk) filesystemAt(ctx context.Context, offset, sizeBytes int64) *InspectedFilesystem {
	found, claim, err, _ := probe(ctx, d.Node(), d.File(), offset, sizeBytes)
	if err != nil {
		why := err.Error()
		if errno := syscall.Errno(0); errors.As(err, &errno) {
			why = "it can't be read: " + errno.Error()
		}
		return &InspectedFilesystem{Fault: why}
	}
	if found.Type == "" {
		return nil
	}
	return &InspectedFilesystem{Type: found.Type, UUID: found.UUID, Label: found.Label, SizeBytes: claim.SizeBytes, UsedBytes: claim.UsedBytes}
}

// readGuest mounts the root filesystem, read-only from a device that can't be written to, and
// has its files read.
func (d *Disk) readGuest(ctx context.Context, read func(*guest.Root) error) error {
	_, root, err := d.Root()
	if err != nil {
		return err
	}
	part, err := d.Attach(ctx, root, true)
	if err != nil {
		return err
	}
	tree, err := part.mountClean(ctx)
	if err == nil {
		err = d.MountBeside(ctx, tree, "/var/lib", false)
	}
	if err != nil {
		return err
	}
	return tree.Edit(ctx, read)
}
