package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
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

const keepsLists = `Dir::Cache::pkgcache "/run/pkgcache.bin"; Dir::Cache::srcpkgcache "/run/srcpkgcache.bin";`

// secondStage upgrades the tree and installs what is wanted beside.
func (s Spec) secondStage(ctx context.Context, target, auth string, env []string) error {
	apt, err := s.prepareApt(target, auth, env)
	if err != nil {
		return err
	}
	for _, step := range [][]string{{"update"}, {"dist-upgrade"}, s.install()} {
		if err := apt.get(ctx, nil, step...); err != nil {
			return err
		}
	}
	return nil
}

// install are apt-get's arguments for the packages that are wanted beside the base system.
func (s Spec) install() []string { return append([]string{"install"}, s.ExtraPkgs...) }

// treesApt is the apt of a tree, on which it works.
type treesApt struct {
	target  string
	env     []string // beside the usual
	options []string
	wanted  []string // packages to install
}

// prepareApt makes a tree ready for its own apt: no daemon starts, and names resolve. The
// mounts below target are the caller's to end.
func (s Spec) prepareApt(target, auth string, env []string) (treesApt, error) {
	apt := treesApt{target: target, env: env, wanted: s.ExtraPkgs, options: []string{
		"-q", "-y", "-o", "APT::Install-Recommends=false", "-o", "Acquire::Check-Valid-Until=false", "-o", "APT::Sandbox::User=root",
		"-o", "Dpkg::Options::=--force-confold", "-o", "APT::Update::Error-Mode=any", "-o", "Dpkg::Use-Pty=false", "-o", "Acquire::Languages=none",
	}}
	root, err := os.OpenRoot(target)
	if err != nil {
		return apt, err
	}
	defer root.Close()
	const policy = "usr/sbin/policy-rc.d"
	err = errors.Join(root.WriteFile(policy, []byte(noDaemons), 0o755), root.Chmod(policy, 0o755))
	if err != nil {
		return apt, err
	}
	if err := mountForPackages(target); err != nil {
		return apt, err
	}
	// What apt makes of its lists is kept from run to run, in memory, and for debconf's apt-extracttemplates.
	if err := root.WriteFile("run/apt.conf", []byte(keepsLists), 0o644); err != nil {
		return apt, err
	}
	apt.env = append(slices.Clone(env), "APT_CONFIG=/run/apt.conf")
	if err := resolveAsNode(root, "/etc/resolv.conf"); err != nil {
		return apt, fmt.Errorf("the new tree's resolv.conf: %w", err)
	}
	if auth == "" {
		return apt, nil
	}
	// In memory, since the tree may be the guest's own disk.
	raw, err := os.ReadFile(auth + "/auth.conf")
	if err == nil {
		err = root.WriteFile("run/auth.conf", raw, 0o600)
	}
	apt.options = append(apt.options, "-o", "Dir::Etc::netrc=/run/auth.conf")
	return apt, err
}

// mountForPackages mounts in a tree what packages' scripts need. The mounts are the caller's to
// end.
func mountForPackages(target string) error {
	for _, fs := range []struct {
		kind, at string
		flags    uintptr
	}{{"proc", "proc", 0}, {"sysfs", "sys", unix.MS_RDONLY}, {"tmpfs", "run", 0}} {
		if err := unix.Mount(fs.kind, target+"/"+fs.at, fs.kind, fs.flags|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mount %s in the new tree: %w", fs.at, err)
		}
	}
	return nil
}

// get runs apt-get in the tree. Its output goes to out, or to the log where that is nil.
func (a treesApt) get(ctx context.Context, out io.Writer, step ...string) error {
	if step[0] == "install" && len(a.wanted) == 0 {
		return nil
	}
	var why reasons
	args := slices.Concat([]string{"apt-get"}, a.options, step)
	if err := command.Run(ctx, command.Cmd{Args: args, Chroot: a.target, Env: a.env, Stdout: out, Line: why.line}); err != nil {
		return fmt.Errorf("apt-get %s in the new tree: %w", step[0], why.of(err))
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
