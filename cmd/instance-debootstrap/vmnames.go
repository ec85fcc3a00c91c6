package main

import (
	"net/netip"

	"instance-debootstrap/pkg/pattern"
)

// The names and addresses that a guest is given in its own files.

var domainName = pattern.New(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)

// names checks the guest's domain, and what its resolv.conf will hold.
func (b *vmBuilder) names() {
	if name := b.get(b.domain, "domain"); name != "" && (!domainName().MatchString(name) || len(b.hostName()) > 253) {
		b.fault("%s: not a domain; write it as example.org", b.asked("--domain", b.domain, "domain"))
	}
	for _, name := range words(b.get(b.search, "dns_search")) {
		if !domainName().MatchString(name) {
			b.fault("%s: %q is not a domain; write it as example.org", b.asked("--dns-search", b.search, "dns_search"), name)
		}
	}
	for _, server := range words(b.get(b.dns, "dns_nameservers")) {
		if a, err := netip.ParseAddr(server); err != nil || a.IsUnspecified() || a.IsMulticast() {
			b.fault("%s: %q is not an address of a name server; write it as 192.0.2.53 or 2001:db8::53", b.asked("--dns", b.dns, "dns_nameservers"), server)
		}
	}
}

// vmParamNames are the options of vm create by the parameters that they set: a libvirt
// node's admin gives no OS parameters.
var vmParamNames = map[string]string{
	"suite": "--suite", "mirror": "--mirror", "arch": "--arch", "extra_pkgs": "--extra-pkgs (or EXTRA_PKGS of the settings)", "data_disks": "--disk (or DATA_DISKS of the settings)",
	"layout": "--layout", "kernel_pkg": "--kernel-pkg", "root_password": "root's password", "ssh_authorized_keys": "the ssh keys",
	"first_boot": "--first-boot", "user_data": "--cloud-init",
}
