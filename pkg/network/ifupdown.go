package network

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

const loStanza = "auto lo\niface lo inet loopback\n"

// everyEthernet is the logical interface that stands for all of them; patterns
// are read by ifupdown 0.8.11 and later.
const everyEthernet = "ethernet"

// ifupdown renders interfaces(5), in the form that all its versions read: netmask
// as an option of its own, and routes that are on link by commands.
func ifupdown(c Config) []File {
	var b strings.Builder
	if len(c.Interfaces) > 0 {
		b.WriteString(header)
	}
	b.WriteString(loStanza)
	for _, i := range c.Interfaces {
		auto, name := i.Name, i.Name
		if name == "" {
			auto, name = "/e*="+everyEthernet, everyEthernet
		}
		fmt.Fprintf(&b, "\nauto %s\n", auto)
		if i.DHCP {
			// The kernel sees to IPv6 as soon as the interface is up.
			fmt.Fprintf(&b, "iface %s inet dhcp\n", name)
			continue
		}
		dns := dnsOptions(c.DNS)
		for _, v6 := range []bool{false, true} {
			addresses, route := i.of(v6)
			for n, address := range addresses { // a stanza each, which ifupdown 0.7 and later add up
				text := static(name, address)
				if n == 0 {
					text += routeOptions(address, route)
				}
				b.WriteString(text + dns)
				dns = ""
			}
		}
	}
	files := []File{{"/etc/network/interfaces", 0o644, b.String()}}
	if slices.ContainsFunc(c.Interfaces, func(i Interface) bool { return i.Name == "" }) {
		files = append(files, File{settleFile, 0o644, settle})
	}
	return files
}

// ifupdown itself waits for udev only where an interface has a name: a pattern
// matches nothing until there is one (ifupdown-pre.service). Where the initramfs has
// not loaded the card's driver, as dracut's, the interface came too late.
const (
	settleFile = "/etc/systemd/system/networking.service.d/instance-debootstrap.conf"
	settle     = header + "[Service]\nExecStartPre=-/bin/udevadm settle\n"
)

// static is a stanza of a fixed address.
func static(name string, address netip.Prefix) string {
	family, netmask := "inet", net.IP(net.CIDRMask(address.Bits(), 32)).String()
	if address.Addr().Is6() {
		family, netmask = "inet6", fmt.Sprint(address.Bits())
	}
	return fmt.Sprintf("iface %s %s static\n    address %s\n    netmask %s\n", name, family, address.Addr(), netmask)
}

// routeOptions are the rest of a family's first stanza.
func routeOptions(address netip.Prefix, route *Route) string {
	ip := "ip"
	if address.Addr().Is6() {
		ip = "ip -6"
	}
	switch {
	case route == nil && address.Addr().Is6():
		return "    accept_ra 1\n"
	case route == nil:
		return ""
	case route.Gateway.IsUnspecified():
		return fmt.Sprintf("    up %s route replace default dev $IFACE\n", ip)
	case route.OnLink:
		return fmt.Sprintf("    up %s route replace %s dev $IFACE\n    up %[1]s route replace default via %s dev $IFACE\n", ip, route.Gateway, route.Gateway)
	}
	return fmt.Sprintf("    gateway %s\n", route.Gateway)
}

// dnsOptions are what resolvconf(8) and systemd-resolved's hook read.
func dnsOptions(d DNS) (text string) {
	if len(d.Servers) > 0 {
		text = "    dns-nameservers " + strings.Join(texts(d.Servers), " ") + "\n"
		if len(d.Search) > 0 {
			text += "    dns-search " + strings.Join(d.Search, " ") + "\n"
		}
	}
	return text
}
