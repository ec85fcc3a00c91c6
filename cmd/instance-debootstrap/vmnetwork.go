package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"instance-debootstrap/os/debootstrap"
	"instance-debootstrap/pkg/libvirt"
)

func newMAC(ctx context.Context, virsh libvirt.Virsh) (string, error) {
	used, err := virsh.MACs(ctx)
	if err != nil {
		return "", err
	}
	return libvirt.NewMAC(rand.Reader, used)
}

// connect reads what the NIC is connected to, and the guest's address there.
func (b *vmBuilder) connect(ctx context.Context) error {
	v := b.vm
	given := 0
	for _, is := range []bool{b.bridge != "", b.network != "", b.userNet} {
		if is {
			given++
		}
	}
	if given > 1 {
		return errors.New("--bridge, --network and --user-net exclude each other")
	}
	if err := b.address(); err != nil {
		return err
	}
	switch {
	case b.userNet:
		if v.Address.IsValid() {
			return errors.New("--user-net gives the guest its address: leave out --ip")
		}
		port, err := freePort(ctx, v.Virsh)
		v.Network.UserPort = port
		return err
	case b.network != "":
		return b.toNetwork(ctx, b.network)
	case b.bridge != "":
		return b.toBridge(b.bridge)
	case v.Node.Bridge.Text != "":
		return b.toBridge(v.Node.Bridge.Text)
	}
	if err := b.toNetwork(ctx, "default"); err != nil {
		return fmt.Errorf("the node has no bridge, and %w; --user-net needs neither", err)
	}
	return nil
}

func (b *vmBuilder) toNetwork(ctx context.Context, name string) error {
	active, err := b.vm.Virsh.HasNetwork(ctx, name)
	if err == nil && !active {
		err = fmt.Errorf("libvirt has no active network %s: virsh net-start %s", name, name)
	}
	b.vm.Network.Name = name
	return err
}

func (b *vmBuilder) toBridge(name string) error {
	if _, err := os.Stat("/sys/class/net/" + name + "/bridge"); err != nil {
		return fmt.Errorf("the node has no bridge %s: give another --bridge, or --network, or --user-net", name)
	}
	b.vm.Network.Bridge = name
	return nil
}

// address reads --ip, with or without the bits of its network.
func (b *vmBuilder) address() (err error) {
	if b.ip == "" {
		return nil
	}
	text := b.ip
	if !strings.Contains(text, "/") {
		mask := net.ParseIP(b.keys["netmask"].Text).To4()
		if mask == nil {
			return fmt.Errorf("--ip %s: give it with its network, as %s/24, for no netmask is known", b.ip, b.ip)
		}
		bits, _ := net.IPMask(mask).Size()
		text = fmt.Sprintf("%s/%d", text, bits)
	}
	if b.vm.Address, err = netip.ParsePrefix(text); err != nil || !b.vm.Address.Addr().Is4() {
		return fmt.Errorf("--ip %s: an IPv4 address, as 192.0.2.5/24", b.ip)
	}
	gateway := b.get(b.gateway, "gateway")
	if _, err := netip.ParseAddr(gateway); err != nil && gateway != "" {
		return fmt.Errorf("gateway %q: an IPv4 address", gateway)
	}
	return nil
}

// nic is the NIC in Ganeti's words.
func (b *vmBuilder) nic() []string {
	v := b.vm
	link := v.Network.Bridge
	if link == "" {
		link = "virtual"
	}
	env := []string{"NIC_COUNT=1", "NIC_0_MAC=" + v.MAC, "NIC_0_MODE=bridged", "NIC_0_LINK=" + link, "NIC_0_BRIDGE=" + link}
	if !v.Address.IsValid() {
		return append(env, "OSP_NETWORK=dhcp")
	}
	env = append(env, "OSP_NETWORK=static", "NIC_0_IP="+v.Address.Addr().String(), "NIC_0_NETWORK_NAME=vm", "NIC_0_NETWORK_SUBNET="+v.Address.Masked().String())
	if gateway := b.get(b.gateway, "gateway"); gateway != "" {
		env = append(env, "NIC_0_NETWORK_GATEWAY="+gateway)
	}
	return env
}

// resolvConf is the guest's resolv.conf(5); by DHCP it is written anew at boot.
func (b *vmBuilder) resolvConf() []byte {
	var text strings.Builder
	if search := words(b.get(b.search, "dns_search")); len(search) > 0 {
		text.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	for _, server := range words(b.get(b.dns, "dns_nameservers")) {
		text.WriteString("nameserver " + server + "\n")
	}
	if text.Len() == 0 {
		return nil
	}
	return []byte(text.String())
}

// words splits a list at blanks and commas.
func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' || r == '\n' })
}

// freePort is a port of 127.0.0.1 that nobody listens on, and no guest has that is
// shut off now.
func freePort(ctx context.Context, virsh libvirt.Virsh) (int, error) {
	guests, err := debootstrap.ListVMs(ctx, virsh)
	if err != nil {
		return 0, err
	}
	for {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			return 0, err
		}
		if !slices.ContainsFunc(guests, func(f *debootstrap.Found) bool { return f.Known.Port == port }) {
			return port, nil
		}
	}
}
