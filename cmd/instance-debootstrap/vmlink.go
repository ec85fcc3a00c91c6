package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/node"
)

// link is what a NIC is connected to, and what a guest there can take over.
type link struct {
	libvirt.Network
	title    string              // in messages: "libvirt's network default"
	device   string              // the bridge of the node, if there is one
	info     libvirt.NetworkInfo // of a network of libvirt's
	nets     []netip.Prefix      // the node's own addresses there
	closed   bool                // there are no other networks than nets
	gateways []netip.Addr
	isolated bool // nothing leads out of it, and that is meant
	dns      []netip.Addr
	nodesDNS bool // the node's own resolvers answer there
}

// findLink looks at what a NIC is to be connected to; with no name it is the node's
// first bridge, or else libvirt's network default.
func findLink(ctx context.Context, virsh libvirt.Virsh, o nicOption, facts node.Facts) (link, error) {
	switch {
	case o.network != "":
		return networkLink(ctx, virsh, o.network)
	case o.bridge != "":
		return bridgeLink(ctx, o.bridge)
	case facts.Bridge.Text != "":
		return bridgeLink(ctx, facts.Bridge.Text)
	}
	l, err := networkLink(ctx, virsh, "default")
	if err != nil {
		err = fmt.Errorf("the node has no bridge, and %w; --user-net needs neither", err)
	}
	return l, err
}

func bridgeLink(ctx context.Context, name string) (link, error) {
	l := link{Network: libvirt.Network{Bridge: name}, title: "the bridge " + name, device: name, nodesDNS: true}
	if _, err := os.Stat("/sys/class/net/" + name + "/bridge"); err != nil {
		return l, fmt.Errorf("the node has no bridge %s: give another --bridge, or --network, or --user-net", name)
	}
	b, err := node.ReadBridge(ctx, "/", name)
	l.nets, l.gateways = b.Nets, b.Gateways
	return l, err
}

// networkLink reads a network of libvirt's. One that forwards to a bridge of the node's
// is that bridge; of one that leads to a card of the node's nothing is known.
func networkLink(ctx context.Context, virsh libvirt.Virsh, name string) (link, error) {
	l := link{Network: libvirt.Network{Name: name}, title: "libvirt's network " + name}
	err := virsh.MustHaveNetwork(ctx, name)
	if err != nil {
		return l, err
	}
	if l.info, err = virsh.Network(ctx, name); err != nil {
		return l, err
	}
	l.device = l.info.Bridge.Name
	switch mode := l.info.Mode(); mode {
	case "nat", "route", "open", "":
		l.closed, l.isolated, l.nodesDNS = true, mode == "", mode == "nat"
	case "bridge":
		if l.device == "" {
			return l, nil
		}
		b, err := bridgeLink(ctx, l.device)
		b.Network, b.title, b.info = l.Network, l.title, l.info
		return b, err
	default:
		return l, nil
	}
	for _, ip := range l.info.IPs {
		own := ip.Net()
		if !own.IsValid() {
			continue
		}
		l.nets = append(l.nets, own)
		if !l.isolated && !slices.ContainsFunc(l.gateways, func(a netip.Addr) bool { return a.Is6() == own.Addr().Is6() }) {
			l.gateways = append(l.gateways, own.Addr())
		}
		if l.info.HasDNS() {
			l.dns = append(l.dns, own.Addr())
		}
	}
	return l, nil
}

// tell puts into facts what a guest with a fixed address there is given.
func (l link) tell(facts *node.Facts) {
	facts.Netmask, facts.Broadcast, facts.Gateway = node.Value{}, node.Value{}, node.Value{}
	for _, own := range l.nets {
		if own.Addr().Is4() && facts.Netmask.Text == "" {
			facts.Address = own
			facts.Netmask = node.Value{Text: node.Netmask(own), Origin: l.title}
			facts.Broadcast = node.Value{Text: node.Broadcast(own).String(), Origin: l.title}
		}
	}
	for _, gw := range l.gateways {
		if gw.Is4() {
			facts.Gateway = node.Value{Text: gw.String(), Origin: l.title}
		}
	}
	if len(l.dns) > 0 || !l.nodesDNS {
		var servers []string
		for _, a := range l.dns {
			servers = append(servers, a.String())
		}
		facts.Nameservers = node.Value{Text: strings.Join(servers, " "), Origin: l.title}
	}
	if domain := l.info.Domain.Name; domain != "" {
		facts.Search = node.Value{Text: domain, Origin: l.title}
	}
}

// netOf is the node's own network there that an address is in.
func (l link) netOf(a netip.Addr) (own netip.Prefix, found bool) {
	for _, own := range l.nets {
		if own.Contains(a) {
			return own, true
		}
	}
	return own, false
}

func (l link) describeNets() string {
	var texts []string
	for _, own := range l.nets {
		texts = append(texts, own.Masked().String())
	}
	return strings.Join(texts, " and ")
}
