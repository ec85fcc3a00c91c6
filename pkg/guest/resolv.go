package guest

import (
	"bytes"
	"context"
	"path"
	"strings"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/network"
	"instance-debootstrap/pkg/pattern"
)

const resolvConf = "/etc/resolv.conf"

// ResolvConf remembers what stood at the guest's /etc/resolv.conf.
type ResolvConf struct {
	Link    string // the target, where it was a symbolic link; else ""
	Content []byte // the file put there
}

// PrepareResolvConf gives the guest this node's resolv.conf, so that a chroot
// resolves names while the guest is being made; nil content leaves the guest's.
//
// In guests with systemd-resolved, resolvconf or NetworkManager /etc/resolv.conf
// is a link into /run, which is empty until the guest runs. Such a link is
// replaced by a file for the time being, never written through, and
// RestoreResolvConf puts it back.
func PrepareResolvConf(r *Root, content []byte) (ResolvConf, error) {
	if content == nil {
		return ResolvConf{}, nil
	}
	rc := ResolvConf{Content: content}
	if target, err := r.Readlink(resolvConf); err == nil {
		rc.Link = target
	}
	return rc, r.WriteFile(resolvConf, content, 0o644, Reset)
}

// RestoreResolvConf puts back the link that PrepareResolvConf replaced, for the
// guest's own resolver. The file stays where a hook has changed it, for that is
// what its admin wants, and where nothing in the guest would make the link's
// target, for then the file is all the guest has to resolve names.
func RestoreResolvConf(ctx context.Context, r *Root, rc ResolvConf) error {
	if rc.Link == "" {
		return nil
	}
	log := zerolog.Ctx(ctx)
	if target, err := r.Readlink(resolvConf); err == nil {
		log.Info().Msgf("%s in the guest is a link to %s now, as a hook left it", resolvConf, pattern.Plain(target))
		return nil
	}
	now, err := r.ReadFile(resolvConf, maxConfig)
	if err != nil || !bytes.Equal(now, rc.Content) {
		log.Info().Msgf("%s in the guest was changed by a hook and stays so; it was a link to %s", resolvConf, pattern.Plain(rc.Link))
		return nil
	}
	if !r.resolverMakes(rc.Link) {
		log.Info().Msgf("%s in the guest stays the node's: it was a link to %s, which nothing in the guest makes", resolvConf, pattern.Plain(rc.Link))
		return nil
	}
	return r.Symlink(rc.Link, resolvConf)
}

// DNS is what a guest needs in its network's configuration to resolve names: this
// node's servers where its resolv.conf is one that a program makes at boot, and
// nothing where it is the file that PrepareResolvConf wrote.
func DNS(r *Root, rc ResolvConf) network.DNS {
	if rc.Link == "" || !r.resolverMakes(rc.Link) {
		return network.DNS{}
	}
	return network.ParseDNS(string(rc.Content))
}

// resolvers are the programs that make a resolv.conf below /run at boot.
var resolvers = []struct {
	dir      string
	programs []string
}{
	{"/run/systemd/resolve/", []string{"/usr/lib/systemd/systemd-resolved", "/lib/systemd/systemd-resolved"}},
	{"/run/resolvconf/", []string{"/usr/sbin/resolvconf", "/sbin/resolvconf"}},
	{"/etc/resolvconf/run/", []string{"/usr/sbin/resolvconf", "/sbin/resolvconf"}},
	{"/run/NetworkManager/", []string{"/usr/sbin/NetworkManager"}},
}

// resolverMakes tells whether a link's target will be there when the guest runs.
// A target of unknown making is believed to be.
func (r *Root) resolverMakes(target string) bool {
	if !path.IsAbs(target) {
		target = path.Join(path.Dir(resolvConf), target)
	}
	target = path.Clean(target)
	if after, ok := strings.CutPrefix(target, "/var/run/"); ok {
		target = "/run/" + after
	}
	for _, known := range resolvers {
		if strings.HasPrefix(target, known.dir) {
			return r.anyOf(known.programs...) != ""
		}
	}
	return true
}
