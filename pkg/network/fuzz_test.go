package network

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// FuzzNICs: whatever Ganeti (or who plays it) says of a NIC, the files of all three
// renderers have nothing of it but addresses and names: no word that isn't the
// renderers' own, on no more lines than they write.
func FuzzNICs(f *testing.F) {
	f.Add("aa:00:00:12:34:56", "bridged", "192.0.2.5", "192.0.2.0/24", "192.0.2.1", "2001:db8::/64", "2001:db8::1", "nameserver 192.0.2.53\nsearch example\n")
	f.Add("aa:00:00:12:34:56", "routed", "2001:db8::5", "", "", "2001:db8::/64", "fe80::1", "nameserver ::1\ndomain a.example b.example\n")
	f.Add("aa:00:00:12:34:56", "bridged", "fe80::5%x\n    up reboot", "", "", "2001:db8::/64", "fe80::1%x\n    up reboot", "")
	f.Add("", "", "::ffff:192.0.2.5", "10.0.0.0/8", "192.0.2.1\n    up reboot", "2001:db8::/48", "2001:db9::1", "")
	f.Fuzz(func(t *testing.T, mac, mode, ip, subnet, gateway, subnet6, gateway6, resolv string) {
		nics := []NIC{
			{Index: 0, MAC: mac, Mode: mode, IP: ip, Subnet: subnet, Gateway: gateway, Subnet6: subnet6, Gateway6: gateway6},
			{Index: 1, Mode: mode, IP: "192.0.2.77", Gateway: gateway, Subnet6: subnet6, Gateway6: gateway6},
		}
		c, notes := Static(nics, true)
		c.DNS = ParseDNS(resolv)
		known := Known(nics[:1])
		if addresses := len(c.Interfaces) == 2; addresses != known {
			t.Errorf("known: %v, but %+v", known, c)
		}
		routes := map[bool]int{}
		for _, i := range c.Interfaces {
			if len(i.Addresses) == 0 || len(i.Addresses) > 2 {
				t.Errorf("%+v", i)
			}
			for _, r := range i.Routes {
				routes[r.Gateway.Is6()]++
			}
		}
		if routes[true] > 1 || routes[false] > 1 {
			t.Errorf("%v default routes: %+v", routes, c)
		}
		for _, r := range []Renderer{Ifupdown, Netplan, Networkd} {
			for _, file := range Files(r, c) {
				checkWords(t, r, file.Content, c)
			}
		}
		_ = notes
	})
}

// checkWords fails for a word of a rendered file that isn't a keyword of its
// program's, a name of ours, an address, or a domain of DNS.
func checkWords(t *testing.T, r Renderer, text string, c Config) {
	t.Helper()
	keywords := strings.Fields(`auto lo iface inet loopback inet6 static address netmask gateway up ip -6 route replace default via dev $IFACE accept_ra
		dns-nameservers dns-search network version 2 renderer networkd ethernets addresses accept-ra false routes to scope link on-link true nameservers search
		Match Name Network Address IPv6AcceptRA no DNS Domains Route Destination Scope Gateway GatewayOnLink yes Link Unmanaged nic0 nic1 eth0 eth1 - 1`)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for _, word := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\n=[]\",", r) }) {
			if a, err := netip.ParseAddr(word); err == nil && a.Zone() == "" {
				continue
			}
			if word = strings.TrimSuffix(word, ":"); slices.Contains(keywords, word) || slices.Contains(c.DNS.Search, word) {
				continue
			}
			if _, err := netip.ParsePrefix(word); err == nil {
				continue
			}
			if bits := strings.Trim(word, "0123456789"); bits == "" && len(word) <= 3 {
				continue
			}
			if word != ":" && word != "" {
				t.Errorf("%s: the word %q, in\n%s", r, word, text)
			}
		}
	}
}

// FuzzRepin: names move to the addresses that are given, and no other byte of the
// guest's file changes but in lines of ours.
func FuzzRepin(f *testing.F) {
	rules := Rules([]Pin{{"nic0", "aa:00:00:12:34:56"}, {"nic1", "aa:00:00:65:43:21"}}).Content
	f.Add(rules, "AA:00:00:11:11:11")
	f.Add("SUBSYSTEM==\"net\", ATTR{address}==\"\", NAME=\"nic0\"\r\n"+rules+"x", "aa:00:00:11:11:11")
	f.Fuzz(func(t *testing.T, text, mac string) {
		if mac == "" || strings.Trim(mac, "0123456789abcdefABCDEF:") != "" {
			return // osapi refuses others
		}
		pins := []Pin{{"nic0", mac}}
		out := Repin(text, pins)
		if again := Repin(out, pins); again != out {
			t.Errorf("%q, done again, is %q", out, again)
		}
		before, after := strings.Split(text, "\n"), strings.Split(out, "\n")
		if len(before) != len(after) {
			t.Fatalf("%d lines became %d", len(before), len(after))
		}
		for i, line := range before {
			if line != after[i] && (!strings.HasPrefix(line, `SUBSYSTEM=="net", ACTION=="add", `) || !strings.Contains(after[i], strings.ToLower(mac))) {
				t.Errorf("%q became %q", line, after[i])
			}
		}
		if Repin(text, nil) != text {
			t.Error("without pins it changes")
		}
	})
}
