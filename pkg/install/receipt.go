package install

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/kept"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/receipt"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/tell"
)

// installed is what a run has made, for its receipt.
type installed struct {
	disks     disks
	tree      *cache.Entry // nil: it was bootstrapped in its place
	root      rootDisk
	swapUUIDs []string
	boot      booting
	hostKeys  []guest.HostKey
	kept      *kept.Held // nil is nothing
}

// receiptOf says what was installed, and which packages; root is the finished guest.
func receiptOf(c Choice, in installed, root *guest.Root) (filed receipt.Filed, err error) {
	s, q := c.Settings, c.Request
	r := receipt.Receipt{
		Format: 1, Tool: "instance-debootstrap " + paths.Version, Installed: time.Now().UTC().Truncate(time.Second),
		Instance: q.InstanceName, Suite: s.Suite, Snapshot: s.Snapshot, Arch: c.Arch, Variant: q.Variant, Mirror: bootstrap.PublicURL(s.Mirror),
		Tree:        receipt.Tree{Source: "direct", By: c.Tool.Name + " " + c.Tool.Version},
		Boot:        bootReceipt(c, in.boot),
		Network:     string(guest.ChooseRenderer(root)),
		SSHServer:   root.Exists(sshdPath),
		SSHHostKeys: in.hostKeys,
	}
	if in.kept != nil {
		r.Kept = &receipt.FromBefore{ID: in.kept.ID, Paths: in.kept.Paths}
	}
	if q.PrimaryNode != "" {
		r.Nodes = &receipt.Nodes{Primary: q.PrimaryNode, Secondary: strings.Fields(q.SecondaryNodes)}
	}
	if in.tree != nil {
		r.Tree = receipt.Tree{Source: in.tree.Source, Key: in.tree.Key, SHA256: in.tree.Seen}
		if from := in.tree.DerivedFrom; from != nil {
			r.Tree.DerivedFrom = from.Key
		}
		if r.Tree.Key != "" {
			r.Tree.By = c.Tool.Name + " " + c.Tool.Version
		}
	}
	table := in.root.table
	r.Disk = receipt.Disk{
		SizeBytes: in.disks.root.SizeBytes, Style: string(table.Style), ID: table.DiskID, Partitions: receipt.Partitions(table),
		Root: receipt.Filesystem{Folder: "/", Type: s.Filesystem, UUID: in.root.uuid, Subvolume: c.rootLine().Subvolume}, Layout: s.Layout, Folders: in.root.folderReceipts(), ESPUUID: in.root.esp.uuid(), SwapUUIDs: append(in.root.swapUUIDs(), in.swapUUIDs...), SwapFile: c.swapFileBytes(),
	}
	for _, d := range in.disks.data {
		r.Disk.Data = append(r.Disk.Data, receipt.Filesystem{Folder: d.want.Folder, Type: d.want.Filesystem, UUID: d.uuid})
	}
	filed.Instance, filed.UUID, filed.Receipt = q.InstanceName, q.InstanceUUID, r
	sources, err := bootstrap.ReadSources(root)
	if err != nil {
		return filed, err
	}
	for _, s := range sources { // a hook's may have a password
		filed.Receipt.Sources = append(filed.Receipt.Sources, pattern.MaskUserinfo(s))
	}
	filed.Packages, err = guest.ReadPackages(root)
	filed.Receipt.Packages = guest.Count(filed.Packages)
	return filed, err
}

func bootReceipt(c Choice, made booting) receipt.Boot {
	b := receipt.Boot{Loader: made.by, Kernel: made.kernel.Version}
	switch b.Loader {
	case "":
		b.Loader = "none"
	case "grub":
		if c.Boot.BIOS {
			b.Firmware = append(b.Firmware, "bios")
		}
		if c.Boot.UEFI {
			b.Firmware = append(b.Firmware, "uefi")
		}
	}
	return b
}

// makeReceipt describes the guest after the hooks, while all of it is one tree.
func makeReceipt(ctx context.Context, c Choice, in installed) (filed receipt.Filed, err error) {
	err = guest.Edit(ctx, in.root.target, func(root *guest.Root) error {
		if filed, err = receiptOf(c, in, root); err != nil {
			tell.Warn(ctx, "the receipt has no packages: %v", err)
		}
		return nil
	})
	return filed, err
}

// writeReceipt puts the receipt into the guest, when all else is durable on its disks. A guest
// whose hooks left no room or place for it is whole without.
func writeReceipt(ctx context.Context, s *session.Session, c Choice, in installed, r receipt.Receipt) error {
	if err := in.sync(); err != nil {
		return err
	}
	write := func(root *guest.Root) error {
		if err := r.Write(root, c.signer); err != nil {
			tell.Warn(ctx, "the guest has no receipt, or none that is signed; it is in this log: %v", err)
		}
		return nil
	}
	p := in.root.partWith(receipt.File)
	if p == nil {
		return guest.Edit(ctx, in.root.target, write)
	}
	mark := s.Mark()
	dir, err := mountFolder(ctx, s, in.root, p.device, p.line.Subvolume, filesystem.Type(p.line.Filesystem))
	if err == nil {
		err = guest.Edit(ctx, in.root.target, func(root *guest.Root) error {
			if err := root.Graft(p.line.Folder, dir); err != nil {
				return err
			}
			return write(root)
		})
	}
	return errors.Join(err, s.UndoTo(ctx, mark))
}

// sync makes durable what was made so far. What was moved is.
func (in installed) sync() error {
	top, err := os.Open(in.root.target)
	err = cmp.Or(err, filesystem.SyncTree(top), in.root.loop.Sync(), in.disks.root.MakeDurable())
	if in.root.esp.device != "" {
		err = cmp.Or(err, filesystem.SyncDevice(in.root.esp.device))
	}
	if in.disks.boot != nil {
		err = cmp.Or(err, in.disks.boot.loop.Sync(), in.disks.boot.disk.MakeDurable())
	}
	return err
}

// keepReceipt keeps it on the node. A guest that the node has no room for a note of is whole
// without.
func keepReceipt(ctx context.Context, filed receipt.Filed) {
	if err := filed.Keep(paths.StateDir); err != nil {
		tell.Warn(ctx, "the node keeps no receipt of the guest, which audit won't know: %v", err)
	}
}

// ForgetReceipt is for an instance that has another guest now, or none. What is made by hand
// has no UUID of Ganeti's, and leaves Ganeti's instances alone.
func ForgetReceipt(ctx context.Context, instance, uuid string) {
	if !receipt.IsOf(paths.StateDir, instance, uuid) {
		return
	}
	if err := receipt.Forget(paths.StateDir, instance); err != nil {
		tell.Warn(ctx, "the node keeps the receipt of an earlier guest, which audit shows: %v", err)
	}
}

// Report is what a run that ended well has to say.
type Report struct {
	Receipt  receipt.Receipt
	disk     string // as the admin knows it
	took     time.Duration
	settings *settings.Settings
}

// Log writes the receipt into the log, as one line of JSON.
func (r Report) Log(ctx context.Context) error {
	line, err := json.Marshal(r.Receipt)
	if err != nil {
		return err
	}
	zerolog.Ctx(ctx).Info().RawJSON("receipt", line).Msg("the receipt of " + r.Receipt.Instance)
	return nil
}

// trees says where a tree came from, for a sentence.
var trees = map[string]string{
	"hit": "from a cached tree", "built": "from a tree that is cached now", "edited": "from a cached tree that was edited",
	"admin": "from the admin's own tree", "fallback": "from the admin's own tree, since no other could be had", "direct": "bootstrapped in place",
}

// String is the report in one sentence.
func (r Report) String() string {
	c := r.Receipt
	suite := c.Suite + " " + c.Arch
	if c.Snapshot != "" {
		suite += " of " + settings.ShowSnapshot(c.Snapshot)
	}
	if c.Variant != "" && c.Variant != "default" {
		suite += " (variant " + c.Variant + ")"
	}
	boots := "no kernel, which the hypervisor must bring"
	switch {
	case c.Boot.Loader == "hook":
		boots = "a hook's boot loader"
	case c.Boot.Kernel != "":
		boots = "kernel " + c.Boot.Kernel
	}
	if len(c.Boot.Firmware) > 0 {
		boots += ", GRUB for " + strings.ReplaceAll(strings.ToUpper(strings.Join(c.Boot.Firmware, " ")), " ", " and ")
	}
	layout := c.Disk.Root.Type
	if c.Disk.Layout != "" {
		layout = "layout " + c.Disk.Layout
	} else if c.Disk.Style != "none" {
		layout += " on " + c.Disk.Style
	}
	return fmt.Sprintf("%s is installed on %s (%s, %s): %s, %d packages, %s, in %.1f s, %s", c.Instance, r.disk, tell.MiB(c.Disk.SizeBytes), layout,
		suite, c.Packages.Count, boots, r.took.Seconds(), trees[c.Tree.Source])
}
