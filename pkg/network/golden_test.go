package network

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

var renderers = []Renderer{Ifupdown, Netplan, Networkd}

const (
	mac0 = "aa:00:00:12:34:56"
	mac1 = "AA:00:00:12:34:57"
	mac2 = "aa:00:00:12:34:58"
)

// cases are guests by what Ganeti knows of their NICs, with what they then have
// by the kernel's account: addresses, and routes other than those to the
// interfaces' own networks.
var cases = []struct {
	name  string
	nics  []NIC
	dhcp  bool
	dns   string // a resolv.conf
	notes []string
	has   map[string]string // by interface
	route []string
}{
	{name: "nothing"},
	{name: "one v4", nics: []NIC{{MAC: mac0, Mode: "bridged", IP: "192.0.2.10", Subnet: "192.0.2.0/24", Gateway: "192.0.2.1"}},
		has: map[string]string{"nic0": "192.0.2.10/24"}, route: []string{"default via 192.0.2.1 dev nic0"}},
	{name: "v4 and v6", nics: []NIC{{MAC: mac0, Mode: "bridged", IP: "192.0.2.10", Subnet: "192.0.2.0/24", Gateway: "192.0.2.1",
		Subnet6: "2001:db8:1::/64", Gateway6: "2001:db8:1::1"}},
		dns:   "search example sub.example\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n",
		has:   map[string]string{"nic0": "192.0.2.10/24 2001:db8:1:0:a800:ff:fe12:3456/64"},
		route: []string{"default via 192.0.2.1 dev nic0", "default via 2001:db8:1::1 dev nic0"}},
	{name: "v6 only", nics: []NIC{{MAC: mac0, Mode: "openvswitch", IP: "2001:db8:1::5", Subnet6: "2001:db8:1::/56", Gateway6: "fe80::1"}},
		has: map[string]string{"nic0": "2001:db8:1::5/56"}, route: []string{"default via fe80::1 dev nic0"}},
	{name: "v6 network without gateway", nics: []NIC{{MAC: mac0, Mode: "bridged", Subnet6: "2001:db8:1::/64"}},
		has: map[string]string{"nic0": "2001:db8:1:0:a800:ff:fe12:3456/64"}},
	{name: "several", nics: []NIC{
		{MAC: mac0, Mode: "bridged", IP: "192.0.2.10", Subnet: "192.0.2.0/24", Gateway: "192.0.2.1"},
		{Index: 1, MAC: mac1, Mode: "bridged", IP: "198.51.100.10", Subnet: "198.51.100.0/25", Gateway: "198.51.100.1"},
		{Index: 2, MAC: mac2, Mode: "bridged", Subnet: "203.0.113.0/24"}},
		dns: "nameserver 192.0.2.53\n",
		notes: []string{"NIC 1: its gateway is not used, the default route is by nic0",
			"NIC 2 has no address in Ganeti's data: nic2 is not configured"},
		has: map[string]string{"nic0": "192.0.2.10/24", "nic1": "198.51.100.10/25", "nic2": ""}, route: []string{"default via 192.0.2.1 dev nic0"}},
	{name: "several addresses of both families", nics: []NIC{{MAC: mac0, Fixed: []netip.Prefix{
		netip.MustParsePrefix("192.0.2.10/24"), netip.MustParsePrefix("192.0.2.11/24"), netip.MustParsePrefix("2001:db8:1::5/64"), netip.MustParsePrefix("2001:db8:1::6/64")},
		Gateways: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:1::1")}}},
		dns:   "nameserver 192.0.2.53\n",
		has:   map[string]string{"nic0": "192.0.2.10/24 192.0.2.11/24 2001:db8:1::6/64 2001:db8:1::5/64"},
		route: []string{"default via 192.0.2.1 dev nic0", "default via 2001:db8:1::1 dev nic0"}},
	{name: "routed alone", nics: []NIC{{MAC: mac0, Mode: "routed", IP: "198.51.100.7"}},
		notes: []string{"NIC 0: Ganeti knows no network of 198.51.100.7: it is configured as 198.51.100.7/32",
			"NIC 0: Ganeti knows no gateway: the default route is the link to the node"},
		has: map[string]string{"nic0": "198.51.100.7/32"}, route: []string{"default dev nic0"}},
	{name: "routed with gateways on link", nics: []NIC{{MAC: mac0, Mode: "routed", IP: "198.51.100.7", Subnet: "192.0.2.0/24", Gateway: "192.0.2.1"},
		{Index: 1, MAC: mac1, Mode: "routed", IP: "2001:db8:2::7", Gateway6: "2001:db8:1::1"}},
		notes: []string{"NIC 0: 198.51.100.7 is not in its network, 192.0.2.0/24: it is configured as 198.51.100.7/32",
			"NIC 1: Ganeti knows no network of 2001:db8:2::7: it is configured as 2001:db8:2::7/128"},
		has:   map[string]string{"nic0": "198.51.100.7/32", "nic1": "2001:db8:2::7/128"},
		route: []string{"default via 192.0.2.1 dev nic0", "default via 2001:db8:1::1 dev nic1"}},
	{name: "bridged without gateway", nics: []NIC{{MAC: mac0, Mode: "bridged", IP: "192.0.2.10"}},
		notes: []string{"NIC 0: Ganeti knows no network of 192.0.2.10: it is configured as 192.0.2.10/32", "NIC 0: Ganeti knows no gateway: no default route"},
		has:   map[string]string{"nic0": "192.0.2.10/32"}},
	{name: "dhcp", dhcp: true, nics: []NIC{{MAC: mac0, Mode: "bridged"}, {Index: 1, MAC: mac1, Mode: "bridged", IP: "192.0.2.10"}}},
	{name: "dhcp on every interface", dhcp: true},
}

// config is a case's configuration.
func config(i int) (Config, []string) {
	if c := cases[i]; c.dhcp {
		return DHCP(c.nics, true), nil
	} else {
		conf, notes := Static(c.nics, true)
		conf.DNS = ParseDNS(c.dns)
		return conf, notes
	}
}

func TestRenderedFilesAreTheGoldenOnes(t *testing.T) {
	for i, c := range cases {
		conf, notes := config(i)
		if fmt.Sprint(notes) != fmt.Sprint(c.notes) {
			t.Errorf("%s: notes %q, want %q", c.name, notes, c.notes)
		}
		var b strings.Builder
		for _, r := range renderers {
			for _, f := range Files(r, conf) {
				fmt.Fprintf(&b, "-- %s: %s %04o --\n%s", r, f.Path, f.Mode, f.Content)
			}
		}
		if pins := Pins(c.nics); len(pins) > 0 {
			f := Rules(pins)
			fmt.Fprintf(&b, "-- udev: %s %04o --\n%s", f.Path, f.Mode, f.Content)
		}
		golden := filepath.Join("testdata", strings.ReplaceAll(c.name, " ", "-")+".golden")
		if *update {
			if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil || string(want) != b.String() {
			t.Errorf("%s: %v, rendered:\n%s", golden, err, b.String())
		}
	}
}

func TestKnownIsAnAddressOrAnIPv6NetworkThatGivesOne(t *testing.T) {
	for _, c := range []struct {
		nic   NIC
		known bool
	}{
		{NIC{}, false},
		{NIC{MAC: mac0, Subnet: "192.0.2.0/24", Gateway: "192.0.2.1"}, false},
		{NIC{MAC: mac0, IP: "192.0.2.1"}, true},
		{NIC{MAC: mac0, Subnet6: "2001:db8::/64"}, true},
		{NIC{MAC: mac0, Subnet6: "2001:db8::/80"}, false},
		{NIC{Subnet6: "2001:db8::/64"}, false},
	} {
		if got := Known([]NIC{{}, c.nic}); got != c.known {
			t.Errorf("%+v: %v", c.nic, got)
		}
	}
}

func TestWithoutUdevTheNamesAreTheKernels(t *testing.T) {
	conf, _ := Static(cases[1].nics, false)
	if conf.Interfaces[0].Name != "eth0" {
		t.Error(conf.Interfaces[0].Name)
	}
	if got := (NIC{Index: 3}).Name(true); got != "eth3" {
		t.Errorf("a NIC of unknown MAC can't be named, and is %s", got)
	}
}

func TestDNSIsWhatOthersReach(t *testing.T) {
	d := ParseDNS("# nameserver 192.0.2.1\nnameserver 127.0.0.1\nnameserver fe80::1%eth0\nnameserver x\nnameserver ::1\nnameserver 192.0.2.53\n" +
		"domain old\nsearch a.example b\"c d;e .\n")
	if got := fmt.Sprint(d); got != "{[192.0.2.53] [a.example]}" {
		t.Error(got)
	}
}

func TestNamesMoveToOtherMACsAndEditsStay(t *testing.T) {
	text := Rules([]Pin{{"nic0", mac0}, {"nic1", mac1}, {"nic2", mac2}}).Content
	text = strings.ReplaceAll(text, `NAME="nic1"`, `NAME="lan"`) + "KERNEL==\"x\", NAME=\"nic0\"\n"
	want := strings.ReplaceAll(text, mac0, "aa:00:00:99:99:99")
	if got := Repin(text, []Pin{{"nic0", "AA:00:00:99:99:99"}, {"nic1", "aa:00:00:99:99:98"}}); got != want {
		t.Errorf("%s", got)
	}
}

// TestNamesOfChangedAddressesGoToTheOtherCardsInTheirOrder, in whatever order udev
// adds the cards: it runs the rules' own script in a folder that is made like /sys's.
func TestNamesOfChangedAddressesGoToTheOtherCardsInTheirOrder(t *testing.T) {
	other := func(n int) string { return fmt.Sprintf("aa:00:00:99:99:%02d", n) }
	for _, c := range []struct {
		pins, cards []string // addresses, the cards' in the order of their slots
		want        string   // their names
	}{
		{[]string{mac0}, []string{mac0}, "-"},
		{[]string{mac0}, []string{other(1)}, "nic0"},
		{[]string{mac0}, []string{other(1), other(2), other(3)}, "nic0 - -"},
		{[]string{mac0, mac1}, []string{mac0, other(2), other(3)}, "- nic1 -"},
		{[]string{mac0, mac1}, []string{other(1), mac1, other(3)}, "nic0 - -"},
		{[]string{mac0, mac1}, []string{other(1), other(2)}, "nic0 nic1"},
		{[]string{mac0, mac1, mac2}, []string{other(1), mac1, other(2), other(3)}, "nic0 - nic2 -"},
	} {
		dir := t.TempDir()
		for i, address := range append([]string{"00:00:00:00:00:00"}, c.cards...) {
			card := filepath.Join(dir, fmt.Sprintf("eth%d", i))
			for name, content := range map[string]string{"address": address, "ifindex": fmt.Sprint(i + 1)} {
				if err := errors.Join(os.MkdirAll(card, 0o755), os.WriteFile(filepath.Join(card, name), []byte(strings.ToLower(content)+"\n"), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			if i > 0 { // else it is lo
				if err := os.Mkdir(filepath.Join(card, "device"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, first := range []string{"nic0", "eth1"} { // eth1 is what the kernel calls the first card
			want := strings.NewReplacer("nic0", "eth1", "nic1", "eth2", "nic2", "eth3").Replace(c.want)
			if first == "nic0" {
				want = c.want
			}
			if got := namesByScript(dir, first, c.pins, c.cards); got != want {
				t.Errorf("pins %q, cards %q: %q, want %q", c.pins, c.cards, got, want)
			}
		}
	}
}

// namesByScript are the names that the rules' script gives cards, "-" is none; names
// count up from the first.
func namesByScript(dir, first string, addresses, cards []string) string {
	var pins []Pin
	for i, mac := range addresses {
		pins = append(pins, Pin{first[:3] + string(rune(int(first[3])+i)), mac})
	}
	programs := regexp.MustCompile(`PROGRAM=="/bin/sh -c '(.*)'", NAME="(.*)"`).FindAllStringSubmatch(Rules(pins).Content, -1)
	var got []string
	for i, card := range cards {
		name := "-"
		for _, p := range programs {
			if slices.Contains(addresses, card) { // it has its name by the first rules
				break
			}
			script := strings.NewReplacer("/sys/class/net", dir, "$attr{ifindex}", fmt.Sprint(i+2), "$$", "$", "%%", "%").Replace(p[1])
			if exec.Command("/bin/sh", "-c", script).Run() == nil {
				name = p[2]
			}
		}
		got = append(got, name)
	}
	return strings.Join(got, " ")
}

// TestAnAddressWithAZoneIsNone: a zone may be any text, of several lines too.
func TestAnAddressWithAZoneIsNone(t *testing.T) {
	c, _ := Static([]NIC{{IP: "2001:db8::5", Subnet6: "2001:db8::/64", Gateway6: "fe80::1%x\n    up reboot"}, {IP: "fe80::5%x\n    up reboot"}}, true)
	for _, r := range []Renderer{Ifupdown, Netplan, Networkd} {
		for _, file := range Files(r, c) {
			if strings.Contains(file.Content, "reboot") {
				t.Errorf("%s:\n%s", r, file.Content)
			}
		}
	}
}
