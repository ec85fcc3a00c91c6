package network

import (
	"fmt"
	"strings"
)

const loNetwork = "/etc/systemd/network/lo.network"

// loAlone is lo of a guest that has nothing else: nobody reads it until the admin
// enables systemd-networkd.
const loAlone = "[Match]\nName=lo\n\n[Link]\nRequiredForOnline=no\n\n" +
	"[Network]\nAddress=127.0.0.1/8\nAddress=::1/128\n"

// loUnmanaged leaves lo to systemd itself, which has brought it up by then:
// systemd-networkd 252 fails to give it the addresses that it has, after a hundred
// thousand messages from the kernel.
const loUnmanaged = "[Match]\nName=lo\n\n[Link]\nUnmanaged=yes\n"

// networkd renders systemd.network(5), a file an interface.
func networkd(c Config) []File {
	if len(c.Interfaces) == 0 {
		return []File{{loNetwork, 0o644, loAlone}}
	}
	files := []File{{loNetwork, 0o644, loUnmanaged}}
	for _, i := range c.Interfaces {
		name, match := i.Name, i.Name
		if name == "" {
			name, match = "ethernet", "en* eth*"
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%s[Match]\nName=%s\n\n[Network]\n", header, match)
		if i.DHCP {
			b.WriteString("DHCP=yes\nIPv6AcceptRA=yes\n")
		} else {
			networkdStatic(&b, i, c.DNS)
		}
		files = append(files, File{"/etc/systemd/network/10-" + name + ".network", 0o644, b.String()})
	}
	return files
}

// networkdStatic writes the rest of [Network], and the routes.
func networkdStatic(b *strings.Builder, i Interface, dns DNS) {
	for _, address := range i.Addresses {
		fmt.Fprintf(b, "Address=%s\n", address)
	}
	if i.ignoresRouters() {
		b.WriteString("IPv6AcceptRA=no\n")
	}
	if len(dns.Servers) > 0 {
		fmt.Fprintf(b, "DNS=%s\n", strings.Join(texts(dns.Servers), " "))
		if len(dns.Search) > 0 {
			fmt.Fprintf(b, "Domains=%s\n", strings.Join(dns.Search, " "))
		}
	}
	for _, r := range i.Routes {
		switch {
		case r.Gateway.IsUnspecified():
			fmt.Fprintf(b, "\n[Route]\nDestination=%s\nScope=link\n", everywhere(r))
		case r.OnLink:
			fmt.Fprintf(b, "\n[Route]\nGateway=%s\nGatewayOnLink=yes\n", r.Gateway)
		default:
			fmt.Fprintf(b, "\n[Route]\nGateway=%s\n", r.Gateway)
		}
	}
}

// everywhere is the destination of a default route.
func everywhere(r Route) string {
	if r.Gateway.Is6() {
		return "::/0"
	}
	return "0.0.0.0/0"
}
