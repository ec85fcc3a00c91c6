//go:build root

package guest

import (
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"instance-debootstrap/pkg/network"
)

var (
	nics  = []network.NIC{{MAC: "aa:00:00:12:34:56", IP: "192.0.2.10", Subnet: "192.0.2.0/24", Gateway: "192.0.2.1"}}
	units = []string{
		"usr/lib/systemd/systemd-networkd=", "usr/lib/systemd/systemd-udevd=",
		"usr/lib/systemd/system/systemd-networkd.service=[Unit]\n[Install]\nWantedBy=multi-user.target\nAlso=systemd-networkd.socket missing.service\nAlias=dbus-org.freedesktop.network1.service\n",
		"usr/lib/systemd/system/systemd-networkd.socket=[Socket]\nListenNetlink=route 1361\n[Install]\nWantedBy=sockets.target\nAlso=systemd-networkd.service\n",
	}
)

func TestNetworkIsRenderedForTheGuestsOwnProgram(t *testing.T) {
	static, _ := network.Static(nics, true)
	for name, c := range map[string]struct {
		entries  []string
		config   network.Config
		renderer network.Renderer
		fault    string
	}{
		"ifupdown":                           {[]string{"usr/sbin/ifup=", "usr/sbin/netplan=", "lib/systemd/systemd-networkd="}, static, network.Ifupdown, ""},
		"sysvinit":                           {[]string{"sbin/ifup=", "sbin/udevd=", "etc/inittab=x"}, static, network.Ifupdown, ""},
		"netplan":                            {append(slices.Clone(units), "usr/sbin/netplan="), static, network.Netplan, ""},
		"networkd":                           {units, static, network.Networkd, ""},
		"ifupdown with a client":             {[]string{"sbin/ifup=", "sbin/dhclient="}, network.DHCP(nil, true), network.Ifupdown, ""},
		"ifupdown with no client, networkd":  {append(slices.Clone(units), "sbin/ifup="), network.DHCP(nics, true), network.Networkd, ""},
		"ifupdown with no client, nothing":   {[]string{"sbin/ifup="}, network.DHCP(nics, true), "", "isc-dhcp-client"},
		"nothing":                            {[]string{"etc"}, static, "", ErrNoRenderer.Error()},
		"networkd without its unit's folder": {[]string{"lib/systemd/systemd-networkd="}, static, network.Networkd, "enable systemd-networkd.service"},
	} {
		r, top, _ := tree(t, c.entries...)
		renderer, err := RenderNetwork(ctx, r, c.config, network.Pins(nics))
		if c.fault != "" {
			fails(t, err, c.fault)
			continue
		}
		if err != nil || renderer != c.renderer {
			t.Errorf("%s: %s, %v", name, renderer, err)
		}
		for _, f := range append(network.Files(c.renderer, c.config), network.Rules(network.Pins(nics))) {
			if got := text(t, top, f.Path); got != f.Content {
				t.Errorf("%s: %s holds\n%s", name, f.Path, got)
			}
			if mode, _, _ := modeOf(t, filepath.Join(top, f.Path)); mode != f.Mode {
				t.Errorf("%s: %s has mode %v", name, f.Path, mode)
			}
		}
	}
}

func TestSystemctlSeesNetworkdEnabled(t *testing.T) {
	r, top, _ := tree(t, units...)
	static, _ := network.Static(nics, true)
	_, err := RenderNetwork(ctx, r, static, nil)
	must(t, err)
	for _, unit := range []string{"systemd-networkd.service", "systemd-networkd.socket"} {
		out, err := exec.Command("systemctl", "--root", top, "is-enabled", unit).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "enabled" {
			t.Errorf("systemctl is-enabled %s: %s %v", unit, out, err)
		}
	}
	absent(t, top, "etc/udev")
}

// The node's own units are enabled by EnableUnit as systemctl does it.
func TestEnableUnitMakesSystemctlsLinks(t *testing.T) {
	const unit = "systemd-networkd.service"
	links := func(enable func(r *Root, top string)) (found []string) {
		r, top, _ := tree(t, "usr/lib/systemd/system", "lib->usr/lib", "etc/systemd/system")
		names, err := filepath.Glob("/lib/systemd/system/systemd-network*")
		must(t, err)
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err == nil {
				must(t, os.WriteFile(filepath.Join(top, "usr/lib/systemd/system", filepath.Base(name)), data, 0o644))
			}
		}
		enable(r, top)
		must(t, filepath.WalkDir(filepath.Join(top, "etc"), func(path string, d fs.DirEntry, err error) error {
			if d.Type() == fs.ModeSymlink {
				to, _ := os.Readlink(path)
				found = append(found, strings.TrimPrefix(path, top)+" to "+filepath.Base(to))
			}
			return err
		}))
		return found
	}
	want := links(func(_ *Root, top string) {
		if out, err := exec.Command("systemctl", "--root", top, "enable", unit).CombinedOutput(); err != nil {
			t.Fatalf("systemctl enable: %v %s", err, out)
		}
	})
	got := links(func(r *Root, _ string) { must(t, EnableUnit(r, unit)) })
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("made\n%s\nsystemctl makes\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestResolvedIsEnabledWhereItIs(t *testing.T) {
	r, top, _ := tree(t, append(slices.Clone(units), "lib/systemd/system/systemd-resolved.service=[Install]\nWantedBy=sysinit.target\n")...)
	_, err := RenderNetwork(ctx, r, network.DHCP(nics, true), nil)
	must(t, err)
	if to, err := os.Readlink(filepath.Join(top, "etc/systemd/system/sysinit.target.wants/systemd-resolved.service")); err != nil || to != "/lib/systemd/system/systemd-resolved.service" {
		t.Error(to, err)
	}
}

func TestANetworkFileThatWasWrittenIsSeen(t *testing.T) {
	const lo = "auto lo\niface lo inet loopback\n"
	for script, want := range map[string]string{
		"true": "",
		"chmod 600 etc/network/interfaces; chown 1 etc/netplan/x.yaml":                              "",
		"mkdir -p etc/NetworkManager etc/network/if-up.d; echo x >etc/network/if-up.d/x":            "",
		"echo '  up true' >>etc/network/interfaces":                                                 "/etc/network/interfaces",
		"touch etc/network/interfaces":                                                              "/etc/network/interfaces",
		"cp etc/network/interfaces x; mv x etc/network/interfaces":                                  "/etc/network/interfaces",
		"rm etc/netplan/x.yaml":                                                                     "/etc/netplan/x.yaml",
		"ln -sf /dev/null etc/systemd/network/99-default.link":                                      "/etc/systemd/network/99-default.link",
		"echo x >elsewhere":                                                                         "/etc/systemd/network/linked.network",
		"mkdir etc/network/interfaces.d; echo x >etc/network/interfaces.d/eth0":                     "/etc/network/interfaces.d/eth0",
		"mkdir -p etc/NetworkManager/system-connections; >etc/NetworkManager/system-connections/x":  "/etc/NetworkManager/system-connections/x",
		"mkdir -p etc/udev/rules.d; >etc/udev/rules.d/70-persistent-net.rules; >etc/udev/rules.d/x": "/etc/udev/rules.d/70-persistent-net.rules",
		"echo a >etc/netplan/a.yaml; echo b >etc/netplan/b.yaml":                                    "/etc/netplan/a.yaml /etc/netplan/b.yaml",
		"rm -r etc/netplan": "/etc/netplan/x.yaml",
	} {
		r, top, _ := tree(t, "etc/network/interfaces="+lo, "etc/netplan/x.yaml=x", "etc/systemd/network/linked.network->/elsewhere", "elsewhere=")
		before, err := ReadNetworkFiles(r)
		must(t, err)
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = top
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v %s", script, err, out)
		}
		now, err := ReadNetworkFiles(r)
		must(t, err)
		if got := strings.Join(now.Since(before), " "); got != want {
			t.Errorf("%s: %q is seen, not %q", script, got, want)
		}
	}
}

func TestAGuestsNamesFollowTheInstancesMACs(t *testing.T) {
	r, top, _ := tree(t, "etc")
	if changed, err := RepinNetwork(r, network.Pins(nics)); changed || err != nil {
		t.Error(changed, err)
	}
	absent(t, top, "etc/udev")
	rules := network.Rules(network.Pins(nics))
	must(t, r.writeFiles([]network.File{rules}))
	for _, c := range []struct {
		mac     string
		changed bool
	}{{"aa:00:00:12:34:56", false}, {"aa:00:00:00:00:01", true}} {
		changed, err := RepinNetwork(r, network.Pins([]network.NIC{{MAC: c.mac}}))
		if changed != c.changed || err != nil || !strings.Contains(text(t, top, network.RulesFile), c.mac) {
			t.Errorf("%s: %v %v\n%s", c.mac, changed, err, text(t, top, network.RulesFile))
		}
	}
	must(t, RemoveLeftovers(r))
	absent(t, top, network.RulesFile)
}

func TestAnotherAddressInTheGuestIsSeen(t *testing.T) {
	for renderer, entries := range map[network.Renderer][]string{
		network.Ifupdown: {"sbin/ifup="}, network.Netplan: {"usr/sbin/netplan="}, network.Networkd: {"lib/systemd/systemd-networkd="},
	} {
		for _, dhcp := range []bool{false, true} {
			r, _, _ := tree(t, entries...)
			c := network.Config{Interfaces: []network.Interface{{Name: "nic0", DHCP: dhcp}}}
			if !dhcp {
				c.Interfaces[0].Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")}
			}
			must(t, r.writeFiles(network.Files(renderer, c)))
			if HasOtherAddress(r, 0, "192.0.2.10") || HasOtherAddress(r, 0, "192.0.2.30") == dhcp {
				t.Errorf("%s, DHCP %v", renderer, dhcp)
			}
		}
	}
}

func TestServersGoWhereTheGuestReadsThem(t *testing.T) {
	const conf = "search example\nnameserver 192.0.2.53\n"
	for name, c := range map[string]struct {
		entries []string
		servers int
	}{
		"a file":                   {[]string{"etc/resolv.conf=x", "lib/systemd/systemd-resolved="}, 0},
		"resolved's":               {[]string{"etc/resolv.conf->../run/systemd/resolve/stub-resolv.conf", "lib/systemd/systemd-resolved="}, 1},
		"a link that nobody fills": {[]string{"etc/resolv.conf->../run/systemd/resolve/stub-resolv.conf"}, 0},
	} {
		r, _, _ := tree(t, c.entries...)
		rc, err := PrepareResolvConf(r, []byte(conf))
		must(t, err)
		if got := DNS(r, rc); len(got.Servers) != c.servers {
			t.Errorf("%s: %v", name, got)
		}
	}
}
