package guest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInittabGetsOneGetty(t *testing.T) {
	const entry = "T0:23:respawn:/sbin/getty -L ttyS0 38400 vt102\n"
	for name, c := range map[string]struct{ old, want string }{
		"empty":           {"", entry},
		"appended":        {"id:2:initdefault:\n", "id:2:initdefault:\n" + entry},
		"no last newline": {"id:2:initdefault:", "id:2:initdefault:\n" + entry},
		"commented":       {"#T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100\n", "#T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100\n" + entry},
		"already ours":    {entry, entry},
		"already another": {"S0:2345:respawn:/sbin/agetty ttyS0 115200\n", "S0:2345:respawn:/sbin/agetty ttyS0 115200\n"},
		"id taken":        {"T0:23:respawn:/sbin/getty hvc0 38400\nca::x:y\n", "ca::x:y\n" + entry},
	} {
		if got := inittab(c.old, "ttyS0"); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	// Under xen-hvm both have one.
	if got, want := inittab(entry, "hvc0"), entry+"H0:23:respawn:/sbin/getty -L hvc0 38400 vt102\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestPasswordFieldIsSetAndNothingElse(t *testing.T) {
	const shadow = "daemon:*:19000:0:99999:7:::\nroot:$y$x$y:19000:0:99999:7:::\nrooty:!:1::::::"
	got, found := setField([]byte(shadow), "root", 1, "")
	if want := strings.Replace(shadow, "$y$x$y", "", 1); !found || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, found, want)
	}
	if got, found = setField([]byte("root\nx:y:z\n"), "root", 1, "q"); found || string(got) != "root\nx:y:z\n" {
		t.Errorf("a line without fields was taken: %q", got)
	}
}

func TestFstabHoldsRootProcAndSwap(t *testing.T) {
	text := fstab(Identity{Filesystem: "ext4", RootUUID: "aa-bb", RootOptions: "errors=remount-ro", RootPass: 1, SwapUUIDs: []string{"s1", "s2"}})
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
	}
	want := []string{
		"UUID=aa-bb / ext4 errors=remount-ro 0 1",
		"proc /proc proc defaults 0 0",
		"UUID=s1 swap swap defaults 0 0",
		"UUID=s2 swap swap defaults 0 0",
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

func TestIdentityFaultsAreNamedTogether(t *testing.T) {
	err := Identity{InstanceName: "a b", RootUUID: "x\ny", Filesystem: "ext4", Ports: []string{"../tty"}}.check()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{"instance name", "root UUID", "serial port"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v: doesn't name the %s", err, part)
		}
	}
}

func TestNodeOnAStubResolverGivesItsRealServers(t *testing.T) {
	write := func(root, name, text string) {
		t.Helper()
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const stub, uplink = "nameserver 127.0.0.53\noptions edns0\n", "nameserver 192.0.2.1\n"
	for name, c := range map[string]struct{ etc, run, want string }{
		"stub":            {stub, uplink, uplink},
		"stub alone":      {stub, "", stub},
		"real":            {uplink, stub, uplink},
		"local and other": {"nameserver ::1\nnameserver 192.0.2.7\n", uplink, "nameserver ::1\nnameserver 192.0.2.7\n"},
		"no server":       {"search example\n", uplink, "search example\n"},
	} {
		root := t.TempDir()
		write(root, "etc/resolv.conf", c.etc)
		if c.run != "" {
			write(root, "run/systemd/resolve/resolv.conf", c.run)
		}
		node, err := ReadNode(context.Background(), root)
		if err != nil {
			t.Fatal(err)
		}
		if string(node.ResolvConf) != c.want {
			t.Errorf("%s: %q, want %q", name, node.ResolvConf, c.want)
		}
		if node.Hosts != nil {
			t.Errorf("%s: a missing hosts file gave %q", name, node.Hosts)
		}
	}
}

func TestHostsNamesTheGuestAndNotTheNode(t *testing.T) {
	const own = "127.0.1.1\tweb1.example.com web1\n"
	for name, c := range map[string]struct{ node, want string }{
		"empty":                     {"", localhost + own},
		"comments only":             {"# 127.0.0.1 localhost\n", localhost + own + "# 127.0.0.1 localhost\n"},
		"no localhost":              {"192.0.2.1 node1\n", localhost + own + "192.0.2.1 node1\n"},
		"after localhost":           {"# hosts\n127.0.0.1\tlocalhost\n::1 localhost\n", "# hosts\n127.0.0.1\tlocalhost\n" + own + "::1 localhost\n"},
		"the node's own name":       {"127.0.0.1 localhost\n127.0.1.1 node1.example.com node1\n192.0.2.1 node1.example.com node1\n", "127.0.0.1 localhost\n" + own + "192.0.2.1 node1.example.com node1\n"},
		"beside localhost":          {"127.0.0.1 localhost node1 # mine\n::1  node1 localhost ip6-loopback\r\n", "127.0.0.1\tlocalhost # mine\n" + own + "::1\tlocalhost ip6-loopback\n"},
		"on a line of its own":      {"127.0.0.1\tlocalhost.localdomain localhost\n127.0.0.1 vm\n127.0.2.1 node1.example.com\n::ffff:127.0.0.1 node1", "127.0.0.1\tlocalhost.localdomain localhost\n" + own},
		"the guest's beside it":     {"127.0.0.1 localhost web1.example.com node1\n", "127.0.0.1\tlocalhost\n" + own},
		"an address without a name": {"127.0.0.1 localhost\n127.0.0.1\n", "127.0.0.1 localhost\n" + own + "127.0.0.1\n"},
		"named already":             {"127.0.0.1 localhost\n127.0.1.1 node1\n192.0.2.9 web1.example.com web1\n", "127.0.0.1 localhost\n192.0.2.9 web1.example.com web1\n"},
		"named in a comment":        {"127.0.0.1 localhost\n192.0.2.9 web # web1.example.com\n", "127.0.0.1 localhost\n" + own + "192.0.2.9 web # web1.example.com\n"},
		"no last newline":           {"127.0.0.1 localhost", "127.0.0.1 localhost\n" + own},
	} {
		if got := hostsOf(withoutOwnNames(c.node), "web1.example.com"); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := hostsOf("", "web1"); got != localhost+"127.0.1.1\tweb1\n" {
		t.Errorf("a name without a domain: %q", got)
	}
}
