package install

import (
	"context"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/network"
	"instance-debootstrap/pkg/tell"
)

// configureGuest writes the files that make the tree this instance's own. What it returns
// is for restoring the guest's resolv.conf, when the hooks no longer need the node's.
func configureGuest(ctx context.Context, c Choice, d disks, r rootDisk, swapUUIDs []string) (resolv guest.ResolvConf, err error) {
	node, err := guest.ReadNode(ctx, "/")
	if err != nil {
		return resolv, err
	}
	own := c.ownResolvConf(node.ResolvConf)
	if own != nil && (c.ResolvConf != nil || node.ResolvConf == nil) {
		node.ResolvConf = own
	}
	readOnly := c.isReadOnly(c.Request.BlockDev)
	if readOnly {
		tell.Warn(ctx, "the guest can't write to its root, whose disk is read-only (DISK_%[1]d_ACCESS=ro): it mounts it ro, and keeps nothing; gnt-instance modify --disk %[1]d:modify,mode=rw and a reinstall change that", c.Request.Root)
	}
	options, pass := filesystem.FstabOptions(c.fstype(), readOnly)
	options = inSubvolume(options, c.rootLine())
	err = guest.Edit(ctx, r.target, func(root *guest.Root) (err error) {
		resolv, err = guest.Configure(ctx, root, guest.Identity{
			InstanceName: c.Request.InstanceName,
			Filesystem:   c.Settings.Filesystem, RootUUID: r.uuid, RootOptions: options, RootPass: pass,
			SwapUUIDs:    append(r.swapUUIDs(), swapUUIDs...),
			SwapFile:     c.swapFileBytes() > 0,
			Folders:      append(d.boot.mounts(c.Order), r.folderMounts(readOnly)...),
			DataDisks:    dataMounts(d.data),
			ESPUUID:      r.esp.uuid(),
			Ports:        c.console.Ports(),
			RootPassword: c.passwordField(),
			Node:         node,
		})
		resolv.Own = own
		if err == nil {
			err = authorizeKeys(root, c.keys)
		}
		if err == nil {
			err = prepareBoot(c, d, r, root)
		}
		return err
	})
	return resolv, err
}

// ownResolvConf is the guest's resolv.conf where it isn't this node's; nil else.
func (o *Order) ownResolvConf(node []byte) []byte {
	dns := network.DNS{Servers: o.Settings.DNSServers, Search: o.Settings.DNSSearch}
	if o.ResolvConf != nil || len(dns.Servers)+len(dns.Search) == 0 {
		return o.ResolvConf
	}
	return []byte(dns.In(string(node)))
}

// prepareBoot writes what the guest's update-grub and its packages' upgrades have
// to know, before the hooks, which may run them.
func prepareBoot(c Choice, d disks, r rootDisk, root *guest.Root) error {
	if c.Boot.Loader == "" {
		return nil
	}
	err := boot.WriteDefaults(root, c.console)
	if err == nil {
		err = boot.WriteDeviceTimeout(root)
	}
	if err == nil && c.Boot.Loader == "grub" {
		table := r.table
		if d.boot != nil {
			table = d.boot.table
		}
		err = boot.WriteUdevRules(root, table.DiskID)
	}
	if err == nil && c.Boot.UEFI {
		err = root.MkdirAll("/boot/efi", 0o700)
	}
	return err
}

// hostKeyTypes are what a guest's ssh server is known by from the start.
var hostKeyTypes = []string{"ed25519", "ecdsa"}

// makeHostKeys gives a guest with an ssh server host keys of its own: those of
// the tree were removed, since they would be every guest's. The node makes those by
// which the guest is known, in the log, the receipt and to vm ssh; RSA, which takes a
// second of CPU, the guest makes itself at its first boot. A hook may replace them.
func makeHostKeys(ctx context.Context, instance string, r rootDisk) error {
	hasServer := false
	err := guest.Edit(ctx, r.target, func(root *guest.Root) error {
		hasServer = root.Exists(sshdPath) && root.Exists("/usr/bin/ssh-keygen")
		return nil
	})
	if err != nil || !hasServer {
		return err
	}
	for _, keyType := range hostKeyTypes {
		err := command.Run(ctx, command.Cmd{Chroot: r.target, Quiet: true, Args: []string{
			"ssh-keygen", "-q", "-t", keyType, "-N", "", "-C", "root@" + instance, "-f", "/etc/ssh/ssh_host_" + keyType + "_key",
		}})
		if err != nil {
			tell.Warn(ctx, "the guest has no ssh host key of type %s: %v: run ssh-keygen -A in it", keyType, err)
		}
	}
	return wantRSAKey(ctx, r)
}

// wantRSAKey leaves the RSA key to the guest's first boot. A guest that can't is reached
// by the others.
func wantRSAKey(ctx context.Context, r rootDisk) error {
	var enable []string
	err := guest.Edit(ctx, r.target, func(root *guest.Root) (err error) {
		enable, err = guest.WantRSAKey(root)
		return err
	})
	if err == nil && enable != nil {
		err = command.Run(ctx, command.Cmd{Chroot: r.target, Quiet: true, Args: enable})
	}
	if err != nil && context.Cause(ctx) == nil {
		tell.Warn(ctx, "the guest's ssh server gets no RSA key at its first boot: %v: run ssh-keygen -A in it", err)
	}
	return context.Cause(ctx)
}

// finishGuest takes back what was only for the time of the hooks, and looks at
// what they have left: it returns by what the guest's ssh server is known.
func finishGuest(ctx context.Context, c Choice, r rootDisk, boots bool, resolv guest.ResolvConf) (keys []guest.HostKey, err error) {
	err = guest.Edit(ctx, r.target, func(root *guest.Root) error {
		keys = lookAtHostKeys(ctx, root, c.Request.InstanceName, c.keys)
		lookAtLife(ctx, c.Request, root, boots)
		c.lookForAgent(ctx, root)
		c.lookAtFirstBoot(ctx, root)
		return guest.RestoreResolvConf(ctx, root, resolv)
	})
	return keys, err
}
