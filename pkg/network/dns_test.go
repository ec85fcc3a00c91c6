package network

import (
	"net/netip"
	"testing"
)

func TestServersAndDomainsReplaceTheirKindInResolvConf(t *testing.T) {
	const node = "# the node's\ndomain node.example\nnameserver\t192.0.2.1\n  nameserver 192.0.2.2\noptions timeout:1"
	servers := []netip.Addr{netip.MustParseAddr("198.51.100.53"), netip.MustParseAddr("2001:db8::53")}
	for name, c := range map[string]struct {
		dns        DNS
		conf, want string
	}{
		"servers": {DNS{Servers: servers}, node, "nameserver 198.51.100.53\nnameserver 2001:db8::53\n# the node's\ndomain node.example\noptions timeout:1\n"},
		"domains": {DNS{Search: []string{"a.example", "b.example"}}, node, "search a.example b.example\n# the node's\nnameserver\t192.0.2.1\n  nameserver 192.0.2.2\noptions timeout:1\n"},
		"both":    {DNS{servers[:1], []string{"a.example"}}, node, "search a.example\nnameserver 198.51.100.53\n# the node's\noptions timeout:1\n"},
		"no file": {DNS{Servers: servers[:1]}, "", "nameserver 198.51.100.53\n"},
	} {
		if got := c.dns.In(c.conf); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
