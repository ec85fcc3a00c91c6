package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/hooks"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// before is what hooks, or kept files, found in the guest: what of it is another afterwards, they
// meant.
type before struct {
	hooksRan bool
	network  guest.NetworkFiles
	menu     string // the fingerprint of boot.LegacyMenu, which a package may have written
}

func lookBeforeHooks(ctx context.Context, r rootDisk) (b before, err error) {
	b.hooksRan = true
	err = guest.Edit(ctx, r.target, func(root *guest.Root) (err error) {
		if b.network, err = guest.ReadNetworkFiles(root); err == nil {
			b.menu, err = root.Fingerprint(boot.LegacyMenu)
		}
		return err
	})
	return b, err
}

// networkFiles lists the network files that the hooks have written.
func (b before) networkFiles(root *guest.Root) ([]string, error) {
	if !b.hooksRan {
		return nil, nil
	}
	now, err := guest.ReadNetworkFiles(root)
	return now.Since(b.network), err
}

// legacyMenu tells whether a hook has written a menu for GRUB legacy that can stay.
func (b before) legacyMenu(ctx context.Context, root *guest.Root) (bool, error) {
	now, err := root.Fingerprint(boot.LegacyMenu)
	if err != nil || !b.hooksRan || now == "" || now == b.menu {
		return false, err
	}
	if boot.NamesNodesDevice(root, boot.LegacyMenu) {
		tell.Warn(ctx, "the hook's %s names a device of this node's: the guest can't start by it", boot.LegacyMenu)
		return false, nil
	}
	tell.Info(ctx, "a hook has written %s: it stays as it is", boot.LegacyMenu)
	return true, nil
}

func (o *Order) hasHooks(context.Context) (bool, string) {
	names, err := hooks.List(o.Settings.CustomizeDir)
	if _, refused := hooks.Trusted(o.Settings.CustomizeDir, o.StrictFiles()); refused != nil {
		return true, refused.Error()
	}
	switch {
	case err != nil:
		return true, err.Error()
	case len(names) == 0:
		return false, "no hook in " + o.Settings.CustomizeDir
	}
	return true, joinPaths(names)
}

// customize runs the hooks, and makes the rest of the guest fit what they did. The table
// of the disk that it returns may be one that they changed.
func customize(ctx context.Context, s *session.Session, c Choice, diskBytes int64, r rootDisk) (rootDisk, before, error) {
	b, err := lookBeforeHooks(ctx, r)
	if err == nil {
		err = runHooks(ctx, s, c.Order, r)
	}
	if err == nil {
		err = guest.Edit(ctx, r.target, func(root *guest.Root) (err error) {
			if r.table, err = heedTable(ctx, c, diskBytes, r, root); err != nil {
				return err
			}
			return nameInterfaces(ctx, c.Order, "a hook's", b, root)
		})
	}
	return r, b, err
}

// runHooks runs the admin's scripts from CUSTOMIZE_DIR, as run-parts would,
// with the guest's tree mounted on TARGET.
func runHooks(ctx context.Context, s *session.Session, o *Order, r rootDisk) (err error) {
	if restore, err := s.CoverDev(r.devLinks(o)); err != nil {
		tell.Info(ctx, "a hook's bind mount of /dev shows the node's /dev/disk: %v", err)
	} else {
		defer func() { err = errors.Join(err, restore()) }()
	}
	if restore, err := s.GiveSys(r.target); err != nil {
		tell.Info(ctx, "hooks have no /sys in TARGET unless they mount one: %v", err)
	} else {
		defer func() { err = errors.Join(err, restore()) }()
	}
	unset := func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(o.Settings.Unexported, name)
	}
	received := slices.DeleteFunc(slices.Clone(o.Request.Environ), unset)
	env := hooks.Environ(received, hookVariables(o, r), o.Settings.Exported)
	run := hooks.Run{Dir: o.Settings.CustomizeDir, WorkDir: paths.OSDir, Env: env, Strict: o.StrictFiles()}
	return protected(ctx, s, o, r.target, run.All)
}

// protected runs hooks on a node that is read-only to them, if that is asked for.
func protected(ctx context.Context, s *session.Session, o *Order, target string, run func(context.Context) error) error {
	if !o.Settings.ProtectNode {
		return run(ctx)
	}
	writable := o.Settings.NodeWritable
	err := s.ProtectNode(target, writable, func() error { return run(ctx) })
	if err != nil && context.Cause(ctx) == nil && strings.Contains(err.Error(), "Read-only file system") {
		err = fmt.Errorf("%w (PROTECT_NODE=yes: the node is read-only to hooks but for TARGET, /dev and NODE_WRITABLE: %s)", err, joinPaths(writable))
	}
	return err
}

// checkProtection refuses PROTECT_NODE where the node's daemons are to see what hooks do.
func (o *Order) checkProtection() error {
	if !o.Settings.ProtectNode {
		return nil
	}
	if o.Settings.Namespace == "host" {
		return errors.New("PROTECT_NODE=yes and NAMESPACE=host exclude each other: the one hides from the node what the other shows it")
	}
	for _, dir := range o.Settings.NodeWritable {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return fmt.Errorf("NODE_WRITABLE: %s is not a folder of this node: make it, or leave it out", dir)
		}
	}
	return nil
}

// hookVariables is what hooks are given beside Ganeti's own variables and
// what the settings files export.
func hookVariables(o *Order, r rootDisk) map[string]string {
	s := o.Settings
	vars := map[string]string{
		"TARGET": r.target, "BLOCKDEV": r.loop.Path, "FSYSDEV": r.device,
		"SUITE": s.Suite, "ARCH": s.Arch, "PARTITION_STYLE": s.PartitionStyle,
		"EXTRA_PKGS": s.Raw["EXTRA_PKGS"], "COMPONENTS": s.Raw["COMPONENTS"],
		"MIRROR": s.Mirror, "PROXY": s.Proxy,
		// What a hook writes to the disk itself the loop device doesn't see, where it
		// has read that part before, and writes over; a file could be destroyed.
		fmt.Sprintf("DISK_%d_PATH", o.Request.Root): r.loop.Path,
	}
	if s.Proxy != "" {
		vars["http_proxy"], vars["https_proxy"] = s.Proxy, s.Proxy
	}
	return vars
}

// heedTable looks at the partition table that the hooks leave on BLOCKDEV, and returns it.
// The partitions that this run has made filesystems on must be where they were; what
// else a hook has done to the table stays as it is.
func heedTable(ctx context.Context, c Choice, diskBytes int64, r rootDisk, root *guest.Root) (partition.Layout, error) {
	if r.table.Style == partition.StyleNone {
		return r.table, nil
	}
	disk, err := os.Open(r.loop.Path)
	if err != nil {
		return r.table, err
	}
	defer disk.Close()
	now, err := partition.Read(disk, diskBytes)
	if err != nil {
		return r.table, fmt.Errorf("a hook has damaged the partition table of %s: %w", c.Disk(), err)
	}
	if why := r.table.MovedIn(now); why != "" {
		return r.table, fmt.Errorf("a hook has changed the partition table of %s: %s; to write boot code, let it write the 440 bytes before the table only (dd bs=440 count=1 conv=notrunc)", c.Disk(), why)
	}
	if r.table.Equal(now) {
		return r.table, nil
	}
	tell.Info(ctx, "a hook has changed the partition table: it stays as it is")
	if r.table.DiskID == now.DiskID || c.Boot.Loader != "grub" || c.BootPath != "" {
		return now, nil
	}
	return now, boot.WriteUdevRules(root, now.DiskID)
}
