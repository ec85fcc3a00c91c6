package debootstrap

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
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
	BootLoader string               `json:"boot_loader"`          // by its boot record and partitions; none
	Receipt    *Receipt             `json:"receipt,omitempty"`
	NoReceipt  string               `json:"no_receipt,omitempty"` // why there is none
}

// InspectedPartition is a partition and what is on it.
type InspectedPartition struct {
	PartitionEntry
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
}

// maxReceipt bounds, in bytes, what is read of a guest's receipt.
const maxReceipt = 256 << 10

// Inspect looks at a disk, which a guest may have written, and changes no byte of
// it. Its filesystem is mounted, read-only, only for the receipt, and only if
// nothing uses the disk and it was unmounted cleanly.
func Inspect(ctx context.Context, s *session.Session, j *Job) (*Inspection, error) {
	j.begin(s)
	path := j.Request.BlockDev
	d, usedBy, err := blockdev.OpenToLook(path, paths.LockDir, s.HostProc)
	if err != nil {
		return nil, err
	}
	j.disk = d
	s.Defer("release "+path, func(context.Context) error { return d.Close() })
	sector0 := make([]byte, partition.SectorSize)
	if _, err := d.File().ReadAt(sector0, 0); err != nil {
		return nil, fmt.Errorf("disk %s: %w", path, err)
	}
	in := &Inspection{Disk: path, SizeBytes: d.SizeBytes, InUse: usedBy}
	layout, err := partition.Read(d.File(), d.SizeBytes)
	if in.Style, in.ID = string(layout.Style), layout.DiskID; err != nil {
		in.Style, in.Fault = "unknown", err.Error()
	}
	in.BootLoader = cmp.Or(boot.Loader(sector0, layout), "none")
	if in.Style == string(partition.StyleNone) {
		in.Filesystem = j.filesystemAt(ctx, 0, d.SizeBytes)
	}
	for i, entry := range partitionEntries(layout) {
		p := InspectedPartition{PartitionEntry: entry, TypeName: layout.Partitions[i].TypeName()}
		if err == nil { // else it may lie anywhere
			p.Filesystem = j.filesystemAt(ctx, p.StartSector*partition.SectorSize, p.Sectors*partition.SectorSize)
		}
		in.Partitions = append(in.Partitions, p)
	}
	if usedBy != "" {
		in.NoReceipt = "the disk is in use"
		return in, nil
	}
	if in.Receipt, err = j.readReceipt(ctx); err != nil {
		in.NoReceipt = err.Error()
	}
	return in, nil
}

// filesystemAt probes a part of the disk, in bytes; nil is nothing that is known.
func (j *Job) filesystemAt(ctx context.Context, offset, sizeBytes int64) *InspectedFilesystem {
	found, err := filesystem.ProbeAt(ctx, j.disk.Node(), offset, sizeBytes)
	if err != nil {
		warn(ctx, "%v", err)
	}
	if found.Type == "" {
		return nil
	}
	f := &InspectedFilesystem{Type: found.Type, UUID: found.UUID, Label: found.Label}
	if t, err := filesystem.ParseType(found.Type); err == nil {
		if claim, err := filesystem.ReadClaim(j.disk.File(), offset, t); err == nil {
			f.SizeBytes, f.UsedBytes = claim.SizeBytes, claim.UsedBytes
		}
	}
	return f
}

// readReceipt mounts the root filesystem, read-only from a device that can't be
// written to, and reads the receipt. The error says why there is none.
func (j *Job) readReceipt(ctx context.Context) (*Receipt, error) {
	_, root, why := j.rootOf()
	if why != "" {
		return nil, fmt.Errorf("the layout is none of ours: %s", why)
	}
	if err := j.attachPart(ctx, root, true); err != nil {
		return nil, err
	}
	t, err := j.probeType(ctx)
	if err != nil {
		return nil, err
	}
	clean, why, err := filesystem.IsClean(j.fsysDev, t)
	if err != nil {
		return nil, err
	}
	if !clean {
		return nil, fmt.Errorf("the filesystem was not unmounted cleanly (%s): it isn't mounted", why)
	}
	if err := j.mountHostile(ctx, t, true); err != nil {
		return nil, err
	}
	var r Receipt
	err = j.inGuest(ctx, func(root *guest.Root) error {
		text, err := root.ReadFile(receiptFile, maxReceipt)
		if errors.Is(err, fs.ErrNotExist) {
			return errors.New("the guest has no " + receiptFile)
		}
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &r, nil
}
