package vm

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/network"
)

// NIC is a network interface of a virtual machine that is to be made.
type NIC struct {
	MAC       string
	Network   libvirt.Network
	Addresses []netip.Prefix // fixed ones; none is DHCP
	Gateways  []netip.Addr   // at most one of each family
	NoGateway bool           // none is meant to be
}

// Has tells whether it has a fixed address of a family.
func (n NIC) Has(v6 bool) bool {
	for _, p := range n.Addresses {
		if p.Addr().Is6() == v6 {
			return true
		}
	}
	return false
}

// AddGateway reads a next hop, which must be in a network of the NIC's addresses, or
// link-local; one that isn't goes with an address without a network (/32, /128). from
// says in the error where it comes from.
func (n *NIC) AddGateway(text, from string) error {
	gw, err := netip.ParseAddr(text)
	if err != nil || gw.Zone() != "" {
		return fmt.Errorf("%s %q: not an address; write it as 192.0.2.1, or none", from, text)
	}
	for _, old := range n.Gateways {
		if old.Is6() == gw.Is6() {
			return fmt.Errorf("%s %s: there is one of its family already, %s", from, gw, old)
		}
	}
	for _, p := range n.Addresses {
		if p.Addr() == gw {
			return fmt.Errorf("%s %s: the guest's own address", from, gw)
		}
		if p.Addr().Is6() == gw.Is6() && (p.Contains(gw) || p.IsSingleIP() || gw.Is6() && gw.IsLinkLocalUnicast()) {
			n.Gateways = append(n.Gateways, gw)
			return nil
		}
	}
	return fmt.Errorf("%s %s: in no network of the guest's addresses: give --gateway ADDRESS, or none", from, gw)
}

// NetworkNICs are the NICs as the guest's network files have them.
func (v *Wanted) NetworkNICs() (list []network.NIC) {
	for i, nic := range v.NICs {
		list = append(list, network.NIC{Index: i, MAC: nic.MAC, Mode: "bridged", DHCP: len(nic.Addresses) == 0, Fixed: nic.Addresses, Gateways: nic.Gateways})
	}
	list[0].Called = v.NICName
	return list
}

// String says what it is connected to, and by which addresses.
func (n NIC) String() string {
	link := cmp.Or(n.Network.Bridge, n.Network.Name, "QEMU's user-mode network")
	if len(n.Addresses) == 0 {
		return link + " by DHCP"
	}
	return fmt.Sprint(link, " with ", n.Addresses)
}

// describe says what the domain is to be, for a plan.
func (w *Wanted) describe() string {
	nics := make([]string, len(w.NICs))
	for i, nic := range w.NICs {
		nics[i] = nic.String()
	}
	return fmt.Sprintf("%s of %d MiB, virtual CPUs: %d, NICs: %s", w.Guest, w.MemoryKiB>>10, w.VCPUs, strings.Join(nics, ", "))
}
