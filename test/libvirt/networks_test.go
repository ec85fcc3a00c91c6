//go:build root && slow

package libvirt

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// networks makes two networks of libvirt's, one of which leads nowhere, and two bridges
// of the node's, of which br8 has no address.
func (l lab) networks() {
	l.Helper()
	for name, xml := range map[string]string{
		"default": "<forward mode='nat'/><bridge name='virbr0'/><ip address='192.0.2.1' netmask='255.255.255.0'><dhcp><range start='192.0.2.100' end='192.0.2.200'/>" +
			"<host mac='52:54:00:00:00:99' ip='192.0.2.50'/></dhcp></ip><ip family='ipv6' address='2001:db8:5::1' prefix='64'/>",
		"closed": "<bridge name='virbr1'/><ip address='198.51.100.1' netmask='255.255.255.0'/>",
	} {
		l.try("virsh", "-q", "net-destroy", name)
		l.try("virsh", "-q", "net-undefine", name)
		l.write("/srv/"+name+".xml", "<network><name>"+name+"</name>"+xml+"</network>")
		l.tool("virsh", "-q", "net-define", "/srv/"+name+".xml")
		l.tool("virsh", "-q", "net-start", name)
		l.Cleanup(func() { l.try("virsh", "-q", "net-destroy", name); l.try("virsh", "-q", "net-undefine", name) })
	}
	for _, name := range []string{"br7", "br8"} {
		l.tool("ip", "link", "add", name, "type", "bridge")
		l.tool("ip", "link", "set", name, "up")
		l.Cleanup(func() { l.try("ip", "link", "del", name) })
	}
	l.tool("ip", "address", "add", "198.18.7.1/24", "dev", "br7")
}

func TestAFixedAddressTakesOverWhatItsOwnNetworkHas(t *testing.T) {
	l := newLab(t)
	l.networks()
	create := []string{"create", "--ssh-key", key + ".pub", "--root-size", "3G", "--swap-size", "64M"}
	l.vm(append(create, "--ip", "192.0.2.7,2001:db8:5::7", "--ip", "192.0.2.8/24", "--network", "default,mac=52:54:00:00:00:07", "--network", "network=closed,ip=198.51.100.7",
		"--bridge", "br7", "web1")...)
	l.vm("mount", "web1")
	text := string(l.read("/mnt/web1/etc/network/interfaces"))
	want := "auto nic0\niface nic0 inet static\n    address 192.0.2.7\n    netmask 255.255.255.0\n    gateway 192.0.2.1\n" +
		"iface nic0 inet static\n    address 192.0.2.8\n    netmask 255.255.255.0\n" +
		"iface nic0 inet6 static\n    address 2001:db8:5::7\n    netmask 64\n    gateway 2001:db8:5::1\n" +
		"\nauto nic1\niface nic1 inet static\n    address 198.51.100.7\n    netmask 255.255.255.0\n\nauto nic2\niface nic2 inet dhcp\n"
	if !strings.HasSuffix(text, want) {
		t.Errorf("interfaces:\n%s", text)
	}
	if text := string(l.read("/mnt/web1/etc/resolv.conf")); !strings.Contains(text, "nameserver 192.0.2.1\nnameserver 2001:db8:5::1\n") || strings.Contains(text, "10.0.2.3") {
		t.Errorf("resolv.conf:\n%s", text)
	}
	l.vm("umount", "web1")
	xml := l.tool("virsh", "-q", "dumpxml", "web1")
	for _, says := range []string{"<mac address='52:54:00:00:00:07'/>", "<source network='closed'/>", "<source bridge='br7'/>", "<address>192.0.2.7</address>", "<ip>198.51.100.7</ip>"} {
		if !strings.Contains(xml, says) {
			t.Errorf("the domain has no %s", says)
		}
	}

	l.tool("ip", "netns", "add", "neighbour")
	defer l.try("ip", "netns", "del", "neighbour")
	l.tool("ip", "link", "add", "port0", "type", "veth", "peer", "name", "card0", "netns", "neighbour")
	l.tool("ip", "link", "set", "port0", "master", "br7", "up")
	l.tool("ip", "-n", "neighbour", "address", "add", "198.18.7.77/24", "dev", "card0")
	l.tool("ip", "-n", "neighbour", "link", "set", "card0", "up")
	for _, row := range []struct {
		says    string // "" is a guest that can be made
		options string
	}{
		{"in use, by the node itself", "--network default --ip 192.0.2.1"},
		{"in use, by the guest web1", "--network default --ip 192.0.2.7"},
		{"in use, by the guest web1", "--network default --network closed,ip=198.51.100.7"},
		{"in use, reserved for 52:54:00:00:00:99", "--network default --ip 192.0.2.50"},
		{"", "--network default,mac=52:54:00:00:00:99 --ip 192.0.2.50"},
		{"in use, by the machine with the MAC address", "--bridge br7 --ip 198.18.7.77"},
		{"mac=52:54:00:00:00:07", "--network default,mac=52:54:00:00:00:07"},
		{"not in libvirt's network default, which is 192.0.2.0/24", "--network default --ip 192.0.3.5/24"},
		{"not in libvirt's network default, which is 192.0.2.0/24", "--network default --ip 192.0.3.5"},
		{"give it as 192.0.2.9/24", "--network default --ip 192.0.2.9/16"},
		{"its broadcast address", "--network default --ip 192.0.2.255"},
		{"gateway \"192.0.2\"", "--network default --ip 192.0.2.9 --gateway 192.0.2"},
		{"--gateway 198.51.100.1: in no network", "--network default --ip 192.0.2.9 --gateway 198.51.100.1"},
		{"give it with its network", "--bridge br8 --ip 192.0.2.9"},
		{"no gateway is known for the bridge br8", "--bridge br8 --ip 192.0.2.9/24"},
		{"", "--bridge br8 --ip 192.0.2.9/24 --gateway none"},
		{"", "--bridge br8 --ip 192.0.2.9/24 --gateway 192.0.2.254"},
		{"", "--bridge br7 --ip 198.18.7.9"}, // the node forwards, since libvirt has it do so
		{"", "--network closed --ip 198.51.100.9"},
		{"\"speed=1\": known are", "--network default,speed=1"},
		{"--user-net excludes --bridge", "--user-net --network default"},
	} {
		args := append(append([]string{program, "vm"}, create...), append(strings.Fields(row.options), "--dry-run", "web2")...)
		if row.says != "" {
			l.fails(row.says, args...)
		} else {
			l.tool(args...)
		}
	}
	out, err := exec.Command(program, append([]string{"vm"}, append(create, "--network", "default", "--ip", "192.0.2.150", "--dry-run", "web2")...)...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "virsh net-update default add ip-dhcp-host") {
		t.Errorf("an address that may be leased: %v\n%s", err, out)
	}
	l.vm("remove", "--yes", "web1")
	l.clean(5 * time.Second)
}

func (l lab) read(name string) []byte {
	l.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		l.Fatal(err)
	}
	return text
}
