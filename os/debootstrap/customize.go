package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/hooks"
	"instance-debootstrap/pkg/network"
	"instance-debootstrap/pkg/paths"
)

// configureGuest writes the files that make the tree this instance's own.
func (j *Job) configureGuest(ctx context.Context) error {
	node, err := guest.ReadNode(ctx, "/")
	if err != nil {
		return err
	}
	own := j.ownResolvConf(node.ResolvConf)
	if own != nil && (j.ResolvConf != nil || node.ResolvConf == nil) {
		node.ResolvConf = own
	}
	readOnly := j.isReadOnly(j.Request.BlockDev)
	if readOnly {
		warn(ctx, "the guest can't write to its root, whose disk is read-only (DISK_0_ACCESS=ro): it mounts it ro, and keeps nothing; gnt-instance modify --disk 0:modify,mode=rw and a reinstall change that")
	}
	options, pass := filesystem.FstabOptions(j.fstype(), readOnly)
	return j.inGuest(ctx, func(root *guest.Root) (err error) {
		j.resolv, err = guest.Configure(ctx, root, guest.Identity{
			InstanceName: j.Request.InstanceName,
			Filesystem:   j.Settings.Filesystem, RootUUID: j.rootUUID, RootOptions: options, RootPass: pass,
			SwapUUIDs:    j.swapUUID,
			SwapFile:     j.swapFileBytes() > 0,
			Boot:         j.bootMount(),
			DataDisks:    j.dataMounts(),
			ESPUUID:      j.espUUID(),
			Ports:        j.boot.console.Ports(),
			RootPassword: j.passwordField(),
			Node:         node,
		})
		j.resolv.Own = own
		if err == nil {
			err = j.letIn(root)
		}
		if err == nil {
			err = j.prepareBoot(root)
		}
		return err
	})
}

// ownResolvConf is the guest's resolv.conf where it isn't this node's; nil else.
func (j *Job) ownResolvConf(node []byte) []byte {
	dns := network.DNS{Servers: j.Settings.DNSServers, Search: j.Settings.DNSSearch}
	if j.ResolvConf != nil || len(dns.Servers)+len(dns.Search) == 0 {
		return j.ResolvConf
	}
	return []byte(dns.In(string(node)))
}

// hostKeyTypes are what a guest's ssh server is known by from the start.
var hostKeyTypes = []string{"ed25519", "ecdsa"}

// makeHostKeys gives a guest with an ssh server host keys of its own: those of
// the tree were removed, since they would be every guest's. The node makes those by
// which the guest is known, in the log, the receipt and to vm ssh; RSA, which takes a
// second of CPU, the guest makes itself at its first boot. A hook may replace them.
func (j *Job) makeHostKeys(ctx context.Context) error {
	hasServer := false
	err := j.inGuest(ctx, func(root *guest.Root) error {
		hasServer = root.Exists(sshdPath) && root.Exists("/usr/bin/ssh-keygen")
		return nil
	})
	if err != nil || !hasServer {
		return err
	}
	for _, keyType := range hostKeyTypes {
		err := command.Run(ctx, command.Cmd{Chroot: j.target, Quiet: true, Args: []string{
			"ssh-keygen", "-q", "-t", keyType, "-N", "", "-C", "root@" + j.Request.InstanceName, "-f", "/etc/ssh/ssh_host_" + keyType + "_key",
		}})
		if err != nil {
			zerolog.Ctx(ctx).Warn().Err(err).Msg("the guest has no ssh host key of type " + keyType + ": run ssh-keygen -A in it")
		}
	}
	return j.wantRSAKey(ctx)
}

// wantRSAKey leaves the RSA key to the guest's first boot. A guest that can't is reached
// by the others.
func (j *Job) wantRSAKey(ctx context.Context) error {
	var enable []string
	err := j.inGuest(ctx, func(root *guest.Root) (err error) {
		enable, err = guest.WantRSAKey(root)
		return err
	})
	if err == nil && enable != nil {
		err = command.Run(ctx, command.Cmd{Chroot: j.target, Quiet: true, Args: enable})
	}
	if err != nil && context.Cause(ctx) == nil {
		warn(ctx, "the guest's ssh server gets no RSA key at its first boot: %v: run ssh-keygen -A in it", err)
	}
	return context.Cause(ctx)
}

// finishGuest takes back what was only for the time of the hooks, and looks at
// what they have left.
func (j *Job) finishGuest(ctx context.Context) error {
	return j.inGuest(ctx, func(root *guest.Root) error {
		j.lookAtHostKeys(ctx, root)
		j.lookAtLife(ctx, root)
		j.lookForAgent(ctx, root)
		return guest.RestoreResolvConf(ctx, root, j.resolv)
	})
}

// inGuest opens the guest's tree for reading and writing its files.
func (j *Job) inGuest(ctx context.Context, edit func(*guest.Root) error) error {
	root, err := guest.OpenRoot(ctx, j.target)
	if err != nil {
		return err
	}
	return errors.Join(edit(root), root.Close())
}

// strictFiles says that what a group or another user than root can change is refused.
func (j *Job) strictFiles() bool { return j.Settings.SharedFiles == "refuse" }

// runHooks runs the admin's scripts from CUSTOMIZE_DIR, as run-parts would,
// with the guest's tree mounted on TARGET.
func (j *Job) runHooks(ctx context.Context) (err error) {
	if err := j.lookBeforeHooks(ctx); err != nil {
		return err
	}
	if restore, err := j.session.CoverDev(j.devLinks()); err != nil {
		info(ctx, "a hook's bind mount of /dev shows the node's /dev/disk: %v", err)
	} else {
		defer func() { err = errors.Join(err, restore()) }()
	}
	if restore, err := j.session.GiveSys(j.target); err != nil {
		info(ctx, "hooks have no /sys in TARGET unless they mount one: %v", err)
	} else {
		defer func() { err = errors.Join(err, restore()) }()
	}
	unset := func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(j.Settings.Unexported, name)
	}
	received := slices.DeleteFunc(slices.Clone(j.Request.Environ), unset)
	env := hooks.Environ(received, j.hookVariables(), j.Settings.Exported)
	run := hooks.Run{Dir: j.Settings.CustomizeDir, WorkDir: paths.OSDir, Env: env, Strict: j.strictFiles()}
	return j.protected(ctx, run.All)
}

// protected runs hooks on a node that is read-only to them, if that is asked for.
func (j *Job) protected(ctx context.Context, run func(context.Context) error) error {
	if !j.Settings.ProtectNode {
		return run(ctx)
	}
	writable := j.Settings.NodeWritable
	err := j.session.ProtectNode(j.target, writable, func() error { return run(ctx) })
	if err != nil && context.Cause(ctx) == nil && strings.Contains(err.Error(), "Read-only file system") {
		err = fmt.Errorf("%w (PROTECT_NODE=yes: the node is read-only to hooks but for TARGET, /dev and NODE_WRITABLE: %s)", err, joinPaths(writable))
	}
	return err
}

// checkProtection refuses PROTECT_NODE where the node's daemons are to see what hooks do.
func (j *Job) checkProtection() error {
	if !j.Settings.ProtectNode {
		return nil
	}
	if j.Settings.Namespace == "host" {
		return errors.New("PROTECT_NODE=yes and NAMESPACE=host exclude each other: the one hides from the node what the other shows it")
	}
	for _, dir := range j.Settings.NodeWritable {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return fmt.Errorf("NODE_WRITABLE: %s is not a folder of this node: make it, or leave it out", dir)
		}
	}
	return nil
}

// hookVariables is what hooks are given beside Ganeti's own variables and
// what the settings files export.
func (j *Job) hookVariables() map[string]string {
	raw := j.Settings.Raw
	vars := map[string]string{
		"TARGET": j.target, "BLOCKDEV": j.loop.Path, "FSYSDEV": j.fsysDev,
		"SUITE": j.Settings.Suite, "ARCH": j.Settings.Arch, "PARTITION_STYLE": j.Settings.PartitionStyle,
		"EXTRA_PKGS": raw["EXTRA_PKGS"], "COMPONENTS": raw["COMPONENTS"],
		"MIRROR": j.Settings.Mirror, "PROXY": j.Settings.Proxy,
		// What a hook writes to the disk itself the loop device doesn't see, where it
		// has read that part before, and writes over; a file could be destroyed.
		"DISK_0_PATH": j.loop.Path,
	}
	if j.Settings.Proxy != "" {
		vars["http_proxy"], vars["https_proxy"] = j.Settings.Proxy, j.Settings.Proxy
	}
	return vars
}

func joinPaths(paths []string) string { return strings.Join(paths, ", ") }
