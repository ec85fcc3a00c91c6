package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"instance-debootstrap/pkg/command"
)

// Bridge is what a guest on one of the node's bridges can take over from it.
type Bridge struct {
	Nets     []netip.Prefix // the node's own addresses there, but for link-local ones
	Gateways []netip.Addr   // at most one of each family
}

// ReadBridge reads a bridge's addresses, and the next hops that lead out of it: the
// node's own, where its default route is by the bridge, or the node itself, where that
// is by another interface and the node forwards.
func ReadBridge(ctx context.Context, root, name string) (b Bridge, err error) {
	nic, err := net.InterfaceByName(name)
	if err != nil {
		return b, fmt.Errorf("bridge %s: %w", name, err)
	}
	addresses, err := nic.Addrs()
	if err != nil {
		return b, fmt.Errorf("bridge %s: %w", name, err)
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			b.Nets = append(b.Nets, p)
		}
	}
	r := reader{root}
	for family, forwards := range map[string]string{"-4": "proc/sys/net/ipv4/ip_forward", "-6": "proc/sys/net/ipv6/conf/all/forwarding"} {
		out, err := command.Output(ctx, "ip", family, "-j", "route", "show", "default")
		if err != nil {
			return b, fmt.Errorf("the node's default route: %w (package iproute2)", err)
		}
		if gw := b.gateway([]byte(out), name, family == "-6", strings.TrimSpace(r.file(forwards)) == "1"); gw.IsValid() {
			b.Gateways = append(b.Gateways, gw)
		}
	}
	return b, nil
}

// gateway reads ip-route(8)'s JSON.
func (b Bridge) gateway(routes []byte, name string, v6, forwards bool) netip.Addr {
	var list []struct{ Gateway, Dev string }
	if json.Unmarshal(routes, &list) != nil || len(list) == 0 {
		return netip.Addr{}
	}
	for _, route := range list {
		if gw, err := netip.ParseAddr(route.Gateway); err == nil && route.Dev == name && gw.Is6() == v6 && !gw.IsLinkLocalUnicast() {
			return gw
		}
	}
	for _, own := range b.Nets {
		if own.Addr().Is6() == v6 && forwards && list[0].Dev != name {
			return own.Addr()
		}
	}
	return netip.Addr{}
}

// Neighbour tells whether another machine has just answered for an address on an
// interface, and by which MAC address. Of IPv4 addresses it asks, if there is arping(8) of
// iputils; else it is what the kernel has seen within half a minute.
func Neighbour(ctx context.Context, nic string, a netip.Addr) (mac string, found bool) {
	if version, err := command.Output(ctx, "arping", "-V"); a.Is4() && err == nil && strings.Contains(version, "iputils") {
		out, err := command.Output(ctx, "arping", "-D", "-c", "1", "-w", "1", "-I", nic, a.String())
		_, mac, _ = strings.Cut(out, "[")
		mac, _, _ = strings.Cut(mac, "]")
		if err == nil {
			return "", false
		}
		if mac != "" {
			return strings.ToLower(mac), true
		}
	}
	out, err := command.Output(ctx, "ip", "-j", "neigh", "show", "to", a.String(), "dev", nic, "nud", "reachable")
	var list []struct{ LLAddr string }
	if err != nil || json.Unmarshal([]byte(out), &list) != nil || len(list) == 0 {
		return "", false
	}
	return strings.ToLower(list[0].LLAddr), true
}

// Netmask is an IPv4 network's, as 255.255.255.0.
func Netmask(p netip.Prefix) string { return net.IP(net.CIDRMask(p.Bits(), 32)).String() }

// WithNetmask is an IPv4 address in a network of such a mask.
func WithNetmask(a netip.Addr, mask string) (netip.Prefix, bool) {
	ip := net.ParseIP(mask).To4()
	bits, size := net.IPMask(ip).Size()
	return netip.PrefixFrom(a, bits), size == 32
}
