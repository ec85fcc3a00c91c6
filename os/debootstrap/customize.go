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
	options, pass := filesystem.FstabOptions(j.fstype())
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

// hostKeyTypes are what a guest's ssh server is known by. RSA, which takes a
// second of CPU, is left to who needs it.
var hostKeyTypes = []string{"ed25519", "ecdsa"}

// makeHostKeys gives a guest with an ssh server host keys of its own: those of
// the tree were removed, since they would be every guest's, and Debian makes
// none at boot. A hook may replace them.
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
	return nil
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
	if err := j.lookAtNetwork(ctx); err != nil {
		return err
	}
	if restore, err := j.session.CoverDev(j.devLinks()); err != nil {
		info(ctx, "a hook's bind mount of /dev shows the node's /dev/disk: %v", err)
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
	if !j.Settings.ProtectNode {
		return run.All(ctx)
	}
	writable := j.Settings.NodeWritable
	err = j.session.ProtectNode(j.target, writable, func() error { return run.All(ctx) })
	if err != nil && context.Cause(ctx) == nil {
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
	}
	if j.disk.IsFile {
		// A hook that writes to the file itself would destroy it under the loop device.
		vars["DISK_0_PATH"] = j.loop.Path
	}
	if j.Settings.Proxy != "" {
		vars["http_proxy"], vars["https_proxy"] = j.Settings.Proxy, j.Settings.Proxy
	}
	return vars
}

func joinPaths(paths []string) string { return strings.Join(paths, ", ") }
