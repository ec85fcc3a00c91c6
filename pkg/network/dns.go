package network

import (
	"net/netip"
	"strings"
)

// DNS is what resolv.conf(5) has.
type DNS struct {
	Servers []netip.Addr
	Search  []string
}

// ParseDNS reads a resolv.conf(5), without servers that only its own machine
// reaches.
func ParseDNS(conf string) DNS {
	var d DNS
	for line := range strings.Lines(conf) {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case f[0] == "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && !a.IsLoopback() && a.Zone() == "" {
				d.Servers = append(d.Servers, a)
			}
		case f[0] == "search" || f[0] == "domain":
			d.Search = nil
			for _, domain := range f[1:] {
				if domainName(domain) {
					d.Search = append(d.Search, domain)
				}
			}
		}
	}
	return d
}

// In puts the servers and the domains in the place of those that a resolv.conf(5)
// names; where there are none of one kind, the file's own stay.
func (d DNS) In(conf string) string {
	var b strings.Builder
	if len(d.Search) > 0 {
		b.WriteString("search " + strings.Join(d.Search, " ") + "\n")
	}
	for _, server := range d.Servers {
		b.WriteString("nameserver " + server.String() + "\n")
	}
	for line := range strings.Lines(conf) {
		word, _, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, "\t", " ")), " ")
		switch {
		case len(d.Servers) > 0 && word == "nameserver":
		case len(d.Search) > 0 && (word == "search" || word == "domain"):
		default:
			b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	return b.String()
}

// domainName tells whether a text can stand in every renderer's file.
func domainName(s string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == "" && strings.Trim(s, ".") != ""
}
