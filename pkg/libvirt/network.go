package libvirt

import (
	"context"
	"net"
	"net/netip"
	"strings"
)

// NetworkInfo is a network's definition, as far as it matters to a guest's address
// (libvirt.org, "Network XML format").
type NetworkInfo struct {
	Name    string `xml:"name"`
	Forward *struct {
		Mode string `xml:"mode,attr"`
	} `xml:"forward"`
	Bridge struct {
		Name string `xml:"name,attr"`
	} `xml:"bridge"`
	DNS *struct {
		Enable string `xml:"enable,attr"`
	} `xml:"dns"`
	Domain struct {
		Name string `xml:"name,attr"`
	} `xml:"domain"`
	IPs []NetworkIP `xml:"ip"`
}

// NetworkIP is one of the node's addresses in a network, and what its DHCP server there
// gives out.
type NetworkIP struct {
	Address string      `xml:"address,attr"`
	Netmask string      `xml:"netmask,attr"`
	Prefix  string      `xml:"prefix,attr"`
	Ranges  []DHCPRange `xml:"dhcp>range"`
	Hosts   []DHCPHost  `xml:"dhcp>host"`
}

type (
	// DHCPRange are addresses that are leased, with both ends.
	DHCPRange struct {
		Start string `xml:"start,attr"`
		End   string `xml:"end,attr"`
	}
	// DHCPHost is an address that is reserved.
	DHCPHost struct {
		MAC string `xml:"mac,attr"`
		IP  string `xml:"ip,attr"`
	}
)

// Net is the address with its network's length; the zero Prefix is one that can't be
// read.
func (i NetworkIP) Net() netip.Prefix {
	address, err := netip.ParseAddr(i.Address)
	if err != nil {
		return netip.Prefix{}
	}
	if mask := net.ParseIP(i.Netmask).To4(); mask != nil && address.Is4() {
		bits, _ := net.IPMask(mask).Size()
		return netip.PrefixFrom(address, bits)
	}
	p, _ := netip.ParsePrefix(i.Address + "/" + i.Prefix)
	return p
}

// Contains tells whether an address is one of those that are leased.
func (r DHCPRange) Contains(a netip.Addr) bool {
	start, err1 := netip.ParseAddr(r.Start)
	end, err2 := netip.ParseAddr(r.End)
	return err1 == nil && err2 == nil && start.Is4() == a.Is4() && !a.Less(start) && !end.Less(a)
}

// Mode is how the network is connected: nat, route, open, bridge, …; "" is not at all.
func (n NetworkInfo) Mode() string {
	switch {
	case n.Forward == nil:
		return ""
	case n.Forward.Mode == "": // libvirt's own default
		return "nat"
	}
	return n.Forward.Mode
}

// HasDNS tells whether libvirt's own server answers on the network's addresses.
func (n NetworkInfo) HasDNS() bool { return n.DNS == nil || n.DNS.Enable != "no" }

// Network reads a network's definition.
func (v Virsh) Network(ctx context.Context, name string) (n NetworkInfo, err error) {
	err = v.read(ctx, "network "+name, &n, "net-dumpxml", name)
	return n, err
}

// Leases are the addresses that a network's DHCP server has leased, and to which MAC
// address, in lower case.
func (v Virsh) Leases(ctx context.Context, name string) (map[netip.Addr]string, error) {
	out, err := v.run(ctx, "net-dhcp-leases", name)
	return leasesIn(out), err
}

// leasesIn reads lines "DATE TIME MAC PROTOCOL ADDRESS/BITS HOST CLIENT". The last two are the
// guest's own words, which nothing is read from.
func leasesIn(text string) map[netip.Addr]string {
	leases := map[netip.Addr]string{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 5 || !macs().MatchString(f[2]) {
			continue
		}
		if p, err := netip.ParsePrefix(f[4]); err == nil {
			leases[p.Addr()] = strings.ToLower(f[2])
		}
	}
	return leases
}
