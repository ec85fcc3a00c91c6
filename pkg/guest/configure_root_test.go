//go:build root

package guest

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var ctx = context.Background()

var identity = Identity{
	InstanceName: "web1.example.com",
	Filesystem:   "ext4", RootUUID: "11111111-2222-3333-4444-555555555555", RootPass: 1,
	SwapUUIDs: []string{"66666666-2222-3333-4444-555555555555"},
	Ports:     []string{"ttyS0"},
	Node:      Node{Hosts: []byte("127.0.0.1 localhost\n"), ResolvConf: []byte("nameserver 192.0.2.1\n")},
}

// accounts is what every tree has.
var accounts = []string{
	"etc/passwd=root:x:0:0:root:/root:/bin/bash\n",
	"etc/shadow=root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
}

func systemdTree(more ...string) []string {
	return append(append([]string{
		"usr/lib/systemd/systemd=", "usr/lib/systemd/system/serial-getty@.service=", "usr/sbin",
		"lib->usr/lib", "sbin->usr/sbin", "usr/sbin/init->../lib/systemd/systemd",
	}, accounts...), more...)
}

// text returns a file's content, or "" and an error of the test.
func text(t *testing.T, top, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(top, name))
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func absent(t *testing.T, top string, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(top, name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
}

func TestDebianGuestIsConfigured(t *testing.T) {
	r, top, _ := tree(t, systemdTree(
		"usr/sbin/ifup=", "usr/sbin/sshd=", "etc/network/interfaces=source x\n",
		"etc/machine-id=0123456789abcdef0123456789abcdef\n", "var/lib/dbus/machine-id=0123456789abcdef0123456789abcdef\n",
		"etc/ssh/ssh_host_rsa_key=k", "etc/ssh/ssh_host_rsa_key.pub=k", "etc/ssh/ssh_config=c",
		"var/lib/systemd/random-seed=s", "var/lib/systemd/credential.secret=s", "var/lib/urandom/random-seed=s", "etc/udev/rules.d/z25_persistent-net.rules=r")...)
	must(t, os.Chown(filepath.Join(top, "etc/shadow"), 0, 42))
	must(t, os.Chmod(filepath.Join(top, "etc/shadow"), 0o640))
	must(t, os.WriteFile(filepath.Join(top, "etc/hostname"), []byte("old"), 0o600))
	if _, err := Configure(ctx, r, identity); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		text string
		mode fs.FileMode
	}{
		"etc/hostname":           {"web1.example.com\n", 0o644},
		"etc/mailname":           {"web1.example.com\n", 0o644},
		"etc/hosts":              {"127.0.0.1 localhost\n127.0.1.1\tweb1.example.com web1\n", 0o644},
		"etc/resolv.conf":        {"nameserver 192.0.2.1\n", 0o644},
		"etc/fstab":              {fstab(identity), 0o644},
		"etc/network/interfaces": {"auto lo\niface lo inet loopback\n", 0o644},
		"etc/machine-id":         {"", 0o444},
		"etc/shadow":             {"root::19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n", 0o640},
		"etc/passwd":             {"root:x:0:0:root:/root:/bin/bash\n", 0o644},
		"etc/ssh/ssh_config":     {"c", 0o644},
	} {
		if got := text(t, top, name); got != want.text {
			t.Errorf("%s: %q, want %q", name, got, want.text)
		}
		if mode, uid, _ := modeOf(t, filepath.Join(top, name)); mode != want.mode || uid != 0 {
			t.Errorf("%s: mode %v of user %d, want %v of root", name, mode, uid, want.mode)
		}
	}
	if _, _, gid := modeOf(t, filepath.Join(top, "etc/shadow")); gid != 42 {
		t.Errorf("shadow's group is %d", gid)
	}
	absent(t, top, "etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub", "var/lib/dbus/machine-id",
		"var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "var/lib/urandom/random-seed", "etc/udev/rules.d/z25_persistent-net.rules", "etc/inittab")
	wants := "/etc/systemd/system/getty.target.wants/serial-getty@ttyS0.service"
	if target, err := r.Readlink(wants); err != nil || target != "/usr/lib/systemd/system/serial-getty@.service" {
		t.Errorf("getty link %q, %v", target, err)
	}
	noTemp(t, top)
}

func TestFstabIsGoodForFindmnt(t *testing.T) {
	r, top, _ := tree(t, "etc")
	must(t, WriteFstab(r, identity))
	out, err := exec.Command("findmnt", "--fstab", "--tab-file", filepath.Join(top, "etc/fstab"), "--noheadings", "--list", "--output", "SOURCE,TARGET,FSTYPE,OPTIONS,PASSNO").CombinedOutput()
	must(t, err)
	if n := strings.Count(string(out), "\n"); n != 3 || strings.Contains(string(out), "parse error") {
		t.Errorf("findmnt reads:\n%s", out)
	}
}

func TestPasswdAgreesThatTheRootPasswordIsBlank(t *testing.T) {
	r, top, _ := tree(t, accounts...)
	state := func(mode string) {
		t.Helper()
		out, err := exec.Command("passwd", "--root", top, "-S", "root").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "root "+mode+" ") {
			t.Errorf("passwd -S: %s %v, want %s", out, err, mode)
		}
	}
	state("L")
	must(t, SetRootPassword(r, ""))
	state("NP")
	must(t, SetRootPassword(r, "$y$j9T$x$y"))
	state("P")
}

func TestRootPasswordWithoutShadow(t *testing.T) {
	r, top, _ := tree(t, "etc/passwd=root:x:0:0:root:/root:/bin/sh\n")
	must(t, SetRootPassword(r, ""))
	if got := text(t, top, "etc/passwd"); got != "root::0:0:root:/root:/bin/sh\n" {
		t.Errorf("%q", got)
	}
	if mode, _, _ := modeOf(t, filepath.Join(top, "etc/passwd")); mode != 0o644 {
		t.Errorf("mode %v", mode)
	}
	r, _, _ = tree(t, "etc")
	fails(t, SetRootPassword(r, ""), "no line for root")
	fails(t, SetRootPassword(r, "a:b"), "colon")
}

func TestConsoleOfEachInit(t *testing.T) {
	for name, c := range map[string]struct {
		entries []string
		file    string
		holds   string
	}{
		"sysvinit":                {[]string{"sbin/init=", "etc/inittab=id:2:initdefault:\n"}, "etc/inittab", "H0:23:respawn:/sbin/getty -L hvc0 38400 vt102\n"},
		"sysvinit beside systemd": {[]string{"sbin/init=", "lib/systemd/systemd=", "etc/inittab=x\n"}, "etc/inittab", "H0:23:"},
		"upstart":                 {[]string{"sbin/init=", "etc/init/rc.conf=x"}, "etc/init/hvc0.conf", "exec /sbin/getty -L hvc0 38400 vt102"},
		"event.d":                 {[]string{"sbin/init=", "etc/event.d/rc2=x"}, "etc/event.d/hvc0.conf", "start on stopped rc2"},
	} {
		r, top, _ := tree(t, c.entries...)
		must(t, EnableConsole(ctx, r, "hvc0"))
		must(t, EnableConsole(ctx, r, "hvc0"))
		got := text(t, top, c.file)
		if strings.Count(got, c.holds) != 1 {
			t.Errorf("%s: %s holds\n%s", name, c.file, got)
		}
		if mode, _, _ := modeOf(t, filepath.Join(top, c.file)); mode != 0o644 {
			t.Errorf("%s: mode %v", name, mode)
		}
		absent(t, top, "etc/systemd")
	}
	r, top, _ := tree(t, "etc")
	must(t, EnableConsole(ctx, r, "ttyS0"))
	must(t, enableConsoles(ctx, r, nil))
	absent(t, top, "etc/systemd", "etc/inittab")
}

func TestSystemctlSeesTheSerialGettyEnabled(t *testing.T) {
	r, top, _ := tree(t, systemdTree()...)
	unit := "[Service]\nExecStart=/sbin/agetty %I\n[Install]\nWantedBy=getty.target\n"
	must(t, os.WriteFile(filepath.Join(top, "usr/lib/systemd/system/serial-getty@.service"), []byte(unit), 0o644))
	must(t, EnableConsole(ctx, r, "ttyS0"))
	out, err := exec.Command("systemctl", "--root", top, "is-enabled", "serial-getty@ttyS0.service").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "enabled" {
		t.Errorf("systemctl is-enabled: %s %v", out, err)
	}
}

func TestNetworkFileIsOneThatTheGuestReads(t *testing.T) {
	for name, c := range map[string]struct {
		entries []string
		file    string
		mode    fs.FileMode
	}{
		"ifupdown wins": {[]string{"sbin/ifup=", "usr/sbin/netplan=", "lib/systemd/systemd-networkd="}, "etc/network/interfaces", 0o644},
		"netplan":       {[]string{"usr/sbin/netplan=", "usr/lib/systemd/systemd-networkd="}, "etc/netplan/01-netcfg.yaml", 0o600},
		"networkd":      {[]string{"lib/systemd/systemd-networkd="}, "etc/systemd/network/lo.network", 0o644},
		"none":          {[]string{"etc"}, "etc/network/interfaces", 0o644},
	} {
		r, top, _ := tree(t, c.entries...)
		must(t, WriteNetwork(ctx, r))
		if mode, _, _ := modeOf(t, filepath.Join(top, c.file)); mode != c.mode {
			t.Errorf("%s: mode %v, want %v", name, mode, c.mode)
		}
		if mode, _, _ := modeOf(t, filepath.Join(top, "etc/network")); mode.Perm() != 0o755 {
			t.Errorf("%s: /etc/network has mode %v", name, mode)
		}
		for _, other := range []string{"etc/network/interfaces", "etc/netplan", "etc/systemd/network"} {
			if !strings.HasPrefix(c.file, other) {
				absent(t, top, other)
			}
		}
	}
}

func TestResolvConfLinkIsAFileForHooksAndALinkAfterwards(t *testing.T) {
	const stub = "../run/systemd/resolve/stub-resolv.conf"
	prepared := func(entries ...string) (*Root, string, ResolvConf) {
		t.Helper()
		r, top, _ := tree(t, entries...)
		rc, err := PrepareResolvConf(r, []byte("nameserver 192.0.2.1\n"))
		must(t, err)
		if got := text(t, top, "etc/resolv.conf"); got != "nameserver 192.0.2.1\n" {
			t.Errorf("a chroot reads %q", got)
		}
		if mode, _, _ := modeOf(t, filepath.Join(top, "etc/resolv.conf")); mode != 0o644 {
			t.Errorf("mode %v", mode)
		}
		return r, top, rc
	}
	restored := func(r *Root, rc ResolvConf) string {
		t.Helper()
		must(t, RestoreResolvConf(ctx, r, rc))
		target, _ := r.Readlink("/etc/resolv.conf")
		return target
	}

	r, _, rc := prepared("etc/resolv.conf->"+stub, "lib/systemd/systemd-resolved=")
	if got := restored(r, rc); got != stub {
		t.Errorf("resolved: %q", got)
	}
	r, _, rc = prepared("etc/resolv.conf->/run/resolvconf/resolv.conf", "sbin/resolvconf=")
	if got := restored(r, rc); got != "/run/resolvconf/resolv.conf" {
		t.Errorf("resolvconf: %q", got)
	}
	r, _, rc = prepared("etc/resolv.conf->" + stub)
	if got := restored(r, rc); got != "" {
		t.Errorf("a link that nothing makes came back: %q", got)
	}
	r, _, rc = prepared("etc/resolv.conf=own")
	if got := restored(r, rc); got != "" || rc.Link != "" {
		t.Errorf("a plain file became a link: %q", got)
	}
	r, top, rc := prepared("etc/resolv.conf->"+stub, "lib/systemd/systemd-resolved=")
	must(t, os.WriteFile(filepath.Join(top, "etc/resolv.conf"), []byte("nameserver 192.0.2.9\n"), 0o644))
	if got := restored(r, rc); got != "" {
		t.Errorf("a hook's file was replaced by %q", got)
	}
}

func TestHostileTreeFailsWithoutHarm(t *testing.T) {
	r, top, node := tree(t, systemdTree("etc/resolv.conf->NODE/resolv.conf", "etc/mailname->NODE/mailname", "etc/fstab->/../../../../etc/passwd")...)
	if _, err := Configure(ctx, r, identity); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(node); len(left) != 0 {
		t.Errorf("written outside the tree: %v", left)
	}
	must(t, unix.Mkfifo(filepath.Join(top, "etc/fifo"), 0o644))
	must(t, os.Rename(filepath.Join(top, "etc/fifo"), filepath.Join(top, "etc/shadow")))
	_, err := Configure(ctx, r, identity)
	fails(t, err, "read /etc/shadow in the guest: it is a FIFO, not a regular file")

	r, _, _ = tree(t, systemdTree("etc/hostname/sub")...)
	_, err = Configure(ctx, r, identity)
	fails(t, err, "write /etc/hostname in the guest: it is a directory, not a regular file: remove it")

	r, _, node = tree(t, "etc->/")
	_, err = Configure(ctx, r, identity)
	fails(t, err, "no line for root")
	if left, _ := os.ReadDir(node); len(left) != 0 {
		t.Errorf("written outside the tree: %v", left)
	}
}
