//go:build root

package root

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	loOnly   = "auto lo\niface lo inet loopback\n"
	nicRules = "etc/udev/rules.d/70-instance-debootstrap-net.rules"
)

// networkTree is the tiny tree with further files, empty ones.
func (l *lab) networkTree(files ...string) {
	l.Helper()
	l.tinyTree()
	dir := l.TempDir()
	must(l, os.Chmod(dir, 0o755))
	for _, name := range files {
		must(l, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		must(l, os.WriteFile(filepath.Join(dir, name), nil, 0o755))
	}
	l.tool("tar", "-rf", l.tar(), "-C", dir, ".")
}

// nic tells what Ganeti knows of NIC n, "NAME=value" with names without NIC_n_.
func (l *lab) nic(n int, variables ...string) {
	l.env["NIC_COUNT"] = fmt.Sprint(n + 1)
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		l.env[fmt.Sprintf("NIC_%d_%s", n, name)] = value
	}
}

func (l *lab) knownNIC() {
	l.nic(0, "MAC=aa:00:00:12:34:56", "MODE=bridged", "LINK=br0", "IP=192.0.2.10", "NETWORK_NAME=lan",
		"NETWORK_SUBNET=192.0.2.0/24", "NETWORK_GATEWAY=192.0.2.1", "NETWORK_SUBNET6=2001:db8:1::/64", "NETWORK_GATEWAY6=2001:db8:1::1")
}

// guestFile is a file of the guest, "" is none.
func (l *lab) guestFile(name string) (text string) {
	l.Helper()
	l.mounted(func(tree string) {
		b, err := os.ReadFile(filepath.Join(tree, name))
		if err != nil && !os.IsNotExist(err) {
			l.Error(err)
		}
		if st, err := os.Stat(filepath.Join(tree, name)); err == nil && st.Mode() != 0o644 && !strings.Contains(name, "netplan") {
			l.Errorf("/%s has mode %v", name, st.Mode())
		}
		text = string(b)
	})
	return text
}

func has(t *testing.T, text string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

func TestAGuestGetsTheNetworkThatGanetiKnows(t *testing.T) {
	l := newLab(t, 600)
	l.networkTree("sbin/udevd")
	l.knownNIC()
	l.nic(1, "MAC=aa:00:00:12:34:57", "MODE=bridged", "LINK=br1")
	log := l.create()
	has(t, log, "network of the guest, for ifupdown: nic0 192.0.2.10/24", "NIC 1 has no address")
	has(t, l.guestFile("etc/network/interfaces"), loOnly, "iface nic0 inet static\n    address 192.0.2.10\n", "gateway 2001:db8:1::1\n")
	has(t, l.guestFile(nicRules), `"aa:00:00:12:34:57"`, `NAME="nic1"`)
}

func TestWhatGanetiDoesNotKnowIsLoOnly(t *testing.T) {
	for name, change := range map[string]func(l *lab){
		"no NIC": func(l *lab) {},
		"a NIC without address": func(l *lab) {
			l.nic(0, "MAC=aa:00:00:12:34:56", "MODE=bridged", "LINK=br0", "NETWORK_SUBNET=192.0.2.0/24")
		},
		"all of it, not to be used ": func(l *lab) { l.knownNIC(); l.env["OSP_NETWORK"] = "none" },
	} {
		l := newLab(t, 600)
		l.networkTree("sbin/udevd")
		change(l)
		l.hook("50-looks", `cat "$TARGET/etc/network/interfaces"`)
		l.create()
		if got := l.guestFile("etc/network/interfaces"); got != loOnly {
			t.Errorf("%s: %q", name, got)
		}
		if got := l.guestFile(nicRules); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestAHooksNetworkWins(t *testing.T) {
	for file, script := range map[string]string{
		"etc/network/interfaces":             `echo '    up true' >>"$TARGET/etc/network/interfaces"`,
		"etc/systemd/network/20-lan.network": `mkdir -p "$TARGET/etc/systemd/network"; echo '[Match]' >"$TARGET/etc/systemd/network/20-lan.network"`,
		"etc/netplan/50-lan.yaml":            `mkdir -p "$TARGET/etc/netplan"; echo 'network:' >"$TARGET/etc/netplan/50-lan.yaml"`,
		"etc/network/interfaces.d/nic0":      `mkdir -p "$TARGET/etc/network/interfaces.d"; echo >"$TARGET/etc/network/interfaces.d/nic0"`,
	} {
		l := newLab(t, 600)
		l.networkTree("sbin/udevd")
		l.knownNIC()
		l.env["OSP_NETWORK"] = "static"
		l.hook("50-network", script)
		has(t, l.create(), "has set up the network (/"+file+"): it stays as it is")
		if got := l.guestFile("etc/network/interfaces"); strings.Contains(got, "nic0") || !strings.HasPrefix(got, loOnly) {
			t.Errorf("%s: rendered all the same:\n%s", file, got)
		}
	}
}

// Hooks of those that people have. By itself the guest's udev would call it ens3.
func TestTheNICsAreCalledAsAHooksNetworkFilesCallThem(t *testing.T) {
	for name, script := range map[string]string{
		"ifupdown": `printf 'auto eth0\niface eth0 inet dhcp\n# no eth7\n' >>"$TARGET/etc/network/interfaces"`,
		"a stanza in a file of its own": `mkdir -p "$TARGET/etc/network/interfaces.d"
printf 'allow-hotplug eth0\niface eth0 inet static\n  address %s/24\n' "$NIC_0_IP" >"$TARGET/etc/network/interfaces.d/eth0"`,
		"networkd": `mkdir -p "$TARGET/etc/systemd/network"; printf '[Match]\nName=eth0\n[Network]\nDHCP=yes\n' >"$TARGET/etc/systemd/network/50-dhcp.network"`,
		"netplan":  `mkdir -p "$TARGET/etc/netplan"; printf 'network:\n  ethernets:\n    eth0:\n      dhcp4: true\n' >"$TARGET/etc/netplan/50-eth0.yaml"`,
		"a VLAN":   `printf 'auto eth0.7\niface eth0.7 inet dhcp\n' >>"$TARGET/etc/network/interfaces"`,
	} {
		for _, config := range []string{"none", "auto"} {
			l := newLab(t, 600)
			l.networkTree("sbin/udevd")
			l.knownNIC()
			l.nic(1, "MAC=AA:00:00:12:34:57", "MODE=bridged", "LINK=br1")
			l.env["OSP_NETWORK"] = config
			l.hook("50-network", script)
			log := l.create()
			has(t, log, "the guest calls aa:00:00:12:34:56 so")
			rules := l.guestFile(nicRules)
			has(t, rules, `ATTR{address}=="aa:00:00:12:34:56"`, `NAME="eth0"`)
			if strings.Contains(rules, "eth7") || strings.Contains(rules, "nic0") || strings.Contains(rules, "34:57") || strings.Contains(log, "warn: a hook") {
				t.Errorf("%s:\n%s\n%s", name, rules, log)
			}
		}
	}
}

// A hook was written on a machine of another make, where udev calls the cards ens18 and ens19.
func TestTheNamesThatAnotherMachinesUdevGivesAreMadeTrue(t *testing.T) {
	hook := func(l *lab, names ...string) {
		l.hook("50-network", `for i in `+strings.Join(names, " ")+`; do printf 'auto %s\niface %s inet dhcp\n' $i $i >>"$TARGET/etc/network/interfaces"; done`)
	}
	l := newLab(t, 600)
	l.networkTree("sbin/udevd")
	l.nic(0, "MAC=aa:00:00:12:34:56", "MODE=bridged", "LINK=br0")
	l.nic(1, "MAC=aa:00:00:12:34:57", "MODE=bridged", "LINK=br1")
	hook(l, "ens18", "ens9")
	has(t, l.create(), "a hook's network files name ens9: the guest calls aa:00:00:12:34:56 so", "a hook's network files name ens18: the guest calls aa:00:00:12:34:57 so")
	has(t, l.guestFile(nicRules), `ATTR{address}=="aa:00:00:12:34:56", ATTR{type}=="1", ENV{DEVTYPE}!="?*", NAME="ens9"`, `NAME="ens18"`)
	hook(l, "eth0", "enp1s0")
	has(t, l.create(), "name eth0: the guest calls aa:00:00:12:34:56 so", "name enp1s0: the guest calls aa:00:00:12:34:57 so")
	hook(l, "eno1")
	l.matches(l.create(), "warn: a hook's network files name eno1, and it is not known which NIC's MAC address is meant")
}

func TestANameInAHooksNetworkFilesThatNoNICHasIsSaid(t *testing.T) {
	const hook = `printf 'auto eth0\niface eth0 inet dhcp\nauto eth1\niface eth1 inet dhcp\n' >>"$TARGET/etc/network/interfaces"`
	const said = "a hook's network files name eth1, and it is not known which NIC's MAC address is meant"
	l := newLab(t, 600)
	l.networkTree("sbin/udevd")
	l.nic(0, "MAC=aa:00:00:12:34:56", "MODE=bridged", "LINK=br0")
	l.hook("50-network", hook)
	has(t, l.create(), said)
	has(t, l.guestFile(nicRules), `NAME="eth0"`)
	out, exit := l.byHand("install", "--force", "--hostname", "guest.example", l.disk)
	if exit != 0 || !strings.Contains(out, "name eth0, eth1, and it is not known which NIC") {
		t.Errorf("exit status %d\n%s", exit, out)
	}
	// Without udev these are the names.
	l.networkTree()
	if log := l.create(); strings.Contains(log, said) {
		t.Error(log)
	}
}

func TestNamesThatAHookHasSeenToStay(t *testing.T) {
	for name, script := range map[string]string{
		"net.ifnames=0":   `echo 'GRUB_CMDLINE_LINUX="net.ifnames=0 biosdevname=0"' >>"$TARGET/etc/default/grub"`,
		"a mask":          `ln -s /dev/null "$TARGET/etc/udev/rules.d/80-net-setup-link.rules"`,
		"a rule":          `echo 'SUBSYSTEM=="net", ATTR{address}=="aa:00:00:12:34:56", NAME="eth0"' >"$TARGET/etc/udev/rules.d/70-persistent-net.rules"`,
		"a .link file":    `mkdir -p "$TARGET/etc/systemd/network"; printf '[Match]\nMACAddress=aa:00:00:12:34:56\n[Link]\nName=eth0\n' >"$TARGET/etc/systemd/network/10-eth0.link"`,
		"a .link is null": `mkdir -p "$TARGET/etc/systemd/network"; ln -s /dev/null "$TARGET/etc/systemd/network/99-default.link"`,
	} {
		l := newLab(t, 600)
		l.networkTree("sbin/udevd", "etc/default/grub", "etc/udev/rules.d/keep")
		l.knownNIC()
		l.hook("50-names", "set -e\n"+script+`
printf 'auto eth0\niface eth0 inet dhcp\nauto eth1\niface eth1 inet dhcp\n' >>"$TARGET/etc/network/interfaces"`)
		if log := l.create(); strings.Contains(log, "a hook's network files name") {
			t.Errorf("%s:\n%s", name, log)
		}
		if got := l.guestFile(nicRules); got != "" {
			t.Errorf("%s:\n%s", name, got)
		}
	}
}

func TestAMenuThatIsOlderThanItsSettingsDecidesOnTheNames(t *testing.T) {
	l := newLab(t, 600)
	l.networkTree("sbin/udevd", "etc/default/grub", "boot/grub/keep")
	l.knownNIC()
	l.hook("50-names", `set -e
printf 'menuentry Debian {\n\tlinux\t/boot/vmlinuz root=/dev/vda1 ro quiet\n}\n' >"$TARGET/boot/grub/grub.cfg"
echo 'GRUB_CMDLINE_LINUX="net.ifnames=0"' >>"$TARGET/etc/default/grub"
printf 'auto eth0\niface eth0 inet dhcp\n' >>"$TARGET/etc/network/interfaces"`)
	has(t, l.create(), "a hook's network files name eth0: the guest calls")
	has(t, l.guestFile(nicRules), `NAME="eth0"`)
}

func TestOurOwnNetworkHasTheKernelsNamesWhereAHookWantsThem(t *testing.T) {
	l := newLab(t, 600)
	l.networkTree("sbin/udevd", "etc/default/grub")
	l.knownNIC()
	l.hook("50-names", `echo 'GRUB_CMDLINE_LINUX="net.ifnames=0"' >>"$TARGET/etc/default/grub"`)
	has(t, l.create(), "as /etc/default/grub has it", "eth0 192.0.2.10/24")
	has(t, l.guestFile("etc/network/interfaces"), "iface eth0 inet static\n")
	has(t, l.guestFile(nicRules), `NAME="eth0"`)
}

func TestStaticIsRefusedBeforeTheDiskIsTouchedWhereNothingIsKnown(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.env["OSP_NETWORK"] = "static"
	l.nic(0, "MAC=aa:00:00:12:34:56", "MODE=bridged", "LINK=br0")
	l.fails("NETWORK=static: no address of a NIC is known")
	l.untouched()
	cmd := l.command("create")
	plan := exec.Command(program, "plan", "create")
	plan.Env = cmd.Env
	out, _ := plan.CombinedOutput()
	if plan.ProcessState.ExitCode() != 1 {
		t.Errorf("plan: %v", plan.ProcessState)
	}
	has(t, string(out), "configure the network", "NETWORK=static: no address of a NIC is known")
}

func TestAGuestThatCannotDoDHCPIsAFailure(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree() // ifupdown alone
	l.env["OSP_NETWORK"] = "dhcp"
	l.fails("NETWORK=dhcp: the guest has ifupdown without a DHCP client: add one (isc-dhcp-client, dhcpcd-base) to EXTRA_PKGS")
}

func TestAutoOnlyWarnsOfAGuestWithoutANetworkProgram(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.knownNIC()
	l.hook("50-none", `rm "$TARGET/sbin/ifup"`)
	has(t, l.create(), "the guest's network is not set up: the guest has neither ifupdown nor netplan nor systemd-networkd")
	if got := l.guestFile("etc/network/interfaces"); got != loOnly {
		t.Errorf("%q", got)
	}
}

func TestByHandDHCPIsForEveryEthernetInterface(t *testing.T) {
	l := newLab(t, 600)
	l.networkTree("sbin/udevd", "sbin/dhclient")
	out, exit := l.byHand("install", "--network", "dhcp", "--hostname", "guest.example", l.disk)
	if exit != 0 {
		t.Fatalf("exit status %d\n%s", exit, out)
	}
	l.clean(0)
	has(t, l.guestFile("etc/network/interfaces"), "auto /e*=ethernet\niface ethernet inet dhcp\n")
	if got := l.guestFile(nicRules); got != "" {
		t.Error(got)
	}
	if out, exit = l.byHand("install", "--force", "--network", "wifi", l.disk); exit == 0 || !strings.Contains(out, "must be one of") {
		t.Errorf("exit status %d\n%s", exit, out)
	}
}

func TestANetplanGuestsFileIsRootsAlone(t *testing.T) {
	l := newLab(t, 600)
	l.networkTree("usr/sbin/netplan", "lib/systemd/systemd-udevd")
	l.knownNIC()
	l.hook("50-none", `rm "$TARGET/sbin/ifup"`)
	has(t, l.create(), "for netplan: nic0 192.0.2.10/24")
	l.mounted(func(tree string) {
		if st, err := os.Stat(tree + "/etc/netplan/01-netcfg.yaml"); err != nil || st.Mode() != 0o600 {
			t.Error(st.Mode(), err)
		}
	})
}

// An import under another name has other MAC addresses, and ends with a rename.
func TestACopyKeepsTheNamesOfItsNetworkInterfaces(t *testing.T) {
	l := newLab(t, 600)
	l.networkTree("sbin/udevd")
	l.knownNIC()
	l.create()
	l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"], l.env["NIC_0_MAC"] = "inst1.example", "inst2.example", "aa:00:00:99:99:99"
	log, exit := l.run("rename")
	if exit != 0 {
		t.Fatalf("exit status %d\n%s", exit, log)
	}
	l.clean(0)
	has(t, log, "keep their names")
	has(t, l.guestFile(nicRules), `ATTR{address}=="aa:00:00:99:99:99"`, `NAME="nic0"`)
}

func TestTheGuestAsksItsOwnNameServersAndHooksTheNodes(t *testing.T) {
	const stub = "/run/systemd/resolve/stub-resolv.conf"
	own := func(text string) bool {
		return strings.HasPrefix(text, "search lan.example\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n") && strings.Count(text, "nameserver") == 2
	}
	with := func(files ...string) *lab {
		l := newLab(t, 600)
		l.networkTree(append(files, "sbin/udevd")...)
		l.env["OSP_DNS_NAMESERVERS"], l.env["OSP_DNS_SEARCH"] = "192.0.2.53 2001:db8::53", "lan.example"
		l.hook("50-looks", `echo "a hook asks $(grep -c 192.0.2.53 "$TARGET/etc/resolv.conf")"`)
		return l
	}
	l := with()
	has(t, l.create(), "a hook asks 0")
	if got := l.guestFile("etc/resolv.conf"); !own(got) {
		t.Errorf("the guest asks %q", got)
	}

	l.hook("60-writes", `echo "nameserver 198.51.100.1" >"$TARGET/etc/resolv.conf"`)
	l.create()
	if got := l.guestFile("etc/resolv.conf"); got != "nameserver 198.51.100.1\n" {
		t.Errorf("the hook's servers became %q", got)
	}

	l = with("lib/systemd/systemd-resolved")
	dir := l.TempDir()
	must(t, os.Mkdir(dir+"/etc", 0o755))
	must(t, os.Symlink(stub, dir+"/etc/resolv.conf"))
	l.tool("tar", "-rf", l.tar(), "-C", dir, "etc/resolv.conf")
	l.knownNIC()
	l.create()
	has(t, l.guestFile("etc/network/interfaces"), "dns-nameservers 192.0.2.53 2001:db8::53\n    dns-search lan.example\n")
	has(t, l.guestFile("etc/systemd/resolved.conf.d/instance-debootstrap.conf"), "\n[Resolve]\nDNS=192.0.2.53 2001:db8::53\nDomains=lan.example\n")
	l.mounted(func(tree string) {
		if to, err := os.Readlink(tree + "/etc/resolv.conf"); to != stub {
			t.Errorf("resolv.conf: %q, %v", to, err)
		}
	})
}
