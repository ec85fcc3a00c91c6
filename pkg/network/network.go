// Package network turns what is known of a guest's network interfaces into the
// files that its own network program reads. All of it is pure: data in, text out.
package network

import (
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// Renderer is the program in the guest that reads its network configuration.
type Renderer string

const (
	Ifupdown Renderer = "ifupdown"         // /etc/network/interfaces: interfaces(5)
	Netplan  Renderer = "netplan"          // /etc/netplan/*.yaml: netplan(5)
	Networkd Renderer = "systemd-networkd" // /etc/systemd/network/*.network: systemd.network(5)
)

// Config is a guest's network, beside lo.
type Config struct {
	Interfaces []Interface
	// DNS is where the guest's resolver learns of servers from its network's
	// configuration (systemd-resolved, resolvconf); else it stays empty.
	DNS DNS
}

// Interface is one that the guest configures at boot.
type Interface struct {
	Name      string         // "" is every Ethernet interface there is
	DHCP      bool           // for IPv4; IPv6 as routers advertise it
	Addresses []netip.Prefix // of both families
	Routes    []Route        // default routes, at most one of each family
}

// Route is a default route.
type Route struct {
	// Gateway is the next hop; an unspecified address (0.0.0.0) is none: the link
	// itself, where the node answers for every address (proxy ARP).
	Gateway netip.Addr
	OnLink  bool // the gateway is in none of the interface's own networks
}

// Pin is an interface's name by its MAC address.
type Pin struct{ Name, MAC string }

// File is one file of the guest.
type File struct {
	Path    string
	Mode    fs.FileMode
	Content string
}

// Files renders a configuration, with lo.
func Files(r Renderer, c Config) []File {
	switch r {
	case Netplan:
		return netplan(c)
	case Networkd:
		return networkd(c)
	}
	return ifupdown(c)
}

// header stands in files that configure more than lo.
const header = "# Written when the guest was installed; it is not written again.\n"

// RulesFile holds the names of the interfaces.
const RulesFile = "/etc/udev/rules.d/70-instance-debootstrap-net.rules"

// Rules are udev(7)'s rules that name interfaces by their MAC addresses. A rule
// works in every udev there has been, also for an interface that the initramfs
// has named, and leaves VLANs and bridges alone, which inherit a MAC address but
// have a DEVTYPE. (A .link file that did so would need Type=ether, which
// systemd before 242 takes for something else.)
//
// A card whose address was changed has lost its rule. The names that are left over
// go to the cards of unknown address in the order of both (of names as here, of
// cards by ifindex, which is that of their slots), whichever udev sees first.
func Rules(pins []Pin) File {
	var b strings.Builder
	b.WriteString("# Names of the network interfaces, by their MAC addresses.\n")
	var all, before []string
	for _, p := range pins {
		all = append(all, strings.ToLower(p.MAC))
		fmt.Fprintf(&b, "SUBSYSTEM==\"net\", ACTION==\"add\", ATTR{address}==\"%s\", ATTR{type}==\"1\", ENV{DEVTYPE}!=\"?*\", NAME=\"%s\"\n",
			strings.ToLower(p.MAC), p.Name)
	}
	b.WriteString("# An address that none has any longer was changed: such names go to the other cards, in their order.\n")
	for i, p := range pins {
		fmt.Fprintf(&b, "SUBSYSTEM==\"net\", ACTION==\"add\", NAME==\"\", SUBSYSTEMS==\"pci|xen\", ATTR{type}==\"1\", ENV{DEVTYPE}!=\"?*\", "+
			"PROGRAM==\"/bin/sh -c '%s'\", NAME=\"%s\"\n", udevEscape(turnOf(p.Name, all[i], before, all)), p.Name)
		before = append(before, all[i])
	}
	return File{RulesFile, 0o644, b.String()}
}

// turnOf is a script that succeeds for a card, the one that udev has added, if a
// name is its: no other card is called so, none has the name's address, and there
// are as many cards of unknown address before it as names before this one that no
// card has.
func turnOf(name, address string, before, all []string) string {
	return fmt.Sprintf("cd /sys/class/net; read i 2>/dev/null <%s/ifindex && [ $i != $attr{ifindex} ] && exit 1; "+
		"grep -qix %s */address && exit 1; n=0; "+
		"for m in %s; do grep -qix $m */address || n=$((n+1)); done; "+
		"for d in */device; do read a <${d%%device}address; read i <${d%%device}ifindex; "+
		"case %s in *$a*) ;; *) [ $i -ge $attr{ifindex} ] || n=$((n-1));; esac; done; [ $n = 0 ]",
		name, address, strings.Join(before, " "), strings.Join(all, ","))
}

// udevEscape writes a script for udev(7), which substitutes what follows $ and %;
// $attr is meant for it.
func udevEscape(script string) string {
	return strings.NewReplacer("$attr", "$attr", "$", "$$", "%", "%%").Replace(script)
}

// addressRule is one of Rules' first rules: address and name. ruleLine is any of them.
var (
	addressRule = pattern.New(`(?m)^SUBSYSTEM=="net", .*ATTR\{address\}=="((?:[0-9a-f]{2}:){5}[0-9a-f]{2})".*NAME="([^"]*)"$`)
	ruleLine    = pattern.New(`(?m)^SUBSYSTEM=="net", ACTION=="add", .*$`)
)

// Repin gives the names in a RulesFile's text to other MAC addresses. Lines of
// another form, or of names that have no pin, stay.
func Repin(text string, pins []Pin) string {
	var moves []string
	for _, m := range addressRule().FindAllStringSubmatch(text, -1) {
		for _, p := range pins {
			if p.Name == m[2] {
				moves = append(moves, m[1], strings.ToLower(p.MAC))
			}
		}
	}
	return ruleLine().ReplaceAllStringFunc(text, strings.NewReplacer(moves...).Replace)
}

// of returns the interface's addresses and default route of a family.
func (i Interface) of(v6 bool) (addresses []netip.Prefix, route *Route) {
	for _, a := range i.Addresses {
		if a.Addr().Is6() == v6 {
			addresses = append(addresses, a)
		}
	}
	for n := range i.Routes {
		if i.Routes[n].Gateway.Is6() == v6 {
			route = &i.Routes[n]
		}
	}
	return addresses, route
}

// ignoresRouters tells whether routers' advertisements are not to be taken, since
// the IPv6 gateway is known: ifupdown's own rule for an address with a gateway.
func (i Interface) ignoresRouters() bool {
	_, route := i.of(true)
	return route != nil
}

func texts[T fmt.Stringer](list []T) (out []string) {
	for _, v := range list {
		out = append(out, v.String())
	}
	return out
}
