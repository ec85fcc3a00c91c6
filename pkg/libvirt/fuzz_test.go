package libvirt

import (
	"encoding/xml"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
)

// FuzzDomain: a domain's XML that is read can be written, and is read as the same
// again; nothing of it is longer than it was.
func FuzzDomain(f *testing.F) {
	for _, name := range []string{"file-network-uefi.xml", "file-user-bios.xml", "lvm-bridge-bios.xml"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`<domain type="kvm"><name>a</name><metadata><guest xmlns="urn:instance-debootstrap:vm"><hostkey>k</hostkey></guest></metadata><devices><disk><source pool="p" volume="v"/></disk></devices></domain>`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var d Domain
		if xml.Unmarshal(text, &d) != nil {
			return
		}
		for _, disk := range d.Devices.Disks {
			if len(disk.Source.Path()) > len(text) {
				t.Errorf("a path of %d bytes", len(disk.Source.Path()))
			}
		}
		written, err := d.XML()
		if err != nil {
			t.Fatalf("it can't be written: %v", err)
		}
		var again Domain
		if err := xml.Unmarshal(written, &again); err != nil {
			t.Fatalf("written anew: %v\n%s", err, written)
		}
		// qemu:commandline and the namespaces are written, never read.
		again.XMLName = d.XMLName
		third, err := again.XML()
		if err != nil || string(third) != string(written) || again.Name != d.Name || again.UUID != d.UUID || !reflect.DeepEqual(again.Memory, d.Memory) {
			t.Errorf("written again it is\n%s, not\n%s: %v", third, written, err)
		}
	})
}

// FuzzAddresses: what virsh lists of a running guest, which may be the guest's own
// word, is taken for an address only if it is one.
func FuzzAddresses(f *testing.F) {
	f.Add(" vnet0      52:54:00:12:34:56    ipv4         192.0.2.7/24\n vnet0      52:54:00:12:34:56    ipv6         2001:db8::7/64\n")
	f.Add(" lo         00:00:00:00:00:00    ipv4         127.0.0.1/8\n -          -                    ipv4         -oProxyCommand=reboot/24\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, address := range addressesIn(text) {
			if a, err := netip.ParseAddr(address); err != nil || !a.Is4() || a.IsLoopback() {
				t.Errorf("%q is taken for an address", address)
			}
		}
	})
}

// FuzzStorage: pools and volumes.
func FuzzStorage(f *testing.F) {
	f.Add([]byte(`<pool type='logical'><name>vg0</name><available unit='bytes'>1073741824</available><source><name>vg0</name></source><target><path>/dev/vg0</path></target></pool>`))
	f.Add([]byte(`<volume type='file'><name>web1-root</name><capacity unit='bytes'>10737418240</capacity><target><path>/var/lib/libvirt/images/web1-root</path></target></volume>`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p Pool
		if xml.Unmarshal(text, &p) == nil && len(p.Name)+len(p.Path)+len(p.Source) > len(text) {
			t.Errorf("%+v of %d bytes", p, len(text))
		}
		var v Volume
		if xml.Unmarshal(text, &v) == nil && (len(v.Path) > len(text) || strings.Contains(v.Name, "\x00")) {
			t.Errorf("%+v of %d bytes", v, len(text))
		}
	})
}
