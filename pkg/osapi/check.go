package osapi

import (
	"fmt"
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

// check names each value of a request that is missing or malformed, by the variable that
// it is in.
func (p *parser) check() {
	r := p.req
	p.hostName("INSTANCE_NAME", r.InstanceName, "give the instance's full name")
	if r.Hypervisor == "" {
		p.fault("HYPERVISOR is not set: give the hypervisor's name, such as kvm or xen-pvm")
	}
	if p.verb == Rename {
		p.hostName("OLD_INSTANCE_NAME", r.OldInstanceName, "give the name that the guest has now")
	}
	if len(r.Disks) > 0 && !r.Disks[r.Root].IsGuests() {
		p.fault("DISK_0_ROLE %q: the instance has no disk of its own beside those that Ganeti keeps for itself: add one (gnt-instance modify --disk add:size=…)", r.Disks[0].Role)
	}
	for _, d := range r.Disks {
		name := fmt.Sprintf("DISK_%d_PATH", d.Index)
		if d.Path != "" {
			p.absolute(name, d.Path)
		} else if d.IsGuests() && d.URI == "" {
			p.fault("%s is not set, nor DISK_%d_URI, though DISK_COUNT is %d: give the path of the disk's device or file", name, d.Index, len(r.Disks))
		}
	}
	for _, n := range r.NICs {
		p.checkNIC(n)
	}
}

// checkNIC names the values of a NIC that are malformed. Ganeti checks them too, so that a
// bad one was made by hand.
func (p *parser) checkNIC(n NIC) {
	const address, prefix = "an IP address", "a network, such as 192.0.2.0/24 or 2001:db8::/64"
	for _, f := range []struct {
		suffix, text string
		valid        func(string) bool
		want         string
	}{
		{"MAC", n.MAC, isMAC, "a MAC address, such as aa:00:00:12:34:56"},
		{"IP", n.IP, isAddress, address},
		{"NETWORK_SUBNET", n.Network.Subnet, isPrefix, prefix},
		{"NETWORK_GATEWAY", n.Network.Gateway, isAddress, address},
		{"NETWORK_SUBNET6", n.Network.Subnet6, isPrefix, prefix},
		{"NETWORK_GATEWAY6", n.Network.Gateway6, isAddress, address},
	} {
		if f.text != "" && !f.valid(f.text) {
			p.fault("NIC_%d_%s %q: not %s", n.Index, f.suffix, f.text, f.want)
		}
	}
}

func (p *parser) checkVariant() {
	if strings.ContainsAny(p.req.Variant, "/\x00\n") || strings.HasPrefix(p.req.Variant, ".") {
		p.fault("OS_VARIANT %q: a variant's name can't start with a dot or hold a slash or newline; see variants.list for the names", p.req.Variant)
	}
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
