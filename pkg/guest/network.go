package guest

import (
	"context"
	"io/fs"

	"github.com/rs/zerolog"
)

// Renderer is the program in the guest that reads its network configuration.
type Renderer string

const (
	Ifupdown Renderer = "ifupdown"         // /etc/network/interfaces
	Netplan  Renderer = "netplan"          // /etc/netplan/*.yaml
	Networkd Renderer = "systemd-networkd" // /etc/systemd/network/*.network
)

// ChooseRenderer looks which of them the guest has: ifupdown before netplan
// before systemd-networkd (which is part of the systemd package and so almost
// always there), and ifupdown where there is none of them.
func ChooseRenderer(r *Root) Renderer {
	switch {
	case r.anyOf("/usr/sbin/ifup", "/sbin/ifup") != "":
		return Ifupdown
	case r.anyOf("/usr/sbin/netplan", "/usr/libexec/netplan/generate", "/usr/lib/netplan/generate", "/lib/netplan/generate") != "":
		return Netplan
	case r.anyOf("/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd") != "":
		return Networkd
	}
	return Ifupdown
}

// networkFile is one file that a renderer reads.
type networkFile struct {
	dir, name string
	mode      fs.FileMode
	content   string
}

// loopback is the configuration of a guest of which no NIC is known.
var loopback = map[Renderer]networkFile{
	Ifupdown: {"/etc/network", "interfaces", 0o644, "auto lo\niface lo inet loopback\n"},
	// systemd brings lo up by itself. A lo stanza would only make netplan enable
	// networkd, and boots wait for it.
	Netplan: {"/etc/netplan", "01-netcfg.yaml", 0o600, "# lo needs no entry; see netplan(5).\nnetwork:\n  version: 2\n  renderer: networkd\n"},
	Networkd: {"/etc/systemd/network", "lo.network", 0o644, "[Match]\nName=lo\n\n[Link]\nRequiredForOnline=no\n\n" +
		"[Network]\nAddress=127.0.0.1/8\nAddress=::1/128\n"},
}

// WriteNetwork writes the configuration of lo for the guest's own renderer. The
// folder /etc/network is there afterwards in any case: hooks rely on it.
func WriteNetwork(ctx context.Context, r *Root) error {
	renderer := ChooseRenderer(r)
	file := loopback[renderer]
	zerolog.Ctx(ctx).Debug().Msgf("network of the guest: %s/%s, for %s", file.dir, file.name, renderer)
	for _, dir := range []string{"/etc/network", file.dir} {
		if err := r.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return r.WriteFile(file.dir+"/"+file.name, []byte(file.content), file.mode, Reset)
}
