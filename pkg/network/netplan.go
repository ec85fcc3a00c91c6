package network

import (
	"fmt"
	"strings"
)

// NetplanFile is the one file for netplan. It may hold secrets by netplan's own
// rule, and so is root's alone.
const NetplanFile = "/etc/netplan/01-netcfg.yaml"

// netplan renders netplan(5), for systemd-networkd. lo needs no entry: systemd
// brings it up by itself, and a stanza would only make netplan enable networkd,
// and boots wait for it.
func netplan(c Config) []File {
	const head = "network:\n  version: 2\n  renderer: networkd\n"
	if len(c.Interfaces) == 0 {
		return []File{{NetplanFile, 0o600, "# lo needs no entry; see netplan(5).\n" + head}}
	}
	var b strings.Builder
	b.WriteString(header + head + "  ethernets:\n")
	for _, i := range c.Interfaces {
		if i.Name == "" {
			b.WriteString("    ethernet:\n      match:\n        name: \"e*\"\n")
		} else {
			fmt.Fprintf(&b, "    %s:\n", i.Name)
		}
		if i.DHCP {
			b.WriteString("      dhcp4: true\n      dhcp6: true\n")
			continue
		}
		fmt.Fprintf(&b, "      addresses: %s\n", yamlList(texts(i.Addresses)))
		if i.ignoresRouters() {
			b.WriteString("      accept-ra: false\n")
		}
		if len(i.Routes) > 0 {
			b.WriteString("      routes:\n")
		}
		for _, r := range i.Routes {
			fmt.Fprintf(&b, "        - to: \"%s\"\n", everywhere(r))
			switch {
			case r.Gateway.IsUnspecified():
				b.WriteString("          scope: link\n")
			case r.OnLink:
				fmt.Fprintf(&b, "          via: \"%s\"\n          on-link: true\n", r.Gateway)
			default:
				fmt.Fprintf(&b, "          via: \"%s\"\n", r.Gateway)
			}
		}
		if len(c.DNS.Servers) > 0 {
			fmt.Fprintf(&b, "      nameservers:\n        addresses: %s\n", yamlList(texts(c.DNS.Servers)))
			if len(c.DNS.Search) > 0 {
				fmt.Fprintf(&b, "        search: %s\n", yamlList(c.DNS.Search))
			}
		}
	}
	return []File{{NetplanFile, 0o600, b.String()}}
}

// yamlList quotes each, since "::1" and "1e3" mean something else to YAML.
func yamlList(list []string) string { return `["` + strings.Join(list, `", "`) + `"]` }
