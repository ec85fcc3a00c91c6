package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/network"
	"instance-debootstrap/pkg/pattern"
)

// hasRenderer tells whether the guest has the program.
func hasRenderer(r *Root, renderer network.Renderer) bool {
	switch renderer {
	case network.Ifupdown:
		return r.anyOf("/usr/sbin/ifup", "/sbin/ifup") != ""
	case network.Netplan:
		return r.anyOf("/usr/sbin/netplan", "/usr/libexec/netplan/generate", "/usr/lib/netplan/generate", "/lib/netplan/generate") != ""
	case network.Networkd:
		return r.anyOf("/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd") != ""
	}
	return false
}

// renderers are tried in this order: systemd-networkd is part of the systemd
// package and so almost always there.
var renderers = []network.Renderer{network.Ifupdown, network.Netplan, network.Networkd}

// ChooseRenderer looks which of them the guest has: ifupdown before netplan
// before systemd-networkd, and ifupdown where there is none of them.
func ChooseRenderer(r *Root) network.Renderer {
	for _, renderer := range renderers {
		if hasRenderer(r, renderer) {
			return renderer
		}
	}
	return network.Ifupdown
}

// WriteNetwork writes the configuration of lo for the guest's own renderer. The
// folder /etc/network is there afterwards in any case: hooks rely on it.
func WriteNetwork(ctx context.Context, r *Root) error {
	renderer := ChooseRenderer(r)
	zerolog.Ctx(ctx).Debug().Msgf("network of the guest: lo, for %s", renderer)
	if err := r.MkdirAll("/etc/network", 0o755); err != nil {
		return err
	}
	return r.writeFiles(network.Files(renderer, network.Config{}))
}

func (r *Root) writeFiles(files []network.File) error {
	for _, f := range files {
		if err := r.Put(f.Path, f.Content, f.Mode); err != nil {
			return err
		}
	}
	return nil
}

// ErrNoRenderer is RenderNetwork's where nothing in the guest could read what it
// would write.
var ErrNoRenderer = errors.New("the guest has neither ifupdown nor netplan nor systemd-networkd: add one to EXTRA_PKGS")

// dhcpClients are those that ifupdown runs.
var dhcpClients = []string{
	"/usr/sbin/dhclient", "/sbin/dhclient", "/sbin/dhclient3", "/usr/sbin/dhcpcd", "/sbin/dhcpcd", "/sbin/dhcpcd-bin",
	"/usr/sbin/udhcpc", "/sbin/udhcpc", "/sbin/pump",
}

// chooseFor returns the renderer that can do what is asked for: ifupdown needs
// a DHCP client, the others bring one.
func chooseFor(r *Root, c network.Config) (network.Renderer, error) {
	dhcp := slices.ContainsFunc(c.Interfaces, func(i network.Interface) bool { return i.DHCP })
	for _, renderer := range renderers {
		client := renderer != network.Ifupdown || !dhcp || r.anyOf(dhcpClients...) != ""
		if hasRenderer(r, renderer) && client {
			return renderer, nil
		}
	}
	if hasRenderer(r, network.Ifupdown) {
		return "", errors.New("the guest has ifupdown without a DHCP client: add one (isc-dhcp-client, dhcpcd-base) to EXTRA_PKGS")
	}
	return "", ErrNoRenderer
}

// HasUdev tells whether the guest can name its interfaces.
func HasUdev(r *Root) bool {
	return r.anyOf("/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd", "/sbin/udevd", "/usr/sbin/udevd", "/lib/udev/udevd") != ""
}

// RenderNetwork writes a configuration with at least one interface for the guest's
// own program, the names of the interfaces, and has systemd start what reads it.
func RenderNetwork(ctx context.Context, r *Root, c network.Config, pins []network.Pin) (network.Renderer, error) {
	renderer, err := chooseFor(r, c)
	if err != nil {
		return "", err
	}
	files := network.Files(renderer, c)
	if len(pins) > 0 {
		files = append(files, network.Rules(pins))
	}
	if err := r.writeFiles(files); err != nil {
		return "", err
	}
	if renderer == network.Networkd {
		err = EnableUnit(r, "systemd-networkd.service")
		if resolved := EnableUnit(r, "systemd-resolved.service"); err == nil && !errors.Is(resolved, fs.ErrNotExist) {
			err = resolved
		}
	}
	return renderer, err
}

// RepinNetwork gives the names that RenderNetwork chose to other MAC addresses,
// as a copy of an instance has them. A guest without such names stays as it is.
func RepinNetwork(r *Root, pins []network.Pin) (changed bool, err error) {
	old, err := r.ReadFile(network.RulesFile, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	text := network.Repin(string(old), pins)
	if err != nil || text == string(old) {
		return false, err
	}
	return true, r.WriteFile(network.RulesFile, []byte(text), 0o644)
}

// HasOtherAddress tells whether the file that RenderNetwork wrote for the guest's
// own program has fixed addresses, and this one of the NIC with that index is not
// among them. A guest without such a file has none.
func HasOtherAddress(r *Root, index int, address string) bool {
	for _, name := range []string{"/etc/network/interfaces", network.NetplanFile, fmt.Sprintf("/etc/systemd/network/10-nic%d.network", index), fmt.Sprintf("/etc/systemd/network/10-eth%d.network", index)} {
		text, err := r.ReadFile(name, maxConfig)
		if err == nil && fixedAddress().Match(text) {
			return !bytes.Contains(text, []byte(address))
		}
	}
	return false
}

// fixedAddress is a line of one of the renderers' files.
var fixedAddress = pattern.New(`(?mi)^\s*address(es)?\s*[:= ]\s*\S`)
