package node

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// tree makes a node's files.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestEachFactIsFoundAndSaysWhere(t *testing.T) {
	root := tree(t, map[string]string{
		"etc/os-release":                  "NAME=x\nVERSION_CODENAME=bookworm\n",
		"etc/resolv.conf":                 "nameserver 127.0.0.53\nsearch stub.example\n",
		"run/systemd/resolve/resolv.conf": "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch lan.example example\n",
		"etc/hostname":                    "node1\n",
		"etc/hosts":                       "127.0.0.1 localhost\n192.0.2.1 node1.example.org node1\n",
		"etc/timezone":                    "Etc/UTC\n",
		"etc/default/locale":              "LANG=\"de_DE.UTF-8\"\n",
		"etc/locale.gen":                  "# en_GB.UTF-8 UTF-8\nde_DE.UTF-8 UTF-8\n\n",
		"etc/default/keyboard":            "XKBLAYOUT=\"de\"\n",
		"root/.ssh/authorized_keys":       "ssh-ed25519 AAAA admin\n",
		"root/.ssh/id_ed25519.pub":        "ssh-ed25519 BBBB root@node1",
		"proc/net/route":                  "Iface\tDestination\tGateway\nbr0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\nbr0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n",
		"sys/class/net/virbr0/bridge/x":   "",
		"sys/class/net/vmbr9/bridge/x":    "",
	})
	if err := os.Symlink("/usr/share/zoneinfo/Europe/Berlin", filepath.Join(root, "etc/localtime")); err != nil {
		t.Fatal(err)
	}
	f := Read(t.Context(), root, "")
	for _, row := range []struct {
		what string
		got  Value
		want Value
	}{
		{"release", f.Release, Value{"bookworm", "/etc/os-release"}},
		{"bridge", f.Bridge, Value{"vmbr9", "the node's interfaces"}}, // libvirt's own bridge is a network of libvirt's
		{"gateway", f.Gateway, Value{"192.0.2.1", "the node's default route"}},
		{"nameservers", f.Nameservers, Value{"192.0.2.53 2001:db8::53", "/run/systemd/resolve/resolv.conf"}}, // no guest reaches the stub
		{"search", f.Search, Value{"lan.example example", "/run/systemd/resolve/resolv.conf"}},
		{"domain", f.Domain, Value{"example.org", "the node's name (hostname -d)"}},
		{"time zone", f.Timezone, Value{"Etc/UTC", "/etc/timezone"}},
		{"locale", f.Locale, Value{"de_DE.UTF-8", "/etc/default/locale"}},
		{"charsets", f.Charsets, Value{"de_DE.UTF-8 UTF-8", "/etc/locale.gen"}},
		{"keyboard", f.Keyboard, Value{"XKBLAYOUT=\"de\"\n", "/etc/default/keyboard"}},
		{"keys", f.SSHKeys, Value{"ssh-ed25519 AAAA admin\nssh-ed25519 BBBB root@node1\n", "/root/.ssh/authorized_keys, /root/.ssh/id_ed25519.pub"}},
	} {
		if row.got != row.want {
			t.Errorf("%s: %q, want %q", row.what, row.got, row.want)
		}
	}
}

func TestABareNodeGivesNothingAndNoFault(t *testing.T) {
	f := Read(t.Context(), t.TempDir(), "")
	f.Mirror = Value{} // apt's, which isn't asked for another root
	if f != (Facts{}) {
		t.Errorf("found %+v", f)
	}
}

func TestLocalesThatAreAlwaysThereAreNotMade(t *testing.T) {
	for lang, want := range map[string]bool{"C": false, "POSIX": false, "C.UTF-8": false, "": false, "en_US.UTF-8": true, "de_DE@euro": true, "$(id)": false} {
		if needsLocale(lang) != want {
			t.Errorf("%q: %v", lang, !want)
		}
	}
}

func TestBroadcastIsTheNetworksLastAddress(t *testing.T) {
	for network, want := range map[string]string{"192.0.2.5/24": "192.0.2.255", "10.1.2.3/12": "10.15.255.255", "192.0.2.5/32": "192.0.2.5"} {
		if got := Broadcast(netip.MustParsePrefix(network)).String(); got != want {
			t.Errorf("%s: %s, want %s", network, got, want)
		}
	}
}
