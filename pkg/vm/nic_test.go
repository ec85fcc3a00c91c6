package vm

import (
	"net/netip"
	"testing"

	"instance-debootstrap/pkg/libvirt"
)

func TestAPlanSaysWhatTheDomainIsToBe(t *testing.T) {
	w := Wanted{Guest: "web1", Machine: Machine{MemoryKiB: 2 << 20, VCPUs: 2}, NICs: []NIC{
		{Network: libvirt.Network{Name: "default"}},
		{Network: libvirt.Network{Bridge: "br0"}, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/24"), netip.MustParsePrefix("2001:db8::5/64")}},
		{Network: libvirt.Network{UserPort: 2222}},
	}}
	if got, want := w.describe(), "web1 of 2048 MiB, virtual CPUs: 2, NICs: default by DHCP, br0 with [192.0.2.5/24 2001:db8::5/64], QEMU's user-mode network by DHCP"; got != want {
		t.Errorf("it says %q, not %q", got, want)
	}
}
