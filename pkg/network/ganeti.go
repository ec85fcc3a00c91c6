package network

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// NIC is what Ganeti knows of one of the instance's interfaces: texts as they
// stand in NIC_n_*, "" where it knows nothing.
type NIC struct {
	Index             int
	Called            string // its name in the guest; "" is nicN, for its Index
	MAC               string
	Mode              string // routed, bridged, openvswitch
	IP                string // of either family
	Subnet, Gateway   string // of the NIC's network: CIDR and address
	Subnet6, Gateway6 string

	// What Ganeti has no word for, of guests that aren't its own. With Fixed the fields
	// above are not looked at.
	DHCP     bool // also where other NICs have addresses
	Fixed    []netip.Prefix
	Gateways []netip.Addr // at most one of each family
}

// Known tells whether Ganeti's data says how any of the NICs is configured.
func Known(nics []NIC) bool {
	for _, n := range nics {
		if _, ok := address(n.IP); ok || slaac(n).IsValid() || len(n.Fixed) > 0 {
			return true
		}
	}
	return false
}

// Name is what a NIC is called in the guest. Names of their own, since the kernel
// gives out eth0 itself, in an order that nobody promises; without udev in the
// guest those are all there is.
func (n NIC) Name(pinned bool) string {
	if pinned && n.MAC != "" && n.Called != "" {
		return n.Called
	}
	if pinned && n.MAC != "" {
		return fmt.Sprintf("nic%d", n.Index)
	}
	return fmt.Sprintf("eth%d", n.Index)
}

// Pins are the names of those NICs that have a MAC address.
func Pins(nics []NIC) (pins []Pin) {
	for _, n := range nics {
		if n.MAC != "" {
			pins = append(pins, Pin{n.Name(true), n.MAC})
		}
	}
	return pins
}

// PinsOf are the NICs that names mean: those of the form eth0 or nic0 by their numbers,
// others (ens18) the NICs that are left, in the order of both, where these are as many.
// The rest are names of which no NIC, or not its MAC address, is known.
func PinsOf(names []string, nics []NIC) (pins []Pin, rest []string) {
	macs := map[string]string{}
	for _, pin := range BothPins(nics) {
		macs[pin.Name] = pin.MAC
	}
	var others []string
	for _, name := range names {
		switch {
		case macs[name] != "":
			pins = append(pins, Pin{name, macs[name]})
		case strings.HasPrefix(name, "en"):
			others = append(others, name)
		default:
			rest = append(rest, name)
		}
	}
	left := slices.DeleteFunc(slices.Clone(nics), func(n NIC) bool {
		return n.MAC == "" || slices.ContainsFunc(pins, func(p Pin) bool { return p.MAC == n.MAC })
	})
	if len(others) != len(left) {
		return pins, append(rest, others...)
	}
	slices.SortFunc(others, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	for i, name := range others {
		pins = append(pins, Pin{name, left[i].MAC})
	}
	return pins, rest
}

// BothPins are the NICs by each name that one may have been given: ours, and the
// kernel's.
func BothPins(nics []NIC) (pins []Pin) {
	for _, n := range nics {
		if n.MAC != "" {
			pins = append(pins, Pin{fmt.Sprintf("nic%d", n.Index), n.MAC}, Pin{fmt.Sprintf("eth%d", n.Index), n.MAC})
		}
	}
	return pins
}

// CallAsKernel gives NICs the names that a kernel gives, in their order.
func CallAsKernel(nics []NIC) {
	for i := range nics {
		nics[i].Called = fmt.Sprintf("eth%d", nics[i].Index)
	}
}

// DHCP configures every NIC by DHCP, and every Ethernet interface where no NIC is
// known.
func DHCP(nics []NIC, pinned bool) Config {
	if len(nics) == 0 {
		return Config{Interfaces: []Interface{{DHCP: true}}}
	}
	var c Config
	for _, n := range nics {
		c.Interfaces = append(c.Interfaces, Interface{Name: n.Name(pinned), DHCP: true})
	}
	return c
}

// Static configures the addresses that Ganeti knows. A NIC of which it knows none
// is left alone. The notes say, for the log, what the data leaves open and how it
// was read.
func Static(nics []NIC, pinned bool) (c Config, notes []string) {
	routed := map[bool]string{} // by family: the interface with the default route
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	for _, n := range nics {
		i := Interface{Name: n.Name(pinned), DHCP: n.DHCP}
		if i.DHCP {
			c.Interfaces = append(c.Interfaces, i)
			continue
		}
		for _, family := range n.families(note) {
			i.Addresses = append(i.Addresses, family.address)
			route, v6 := family.route, family.address.Addr().Is6()
			switch {
			case route == nil:
			case routed[v6] != "":
				note("NIC %d: its gateway is not used, the default route is by %s", n.Index, routed[v6])
			default:
				i.Routes = append(i.Routes, *route)
				routed[v6] = i.Name
			}
		}
		if len(i.Addresses) == 0 {
			note("NIC %d has no address in Ganeti's data: %s is not configured", n.Index, i.Name)
			continue
		}
		c.Interfaces = append(c.Interfaces, i)
	}
	return c, notes
}

// family is an interface's configuration for IPv4 or IPv6.
type family struct {
	address netip.Prefix
	route   *Route
}

// families are what is known of a NIC: its IP, and in an IPv6 network of /64 the
// address that routers' advertisements would give it too.
func (n NIC) families(note func(string, ...any)) (out []family) {
	if len(n.Fixed) > 0 {
		return n.fixedFamilies()
	}
	ip, ok := address(n.IP)
	if ok {
		subnet, gateway := n.Subnet, n.Gateway
		if ip.Is6() {
			subnet, gateway = n.Subnet6, n.Gateway6
		}
		out = append(out, n.family(fixed(ip, subnet, n.Index, note), gateway, note))
	}
	if own := slaac(n); own.IsValid() && !(ok && ip.Is6()) {
		out = append(out, n.family(own, n.Gateway6, note))
	} else if n.Subnet6 != "" && !own.IsValid() && !ip.Is6() {
		note("NIC %d: no address follows from %s, which is not a /64; routers may advertise one", n.Index, n.Subnet6)
	}
	return out
}

// fixedFamilies are the addresses of Fixed; the first of each family has its gateway.
func (n NIC) fixedFamilies() (out []family) {
	routed := map[bool]bool{}
	for _, own := range n.Fixed {
		f, v6 := family{address: own}, own.Addr().Is6()
		for _, gw := range n.Gateways {
			if gw.Is6() == v6 && !routed[v6] {
				f.route = &Route{Gateway: gw, OnLink: !own.Contains(gw) && !gw.IsLinkLocalUnicast()}
			}
		}
		routed[v6] = true
		out = append(out, f)
	}
	return out
}

// address reads an address of Ganeti's. One with a zone, which may be any text, is
// none.
func address(text string) (a netip.Addr, ok bool) {
	a, err := netip.ParseAddr(text)
	return a.Unmap(), err == nil && a.Zone() == ""
}

// fixed is an address with its network's length; alone where the network is not
// known, or is another.
func fixed(ip netip.Addr, subnet string, index int, note func(string, ...any)) netip.Prefix {
	if net, err := netip.ParsePrefix(subnet); err == nil && net.Contains(ip) {
		return netip.PrefixFrom(ip, net.Bits())
	}
	alone := netip.PrefixFrom(ip, ip.BitLen())
	if subnet == "" {
		note("NIC %d: Ganeti knows no network of %s: it is configured as %s", index, ip, alone)
	} else {
		note("NIC %d: %s is not in its network, %s: it is configured as %s", index, ip, subnet, alone)
	}
	return alone
}

// family adds the default route to an address. A routed NIC needs no gateway: its
// node routes all it sends, and Ganeti has it answer ARP for every address.
func (n NIC) family(own netip.Prefix, gateway string, note func(string, ...any)) family {
	f := family{address: own}
	gw, ok := address(gateway)
	switch {
	case ok && gw.Is6() == own.Addr().Is6():
		f.route = &Route{Gateway: gw, OnLink: !own.Contains(gw) && !gw.IsLinkLocalUnicast()}
	case n.Mode == "routed" && own.Addr().Is4():
		f.route = &Route{Gateway: netip.IPv4Unspecified()}
		note("NIC %d: Ganeti knows no gateway: the default route is the link to the node", n.Index)
	case own.Addr().Is4():
		note("NIC %d: Ganeti knows no gateway: no default route", n.Index)
	}
	return f
}

// slaac is the address in a NIC's IPv6 network of /64 that follows from its MAC
// address (RFC 4291, appendix A): the one that it gives itself where routers
// advertise the network. The zero Prefix is none.
func slaac(n NIC) netip.Prefix {
	subnet, err := netip.ParsePrefix(n.Subnet6)
	mac, macErr := net.ParseMAC(n.MAC)
	if err != nil || macErr != nil || subnet.Bits() != 64 || len(mac) != 6 || !subnet.Addr().Is6() {
		return netip.Prefix{}
	}
	a := subnet.Masked().Addr().As16()
	copy(a[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// Summary says in one line what a configuration does, for the log.
func (c Config) Summary() string {
	var parts []string
	for _, i := range c.Interfaces {
		name := i.Name
		if name == "" {
			name = "every Ethernet interface"
		}
		what := texts(i.Addresses)
		if i.DHCP {
			what = []string{"by DHCP"}
		}
		for _, r := range i.Routes {
			if !r.Gateway.IsUnspecified() {
				what = append(what, "via "+r.Gateway.String())
			}
		}
		parts = append(parts, name+" "+strings.Join(what, " "))
	}
	return strings.Join(parts, ", ")
}
