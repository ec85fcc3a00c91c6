package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/node"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/vm"
)

// nicOption is one --network or --bridge; both names "" are the node's own choice.
type nicOption struct {
	network, bridge string
	mac             string
	ips, gateways   []string
}

// nicFlag reads both options into one list, in the order in which they stand.
type nicFlag struct {
	kind string
	list *[]nicOption
}

func (f *nicFlag) String() string { return "" }

// Set reads NAME[,mac=…][,ip=…][,gateway=…], or with network= or bridge= before the
// name, as virt-install(1) has it.
func (f *nicFlag) Set(text string) error {
	var o nicOption
	for i, part := range strings.Split(text, ",") {
		key, value, found := strings.Cut(part, "=")
		if i == 0 && !found {
			key, value = f.kind, part
		}
		switch {
		case value == "":
			return fmt.Errorf("%q: write it as NAME[,ip=ADDRESS/BITS][,gateway=ADDRESS][,mac=ADDRESS]", part)
		case key == "network":
			o.network = value
		case key == "bridge":
			o.bridge = value
		case key == "mac":
			o.mac = strings.ToLower(value)
		case key == "ip":
			o.ips = append(o.ips, value)
		case key == "gateway":
			o.gateways = append(o.gateways, value)
		case part == "model=virtio":
		default:
			return fmt.Errorf("%q: known are network, bridge, ip, gateway, mac", part)
		}
	}
	if (o.network == "") == (o.bridge == "") {
		return errors.New("give the name of one network or bridge")
	}
	*f.list = append(*f.list, o)
	return nil
}

// nicOptions are the NICs as they were asked for; the first has what --ip and
// --gateway say.
func (o vmOptions) nicOptions() []nicOption {
	list := slices.Clone(o.nics)
	if len(list) == 0 {
		list = []nicOption{{}}
	}
	list[0].ips = append(slices.Clone(o.ips), list[0].ips...)
	list[0].gateways = append(words(o.gateway), list[0].gateways...)
	return list
}

// findLinks looks at what each NIC is to be connected to.
func findLinks(ctx context.Context, virsh libvirt.Virsh, o vmOptions, facts node.Facts) (links []link, err error) {
	if o.userNet {
		return nil, nil
	}
	var errs []error
	for _, nic := range o.nicOptions() {
		l, err := findLink(ctx, virsh, nic, facts)
		links, errs = append(links, l), append(errs, err)
	}
	return links, errors.Join(errs...)
}

// connect reads the guest's NICs: what they are connected to, and the addresses.
func (b *vmBuilder) connect(ctx context.Context, links []link) error {
	v := b.vm
	used, err := v.Virsh.MACs(ctx)
	if err != nil {
		return err
	}
	if b.userNet {
		if len(b.nics) > 0 || len(b.ips) > 0 {
			return usagef("--user-net excludes --bridge, --network and --ip: it is a network of its own")
		}
		nic := vm.NIC{}
		if nic.MAC, err = libvirt.NewMAC(rand.Reader, used); err == nil {
			nic.Network.UserPort, err = freePort(ctx, v.Virsh)
		}
		v.NICs = []vm.NIC{nic}
		return err
	}
	var errs []error
	for i, o := range b.nicOptions() {
		nic := vm.NIC{Network: links[i].Network}
		var err error
		if o.mac == "" {
			nic.MAC, err = libvirt.NewMAC(rand.Reader, used)
		} else if mac, wrong := net.ParseMAC(o.mac); wrong != nil || len(mac) != 6 || mac[0]&1 != 0 {
			err = usagef("mac=%s: not the MAC address of one card; write it as 52:54:00:12:34:56", o.mac)
		} else if used[mac.String()] {
			err = fmt.Errorf("mac=%s: another guest has it; give another, or none", o.mac)
		} else {
			nic.MAC = mac.String()
		}
		used[nic.MAC] = true
		if err == nil {
			err = b.address(ctx, i, links[i], o, &nic)
		}
		v.NICs, errs = append(v.NICs, nic), append(errs, err)
	}
	return errors.Join(errs...)
}

// address reads a NIC's fixed addresses and the gateways that go with them. Only the
// first NIC takes over a gateway: a guest has one default route.
func (b *vmBuilder) address(ctx context.Context, i int, l link, o nicOption, nic *vm.NIC) error {
	for _, text := range o.ips {
		p, err := b.prefix(l, text)
		if err == nil {
			err = b.checkAddress(ctx, l, *nic, p)
		}
		if err == nil && b.seen[p.Addr()] {
			err = usagef("--ip %s: given twice", p.Addr())
		}
		if err != nil {
			return err
		}
		b.seen[p.Addr()] = true
		nic.Addresses = append(nic.Addresses, p)
	}
	if len(nic.Addresses) == 0 {
		if len(o.gateways) > 0 {
			return usagef("--gateway needs --ip: by DHCP a guest is told its gateway")
		}
		return nil
	}
	if slices.Equal(o.gateways, []string{"none"}) {
		nic.NoGateway = true
		return nil
	}
	for _, text := range o.gateways {
		if err := nic.AddGateway(text, "--gateway"); err != nil {
			return &usageError{err}
		}
	}
	if i > 0 || len(nic.Gateways) > 0 {
		nic.NoGateway = i > 0
		return nil
	}
	if key := b.keys["gateway"]; key.Text != "" && nic.Has(false) {
		if err := nic.AddGateway(key.Text, fmt.Sprintf("gateway (%s)", key.Origin)); err != nil {
			return err
		}
	}
	for _, gw := range l.gateways {
		if gw.Is6() && nic.Has(true) {
			nic.Gateways = append(nic.Gateways, gw)
		}
	}
	return b.mustLeadOut(ctx, l, nic)
}

// mustLeadOut refuses a guest that would have no gateway, unless its network has none.
func (b *vmBuilder) mustLeadOut(ctx context.Context, l link, nic *vm.NIC) error {
	switch {
	case !nic.Has(false) || len(nic.Gateways) > 0: // routers advertise themselves for IPv6
		return nil
	case l.isolated:
		nic.NoGateway = true
		zerolog.Ctx(ctx).Info().Msgf("%s is isolated: the guest has no gateway", l.title)
		return nil
	}
	return fmt.Errorf("no gateway is known for %s: give --gateway ADDRESS, or --gateway none for a guest that reaches only its own network", l.title)
}

// ganetiNICs are the NICs in Ganeti's words, which hooks know; what these don't say the
// order does. With them comes NETWORK.
func (b *vmBuilder) ganetiNICs() (nics []osapi.NIC, wanted string) {
	wanted = "dhcp"
	for _, nic := range b.vm.NICs {
		link := cmp.Or(nic.Network.Bridge, "virtual")
		n := osapi.NIC{MAC: nic.MAC, Mode: "bridged", Link: link, Bridge: link}
		if len(nic.Addresses) > 0 {
			wanted = "static"
			n.IP, n.Network.Name = nic.Addresses[0].Addr().String(), "vm"
			n.Network.Subnet, n.Network.Gateway = familyOf(nic, netip.Addr.Is4)
			n.Network.Subnet6, n.Network.Gateway6 = familyOf(nic, netip.Addr.Is6)
		}
		nics = append(nics, n)
	}
	return nics, wanted
}

// familyOf is the first network of a NIC with addresses of one family, and its gateway; ""
// is none.
func familyOf(nic vm.NIC, is func(netip.Addr) bool) (subnet, gateway string) {
	if i := slices.IndexFunc(nic.Addresses, func(p netip.Prefix) bool { return is(p.Addr()) }); i >= 0 {
		subnet = nic.Addresses[i].Masked().String()
	}
	if i := slices.IndexFunc(nic.Gateways, is); i >= 0 {
		gateway = nic.Gateways[i].String()
	}
	return subnet, gateway
}

// nicName is what the guest calls its first NIC; "" is nic0. Of several only who wrote so
// has the first called as a kernel would: that gives out eth0 to whichever it sees first.
func (b *vmBuilder) nicName() string {
	name := b.keys["interface"]
	if len(b.vm.NICs) > 1 && name.Origin == "the default" {
		return ""
	}
	return name.Text
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
	guests, err := vm.List(ctx, virsh)
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
		if !slices.ContainsFunc(guests, func(f *vm.VM) bool { return f.Known.Port == port }) {
			return port, nil
		}
	}
}
