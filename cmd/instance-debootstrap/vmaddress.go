package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/node"
	"instance-debootstrap/pkg/vm"
)

// prefix reads one fixed address, with or without the bits of its network, which
// else are those of the link's network or of the key netmask.
func (b *vmBuilder) prefix(l link, text string) (netip.Prefix, error) {
	wrong := usagef("--ip %q: not an address; write it as 192.0.2.5/24 or 2001:db8::5/64", text)
	plain, bits, given := strings.Cut(text, "/")
	a, err := netip.ParseAddr(plain)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Prefix{}, wrong
	}
	own, inside := l.netOf(a)
	mask := b.keys["netmask"]
	switch {
	case given:
		p, err := netip.ParsePrefix(a.String() + "/" + bits)
		if err != nil {
			return p, wrong
		}
		if inside && l.closed && p.Bits() != own.Bits() {
			return p, fmt.Errorf("--ip %s: %s is %s: give it as %s/%d", text, l.title, own.Masked(), a, own.Bits())
		}
		return p, nil
	case a.Is4() && mask.Text != "" && mask.Origin != l.title:
		p, ok := node.WithNetmask(a, mask.Text)
		if !ok {
			return p, fmt.Errorf("netmask %q (%s): not a netmask; write it as 255.255.255.0", mask.Text, mask.Origin)
		}
		return p, nil
	case inside:
		return netip.PrefixFrom(a, own.Bits()), nil
	case len(l.nets) > 0:
		return netip.Prefix{}, fmt.Errorf("--ip %s: not in %s, which is %s; take an address of that, or give it with the bits of its own network, as %s/24", text, l.title, l.describeNets(), a)
	}
	return netip.Prefix{}, fmt.Errorf("--ip %s: give it with its network, as %s/24, for nothing is known of that of %s", text, a, l.title)
}

// checkAddress refuses an address that can't work on the link, or is in use.
func (b *vmBuilder) checkAddress(ctx context.Context, l link, nic vm.NIC, p netip.Prefix) error {
	a := p.Addr()
	own, inside := l.netOf(a)
	switch {
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast():
		return usagef("--ip %s: not an address that a guest can be reached by", a)
	case a.Is4() && p.Bits() < 31 && (a == p.Masked().Addr() || a == node.Broadcast(p)):
		return usagef("--ip %s: that is the address of the network itself, or its broadcast address", p)
	case inside && a == own.Addr():
		return fmt.Errorf("--ip %s: in use, by the node itself on %s", a, l.title)
	case !inside && l.closed:
		return fmt.Errorf("--ip %s: not in %s, which is %s", p, l.title, l.describeNets())
	case !inside && len(l.nets) > 0:
		zerolog.Ctx(ctx).Warn().Msgf("--ip %s: in none of the node's networks on %s, which are %s", p, l.title, l.describeNets())
	}
	if err := b.usedByDomain(ctx, l, a); err != nil {
		return err
	}
	if err := b.usedByLease(ctx, l, nic, a); err != nil {
		return err
	}
	if l.device != "" {
		if mac, found := node.Neighbour(ctx, l.device, a); found && mac != nic.MAC {
			return fmt.Errorf("--ip %s: in use, by the machine with the MAC address %s on %s", a, mac, l.title)
		}
	}
	return nil
}

// usedByLease refuses an address that libvirt's DHCP server has leased or reserved, and
// warns of one that it may lease.
func (b *vmBuilder) usedByLease(ctx context.Context, l link, nic vm.NIC, a netip.Addr) error {
	if !l.closed {
		return nil
	}
	leases, err := b.vm.Virsh.Leases(ctx, l.Name)
	if err != nil {
		return err
	}
	if mac := leases[a]; mac != "" && mac != nic.MAC {
		return fmt.Errorf("--ip %s: in use, leased to %s by libvirt's DHCP server (virsh net-dhcp-leases %s)", a, mac, l.Name)
	}
	for _, ip := range l.info.IPs {
		for _, host := range ip.Hosts {
			if host.IP == a.String() {
				if !strings.EqualFold(host.MAC, nic.MAC) {
					return fmt.Errorf("--ip %s: in use, reserved for %s in libvirt's network %s; give that as mac= of --network, or another address", a, host.MAC, l.Name)
				}
				return nil
			}
		}
		if slices.ContainsFunc(ip.Ranges, func(r libvirt.DHCPRange) bool { return r.Contains(a) }) {
			zerolog.Ctx(ctx).Warn().Msgf("--ip %s: libvirt's DHCP server may give it to another guest of the network %s; keep it from that by: virsh net-update %[2]s add ip-dhcp-host \"<host mac='%[3]s' ip='%[1]s'/>\" --live --config",
				a, l.Name, nic.MAC)
		}
	}
	return nil
}

// usedByDomain refuses an address that was noted down of another guest on the link.
func (b *vmBuilder) usedByDomain(ctx context.Context, l link, a netip.Addr) error {
	list, err := b.vm.Virsh.Domains(ctx)
	if err != nil {
		return err
	}
	for _, id := range list {
		d, err := b.vm.Virsh.Domain(ctx, id.UUID)
		if err != nil {
			return err
		}
		if d.Metadata == nil || d.Metadata.Guest == nil {
			continue
		}
		g := d.Metadata.Guest
		here := slices.ContainsFunc(d.Devices.Interfaces, func(i libvirt.Interface) bool {
			return i.Source.Network == l.Name && i.Source.Bridge == l.Bridge
		})
		if here && (g.Address == a.String() || slices.Contains(g.IPs, a.String())) {
			return fmt.Errorf("--ip %s: in use, by the guest %s", a, id.Name)
		}
	}
	return nil
}
