package debootstrap

import (
	"cmp"
	"context"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/network"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/receipt"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// Rename changes the host name inside the guest (gnt-instance rename, and after
// every import). The guest has had the disk: nothing on it is trusted.
func Rename(ctx context.Context, s *session.Session, o *install.Order) error {
	err := onDisks(ctx, s, o, false, func(o *install.Order) error { return s.Do(ctx, renameSteps(s, o)) })
	if err != nil {
		return err
	}
	req := o.Request
	if err := receipt.RenameFiled(paths.StateDir, req.InstanceUUID, req.OldInstanceName, req.InstanceName); err != nil {
		tell.Warn(ctx, "the receipt that the node keeps has the old name: %v", err)
	}
	return nil
}

// renameInside is what is left to do where we don't know the root.
const renameInside = "rename the guest from inside"

// renameSteps is the recipe.
func renameSteps(s *session.Session, o *install.Order) []session.Step {
	req, fsck := o.Request, guestdisk.Fsck(o.Settings.GuestFsck)
	path, mark := req.BlockDev, s.Mark()
	var disk *guestdisk.Disk
	var part *guestdisk.Part
	var tree *guestdisk.Tree
	known := func(ctx context.Context) (string, error) {
		seen, err := guestdisk.See(ctx, path)
		if err != nil {
			return "", err
		}
		return seen.String(), cmp.Or(seen.MayClaim(true), seen.MayMountRoot(renameInside))
	}
	return []session.Step{
		{Name: "claim the disk", Detail: path, Known: known, Run: func(context.Context) (err error) {
			disk, err = guestdisk.Claim(s, path, fsck)
			return err
		}},
		{Name: "find the root filesystem", Detail: path, Run: func(ctx context.Context) (err error) {
			part, err = disk.AttachRoot(ctx, renameInside)
			return err
		}},
		{Name: "mount the root filesystem", Detail: path, Run: func(ctx context.Context) (err error) {
			if tree, err = part.MountRepaired(ctx); err == nil {
				err = disk.MountBeside(ctx, tree, "/var/lib/cloud", true) // what cloud-init was told
			}
			return err
		}},
		{Name: "change the host name", Detail: req.OldInstanceName + " to " + req.InstanceName, Run: func(ctx context.Context) error {
			return tree.Edit(ctx, func(root *guest.Root) error { return guest.Rename(root, req.OldInstanceName, req.InstanceName) })
		}},
		{Name: "pin the network interfaces", Detail: "by their MAC addresses", Run: func(ctx context.Context) error {
			return tree.Edit(ctx, func(root *guest.Root) error { return renameInterfaces(ctx, root, install.GanetiNICs(req)) })
		}},
		{Name: "unmount, sync and release the disk", Detail: path, Run: func(ctx context.Context) error {
			return s.UndoTo(ctx, mark)
		}},
	}
}

// renameInterfaces keeps the names of the guest's network interfaces with an
// instance that has other MAC addresses, as an import under another name has.
func renameInterfaces(ctx context.Context, root *guest.Root, nics []network.NIC) error {
	changed, err := guest.RepinNetwork(root, network.BothPins(nics))
	if changed {
		tell.Info(ctx, "the guest's network interfaces keep their names, with this instance's MAC addresses")
	}
	if err != nil {
		return err
	}
	for _, nic := range nics {
		if nic.IP != "" && guest.HasOtherAddress(root, nic.Index, nic.IP) {
			tell.Warn(ctx, "NIC %d of the instance has %s in Ganeti, and another address in the guest, where it stays as it was: change one of them before both guests run", nic.Index, nic.IP)
		}
	}
	return nil
}
