//go:build root

package network

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// inNamespace runs a script in network and mount namespaces of its own, with the
// files below /run and the folders that the programs read covered by dir.
func inNamespace(t *testing.T, dir, script string) string {
	t.Helper()
	const prelude = `set -e
mount -t tmpfs -o mode=755 none /run; mkdir -p /run/network /run/udev /run/systemd/netif
chown systemd-network: /run/systemd/netif
mkdir -p "$1/etc/network" "$1/etc/systemd/network" "$1/etc/netplan" "$1/etc/udev/rules.d"
mkdir -p /etc/systemd/network /etc/netplan /etc/network
mount --bind "$1/etc/systemd/network" /etc/systemd/network
mount --bind "$1/etc/udev/rules.d" /etc/udev/rules.d
mount -t sysfs -o ro none /sys # systemd-networkd then waits for no udev
ip link set lo up
nic() { ip link add "$1" address "$2" type veth peer name "$3"; ip link set "$3" up; }
`
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "-mnpf", "--kill-child", "--mount-proc", "bash", "-c", prelude+script, "bash", dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// write puts the files below a folder.
func write(t *testing.T, dir string, files []File) {
	t.Helper()
	for _, f := range files {
		path := filepath.Join(dir, f.Path)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(f.Content), f.Mode))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ends waits at the end of a script until there are as many addresses and default
// routes as it wants, and writes the kernel's account of them.
const ends = `
[ "$(type -t now)" ] || now() {
	echo "$(ip -o addr show scope global | wc -l) $({ ip route show default; ip -6 route show default; } | wc -l)"
}
for try in $(seq 100); do
	[ "$(now)" != "$want" ] || [ -n "$(ip -o addr show tentative)" ] || break
	sleep 0.1
done
ip -j addr >"$1/addr"; { ip -j route; ip -6 -j route; } >"$1/route"
`

// apply are the scripts by which each renderer's program configures a namespace.
var apply = map[Renderer]string{
	Ifupdown: `ifup -i "$1/etc/network/interfaces" -a`,
	Networkd: `SYSTEMD_LOG_LEVEL=info /usr/lib/systemd/systemd-networkd &`,
	Netplan: `netplan generate --root-dir "$1"
mkdir -p "$1/run/systemd/network" /run/systemd/network; cp -r "$1/run/systemd/network" /run/systemd/
SYSTEMD_LOG_LEVEL=info /usr/lib/systemd/systemd-networkd &`,
}

// account is the kernel's: addresses by interface, link-local ones left out, and
// the default routes.
func account(t *testing.T, dir string) (has map[string]string, routes []string) {
	t.Helper()
	var links []struct {
		Name  string `json:"ifname"`
		Addrs []struct {
			Local string `json:"local"`
			Bits  int    `json:"prefixlen"`
			Scope string `json:"scope"`
		} `json:"addr_info"`
	}
	text, err := os.ReadFile(filepath.Join(dir, "addr"))
	must(t, err)
	must(t, json.Unmarshal(text, &links))
	has = map[string]string{}
	for _, l := range links {
		var list []string
		for _, a := range l.Addrs {
			if a.Scope == "global" {
				list = append(list, netip.PrefixFrom(netip.MustParseAddr(a.Local), a.Bits).String())
			}
		}
		has[l.Name] = strings.Join(list, " ")
	}
	text, err = os.ReadFile(filepath.Join(dir, "route"))
	must(t, err)
	for dec := json.NewDecoder(strings.NewReader(string(text))); dec.More(); {
		var list []struct{ Dst, Gateway, Dev string }
		must(t, dec.Decode(&list))
		for _, r := range list {
			if r.Dst == "default" && r.Gateway != "" {
				routes = append(routes, "default via "+r.Gateway+" dev "+r.Dev)
			} else if r.Dst == "default" {
				routes = append(routes, "default dev "+r.Dev)
			}
		}
	}
	return has, routes
}

func TestEveryRenderersProgramMakesTheNetworkOfItsFiles(t *testing.T) {
	for i, c := range cases {
		if c.dhcp {
			continue
		}
		conf, _ := config(i)
		for _, r := range renderers {
			if r == Networkd && len(conf.Interfaces) == 0 {
				continue // it isn't started
			}
			t.Run(c.name+"/"+string(r), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				write(t, dir, Files(r, conf))
				script := ""
				for n, nic := range c.nics {
					script += fmt.Sprintf("nic nic%d %s peer%d\n", n, nic.MAC, n)
				}
				want := 0
				for _, addresses := range c.has {
					want += len(strings.Fields(addresses))
				}
				script += fmt.Sprintf("want='%d %d'\n", want, len(c.route))
				said := inNamespace(t, dir, script+apply[r]+ends)
				complaints(t, said)
				has, routes := account(t, dir)
				for name, addresses := range c.has {
					if has[name] != addresses {
						t.Errorf("%s has %q, not %q\n%s", name, has[name], addresses, said)
					}
				}
				if !slices.Equal(routes, c.route) {
					t.Errorf("default routes %q, not %q\n%s", routes, c.route, said)
				}
			})
		}
	}
}

// complaints fails where a program says that it does not know what a file has.
func complaints(t *testing.T, said string) {
	t.Helper()
	for line := range strings.Lines(said) {
		for _, word := range []string{"nknown ", "gnoring", "nvalid", "rror", "Failed"} {
			if strings.Contains(line, word) && !strings.Contains(line, "state file") {
				t.Errorf("complains: %s", line)
			}
		}
	}
}

// dhcpServers make each peer give out addresses, and advertise an IPv6 network.
const dhcpServers = `
for n in 0 1; do
	printf '[Match]\nName=peer%d\n[Network]\nAddress=192.0.%d.1/24\nDHCPServer=yes\nIPv6SendRA=yes\n[IPv6Prefix]\nPrefix=2001:db8:%d::/64\n' $n $n $n \
		>"/etc/systemd/network/01-peer$n.network"
done
mount -t tmpfs none /var/lib/dhcp
mkdir "$1/hooks"; echo 'make_resolv_conf() { :; }' >"$1/hooks/none"; mount --bind "$1/hooks" /etc/dhcp/dhclient-enter-hooks.d
`

func TestEveryRenderersProgramAsksForAddresses(t *testing.T) {
	for i, c := range cases {
		if !c.dhcp {
			continue
		}
		conf, _ := config(i)
		names := []string{"eth0", "ens7"}
		if len(c.nics) > 0 {
			names = []string{"nic0", "nic1"}
		}
		for _, r := range renderers {
			t.Run(c.name+"/"+string(r), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				write(t, dir, Files(r, conf))
				script := dhcpServers
				for n, name := range names {
					script += fmt.Sprintf("nic %s %s peer%d\n", name, []string{mac0, mac1}[n], n)
				}
				if r == Ifupdown {
					script += apply[Networkd] + "\nsleep 1\n"
				}
				script += "want=4; now() { ip -o addr show scope global | grep -vc ' peer'; }\n"
				said := inNamespace(t, dir, script+apply[r]+ends)
				has, _ := account(t, dir)
				for n, name := range names {
					want := regexp.MustCompile(fmt.Sprintf(`^192\.0\.%d\.[0-9]+/24 2001:db8:(%d:0:)?:?a800:ff:fe12:345%d/64$`, n, n, 6+n))
					if !want.MatchString(has[name]) {
						t.Errorf("%s has %q, not %s\n%s", name, has[name], want, said)
					}
				}
			})
		}
	}
}

func TestAdvertisedRoutesDoNotJoinAKnownGateway(t *testing.T) {
	i := 0
	for cases[i].name != "v4 and v6" {
		i++
	}
	c := cases[i]
	conf, _ := config(i)
	for _, r := range renderers {
		t.Run(string(r), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, Files(r, conf))
			script := dhcpServers + "nic nic0 " + mac0 + " peer0\n"
			if r == Ifupdown {
				script += apply[Networkd] + "\nsleep 1\n"
			}
			// Long enough for the router to answer a solicitation.
			said := inNamespace(t, dir, script+apply[r]+"\nsleep 6; want=x; now() { echo x; }\n"+ends)
			has, routes := account(t, dir)
			if has["nic0"] != c.has["nic0"] || !slices.Equal(routes, c.route) {
				t.Errorf("nic0 has %q, routes %q\n%s", has["nic0"], routes, said)
			}
		})
	}
}

func TestUdevNamesANICByItsMACAndLeavesItsBridgeAlone(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, []File{Rules([]Pin{{"nic0", mac0}, {"nic1", mac1}})})
	// udevadm test renames too.
	said := inNamespace(t, dir, `
nic eth1 `+mac0+` peer0
nic eth0 `+mac1+` peer1
for name in eth0 eth1; do ip link set $name up; udevadm test --action=add /sys/class/net/$name 2>&1; done
ip link add bridge type bridge; ip link set nic1 master bridge
udevadm test --action=add /sys/class/net/bridge 2>&1
ip -o link; ip -j addr >"$1/addr"; echo '[]' >"$1/route"
`)
	for line := range strings.Lines(said) {
		if at := strings.Index(line, RulesFile+":"); at >= 0 && !strings.HasPrefix(line, "eth") {
			t.Error(line)
		}
	}
	has, _ := account(t, dir)
	for _, name := range []string{"nic0", "nic1", "bridge"} {
		if _, there := has[name]; !there {
			t.Errorf("no %s\n%s", name, said)
		}
	}
}

// The kernel gives such names too: a NIC that has its own already keeps it, and one
// that an initramfs has named gets it.
func TestUdevGivesANICTheKernelsNameAsAHookWantsIt(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, []File{Rules([]Pin{{"eth0", mac0}, {"eth1", mac1}})})
	said := inNamespace(t, dir, `
nic eth0 `+mac0+` peer0
nic ens4 `+mac1+` peer1
for name in eth0 ens4; do udevadm test --action=add /sys/class/net/$name 2>&1; done
ip -j addr >"$1/addr"; echo '[]' >"$1/route"
cat /sys/class/net/eth0/address /sys/class/net/eth1/address
`)
	if !strings.HasSuffix(strings.TrimSpace(said), mac0+"\n"+strings.ToLower(mac1)) {
		t.Error(said)
	}
}

func TestIfqueryReadsEveryFile(t *testing.T) {
	for i, c := range cases {
		conf, _ := config(i)
		dir := t.TempDir()
		write(t, dir, Files(Ifupdown, conf))
		out, err := exec.Command("ifquery", "-i", dir+"/etc/network/interfaces", "--list", "--all").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v %s", c.name, err, out)
		}
		for _, n := range conf.Interfaces {
			if n.Name == "" {
				continue
			}
			if !slices.Contains(strings.Fields(string(out)), n.Name) {
				t.Errorf("%s: ifquery lists %q", c.name, out)
			}
			options, err := exec.Command("ifquery", "-i", dir+"/etc/network/interfaces", n.Name).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v %s", c.name, err, options)
			}
			for _, a := range n.Addresses {
				if !strings.Contains(string(options), "address: "+a.Addr().String()+"\n") {
					t.Errorf("%s: ifquery reads\n%s", c.name, options)
				}
			}
		}
	}
}
