package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	Own     []byte // what it is for the guest in the end; nil is Content
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
// guest's own resolver, or writes the guest's own file. What stands there stays where
// a hook has changed it, for that is what its admin wants; and it is a file where
// nothing in the guest would make the link's target, for then that is all the guest
// has to resolve names.
func RestoreResolvConf(ctx context.Context, r *Root, rc ResolvConf) error {
	own := rc.Own != nil && !bytes.Equal(rc.Own, rc.Content)
	if rc.Link == "" && !own {
		return nil
	}
	log := zerolog.Ctx(ctx)
	if target, err := r.Readlink(resolvConf); err == nil {
		log.Info().Msgf("%s in the guest is a link to %s now, as a hook left it", resolvConf, pattern.Plain(target))
		return nil
	}
	now, err := r.ReadFile(resolvConf, maxConfig)
	if err != nil || !bytes.Equal(now, rc.Content) {
		log.Info().Msgf("%s in the guest was changed by a hook and stays so", resolvConf)
		return nil
	}
	if rc.Link != "" && r.resolverMakes(rc.Link) {
		if own && strings.Contains(rc.Link, resolvedRun) {
			err = r.writeResolved(network.ParseDNS(string(rc.Own)))
		}
		return errors.Join(err, r.Symlink(rc.Link, resolvConf))
	}
	if rc.Link != "" {
		log.Info().Msgf("%s in the guest stays a file: it was a link to %s, which nothing in the guest makes", resolvConf, pattern.Plain(rc.Link))
	}
	if own {
		return r.WriteFile(resolvConf, rc.Own, 0o644, Reset)
	}
	return nil
}

// resolvedConf is of the servers that systemd-resolved asks whatever the guest's
// network configuration is (resolved.conf(5)).
const (
	resolvedConf = "/etc/systemd/resolved.conf.d/instance-debootstrap.conf"
	resolvedRun  = "run/systemd/resolve/"
)

func (r *Root) writeResolved(d network.DNS) error {
	var servers []string
	for _, server := range d.Servers {
		servers = append(servers, server.String())
	}
	text := fmt.Sprintf("# By DNS_NAMESERVERS and DNS_SEARCH of instance-debootstrap; see resolved.conf(5).\n[Resolve]\nDNS=%s\nDomains=%s\n",
		strings.Join(servers, " "), strings.Join(d.Search, " "))
	return r.Put(resolvedConf, text, 0o644)
}

// DNS is what a guest needs in its network's configuration to resolve names: its own
// servers, or this node's, where its resolv.conf is one that a program makes at boot, and
// nothing where it is the file that PrepareResolvConf wrote.
func DNS(r *Root, rc ResolvConf) network.DNS {
	if rc.Link == "" || !r.resolverMakes(rc.Link) {
		return network.DNS{}
	}
	if rc.Own != nil {
		return network.ParseDNS(string(rc.Own))
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
