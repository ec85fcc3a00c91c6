package osapi

import (
	"net/netip"
	"path/filepath"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// hostNameRE is what Ganeti accepts as an instance's name (lib/netutils.py,
// which also wants lower case; by hand upper case does no harm).
var hostNameRE = pattern.New(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`)

var macRE = pattern.New(`^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$`)

// hostName checks a required host name.
func (p *parser) hostName(variable, name, remedy string) {
	switch {
	case name == "":
		p.fault("%s is not set: %s", variable, remedy)
	case !validHostName(name):
		p.fault("%s %q: not a host name (letters, digits, hyphens, underscores and dots, at most 255 characters): %s", variable, name, remedy)
	}
}

func validHostName(name string) bool {
	return len(name) <= 255 && hostNameRE().MatchString(name) && !strings.Contains(name, "..") && !strings.HasSuffix(name, ".") && name[0] != '-'
}

// absolute checks a disk's path, which is handed to tools that run elsewhere.
func (p *parser) absolute(variable, path string) {
	if !filepath.IsAbs(path) || strings.ContainsAny(path, "\x00\n") {
		p.fault("%s %q: not an absolute path: give the disk's full path", variable, path)
	}
}

// nicFormats are the variables of a NIC that have a format. Ganeti checks them
// too, so that a bad one was made by hand.
var nicFormats = []struct {
	suffix string
	valid  func(string) bool
	want   string
}{
	{"MAC", isMAC, "a MAC address, such as aa:00:00:12:34:56"},
	{"IP", isAddress, "an IP address"},
	{"NETWORK_SUBNET", isPrefix, "a network, such as 192.0.2.0/24"},
	{"NETWORK_GATEWAY", isAddress, "an IP address"},
	{"NETWORK_SUBNET6", isPrefix, "a network, such as 2001:db8::/64"},
	{"NETWORK_GATEWAY6", isAddress, "an IP address"},
}

func isMAC(s string) bool { return macRE().MatchString(s) }

func isAddress(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Zone() == ""
}

func isPrefix(s string) bool {
	_, err := netip.ParsePrefix(s)
	return err == nil
}
