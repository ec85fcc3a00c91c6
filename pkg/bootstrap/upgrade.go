package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/command"
)

// debootstrap knows one suite only. What the other sources have comes in a second
// stage, by the tree's own apt: the upgrades, and only then the packages that are
// wanted beside the base system, so that none comes twice in two versions.

// twoStages tells whether debootstrap's tree needs that.
func (s Spec) twoStages() bool { return len(s.Sources) > 1 || s.MoreSources }

// firstPackages are what debootstrap installs itself.
func (s Spec) firstPackages() (out []string) {
	if !s.twoStages() {
		return s.ExtraPkgs
	}
	if s.byHTTPS() {
		out = append(out, caCertificates)
	}
	for _, name := range s.ExtraPkgs {
		if ReplacesInit([]string{name}) { // it takes the place of a package of the base system
			out = append(out, name)
		}
	}
	if s.rehearsal && !s.MoreSources { // which debootstrap knows nothing of
		out = append(out, s.SuitePkgs...)
	}
	return out
}

// noDaemons is what keeps packages from starting any while they are installed.
const noDaemons = "#!/bin/sh\nexit 101\n"

// upgrade is the second stage.
func upgrade(ctx context.Context, spec Spec, target, auth, marker string) (err error) {
	root, err := os.OpenRoot(target)
	if err != nil {
		return err
	}
	defer root.Close()
	const policy = "usr/sbin/policy-rc.d"
	err = errors.Join(root.WriteFile(policy, []byte(noDaemons), 0o755), root.Chmod(policy, 0o755))
	if err != nil {
		return err
	}
	for _, fs := range []struct {
		kind, at string
		flags    uintptr
	}{{"proc", "proc", 0}, {"sysfs", "sys", unix.MS_RDONLY}, {"tmpfs", "run", 0}} {
		if err := unix.Mount(fs.kind, target+"/"+fs.at, fs.kind, fs.flags|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mount %s in the new tree: %w", fs.at, err)
		}
	}
	if err := resolveAsNode(root, "/etc/resolv.conf"); err != nil {
		return fmt.Errorf("the new tree's resolv.conf: %w", err)
	}
	options := []string{
		"-q", "-y", "-o", "APT::Install-Recommends=false", "-o", "Acquire::Check-Valid-Until=false", "-o", "APT::Sandbox::User=root",
		"-o", "Dpkg::Options::=--force-confold", "-o", "APT::Update::Error-Mode=any", "-o", "Dpkg::Use-Pty=false", "-o", "Acquire::Languages=none",
		"-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
	}
	if auth != "" { // in memory, since the tree may be the guest's own disk
		raw, err := os.ReadFile(auth + "/auth.conf")
		if err == nil {
			err = root.WriteFile("run/auth.conf", raw, 0o600)
		}
		if err != nil {
			return err
		}
		options = append(options, "-o", "Dir::Etc::netrc=/run/auth.conf")
	}
	steps := [][]string{{"update"}, {"dist-upgrade"}}
	if len(spec.ExtraPkgs) > 0 {
		steps = append(steps, append([]string{"install"}, spec.ExtraPkgs...))
	}
	for _, step := range steps {
		args := append(append([]string{"apt-get"}, options...), step...)
		var why reasons
		if err := command.Run(ctx, command.Cmd{Args: args, Chroot: target, Env: []string{marker}, Line: why.line}); err != nil {
			return fmt.Errorf("apt-get %s in the new tree: %w", step[0], why.of(err))
		}
	}
	return nil
}

// resolveAsNode gives the tree's apt the node's name servers where a package has made
// resolv.conf a link to what its own daemon would write below /run, as systemd-resolved
// does. /run is in memory, so nothing of it stays.
func resolveAsNode(root *os.Root, nodes string) error {
	link, err := root.Readlink("etc/resolv.conf")
	if err != nil {
		return nil // the file that the tool has copied
	}
	at := strings.TrimPrefix(path.Join("/etc", link), "/")
	if path.IsAbs(link) {
		at = strings.TrimPrefix(path.Clean(link), "/")
	}
	if !strings.HasPrefix(at, "run/") {
		return nil
	}
	servers, err := os.ReadFile(nodes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a node that knows addresses only
	}
	if err == nil {
		err = root.MkdirAll(path.Dir(at), 0o755)
	}
	if err == nil {
		err = root.WriteFile(at, servers, 0o644)
	}
	return err
}
