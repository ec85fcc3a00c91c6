//go:build root

package examples

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// more are the hooks that the package has among its documents.
const more = "../examples/hooks"

// realTree makes a small Debian with what the hooks want, but for two large packages,
// which have a program and a unit instead.
func realTree(t *testing.T) string {
	t.Helper()
	mirror, suite := os.Getenv("TEST_MIRROR"), os.Getenv("TEST_SUITE")
	if mirror == "" || suite == "" {
		t.Fatal("TEST_MIRROR and TEST_SUITE aren't set: test/archive prints them")
	}
	top := filepath.Join(t.TempDir(), "tree")
	tool(t, "mmdebstrap", "--quiet", "--mode=root", "--variant=essential", "--aptopt=Acquire::Check-Valid-Until \"false\"",
		"--include=apt,ca-certificates,iproute2,prometheus-node-exporter,sudo,systemd,tzdata,unattended-upgrades", suite, top, mirror)
	for _, name := range []string{"puppet", "ansible-pull"} {
		put(t, filepath.Join(top, "usr/local/bin", name), "#!/bin/sh\n")
		must(t, os.Chmod(filepath.Join(top, "usr/local/bin", name), 0o755))
	}
	put(t, filepath.Join(top, "usr/lib/systemd/system/puppet.service"), "[Service]\nExecStart=/usr/local/bin/puppet\n[Install]\nWantedBy=multi-user.target\n")
	return top
}

// TestHooksForWhatPeopleDo runs each of them on a real tree, and has what they wrote used
// by the programs that it is for.
func TestHooksForWhatPeopleDo(t *testing.T) {
	top := realTree(t)
	do := func(hook string, confdata map[string]string, env ...string) error {
		return runFrom(t, more, hook, confdata, with(map[string]string{"TARGET": top, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...))
	}
	inside := func(argv ...string) string { return tool(t, append([]string{"chroot", top}, argv...)...) }
	enabled := func(unit string) {
		t.Helper()
		if got := tool(t, "systemctl", "--root", top, "is-enabled", unit); got != "enabled" {
			t.Errorf("%s is %s", unit, got)
		}
	}

	// What the guest lacks is said.
	for hook, program := range map[string]string{
		"sudo": "usr/sbin/visudo", "unattended-upgrades": "usr/bin/unattended-upgrade", "internal-ca": "usr/sbin/update-ca-certificates",
		"puppet": "usr/local/bin/puppet", "ansible-pull": "usr/local/bin/ansible-pull", "node-exporter": "usr/bin/prometheus-node-exporter",
	} {
		program = filepath.Join(top, program)
		must(t, os.Rename(program, program+".away"))
		failsWith(t, do(hook, map[string]string{"ca/site.crt": "-----BEGIN CERTIFICATE-----\n"}), "to EXTRA_PKGS")
		must(t, os.Rename(program+".away", program))
	}
	os.Remove(filepath.Join(top, "usr/local/share/ca-certificates/site.crt"))
	failsWith(t, do("users", nil), "put a NAME.pub into")
	failsWith(t, do("internal-ca", nil), "put a NAME.crt into")
	failsWith(t, do("internal-ca", map[string]string{"ca/site.crt": "0\x82"}), "isn't in PEM")
	failsWith(t, do("static-routes", nil), "put routes into")
	failsWith(t, do("timezone", nil, "OSP_TIMEZONE", "Mars/Olympus"), "knows no time zone Mars/Olympus")
	failsWith(t, do("timezone", nil, "OSP_TIMEZONE", "../../../etc/passwd"), "knows no time zone")

	must(t, do("users", map[string]string{"users/alice.pub": public, "users/bob.pub": public}))
	must(t, do("sudo", nil))
	keys := filepath.Join(top, "home/alice/.ssh/authorized_keys")
	if got := tool(t, "ssh-keygen", "-l", "-f", keys); !strings.Contains(got, "admin@example.com (ED25519)") || modeOf(t, keys) != 0o600 || modeOf(t, filepath.Dir(keys)) != 0o700 {
		t.Errorf("ssh-keygen reads %s", got)
	}
	if got := inside("stat", "-c", "%U:%G", "/home/alice/.ssh/authorized_keys", "/home/bob/.ssh"); got != "alice:alice\nbob:bob" {
		t.Errorf("owners %q", got)
	}
	if got := inside("su", "alice", "-c", "sudo -n id -u"); !strings.HasSuffix(got, "0") {
		t.Errorf("sudo of alice's: %q", got)
	}

	outside := filepath.Join(t.TempDir(), "the-nodes")
	put(t, outside, "as it was")
	os.Remove(filepath.Join(top, "etc/timezone"))
	must(t, os.Symlink(outside, filepath.Join(top, "etc/timezone"))) // as a guest's tree may have it
	if err := do("timezone", nil, "OSP_TIMEZONE", "Asia/Tokyo"); err == nil || read(t, outside) != "as it was" {
		t.Errorf("%v; the node's file has %q", err, read(t, outside))
	}
	os.Remove(filepath.Join(top, "etc/timezone"))
	must(t, do("timezone", nil, "OSP_TIMEZONE", "Asia/Tokyo"))
	if got := inside("env", "-u", "TZ", "date", "+%Z"); got != "JST" {
		t.Errorf("the guest's time is %s", got)
	}

	must(t, do("unattended-upgrades", nil))
	conf := inside("apt-config", "dump")
	for _, want := range []string{`APT::Periodic::Unattended-Upgrade "1";`, `Unattended-Upgrade::Automatic-Reboot "true";`} {
		if !strings.Contains(conf, want) {
			t.Errorf("apt has no %s", want)
		}
	}

	ca := t.TempDir()
	tool(t, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=The site", "-keyout", ca+"/key", "-out", ca+"/crt")
	must(t, do("internal-ca", map[string]string{"ca/site.crt": read(t, ca, "crt")}))
	tool(t, "openssl", "verify", "-no-CApath", "-no-CAstore", "-CAfile", filepath.Join(top, "etc/ssl/certs/ca-certificates.crt"), ca+"/crt")

	must(t, do("puppet", nil))
	enabled("puppet.service")
	if got := read(t, top, "etc/puppet/puppet.conf"); !strings.Contains(got, "certname = web1.example.com\n") {
		t.Errorf("puppet.conf: %s", got)
	}
	must(t, do("ansible-pull", nil))
	enabled("ansible-pull.timer")
	must(t, do("node-exporter", nil, "NIC_0_IP", "2001:db8::7"))
	if got := inside("sh", "-c", ". /etc/default/prometheus-node-exporter; echo $ARGS"); got != "--web.listen-address=[2001:db8::7]:9100" {
		t.Errorf("node-exporter gets %s", got)
	}
	must(t, do("serial-getty", nil))
	enabled("serial-getty@ttyS1.service")

	must(t, do("static-routes", map[string]string{"static-routes": "# ours\n198.51.100.0/24 via 192.0.2.254\n2001:db8:10::/48 via 2001:db8::fe\n"}))
	enabled("static-routes.service")
	commands := ""
	for _, m := range regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindAllStringSubmatch(read(t, top, "etc/systemd/system/static-routes.service"), -1) {
		commands += m[1] + "\n"
	}
	got := tool(t, "unshare", "--net", "sh", "-euc", "ip link add d0 type veth peer name d1; ip link set d1 up; ip address add 192.0.2.1/24 dev d0; ip address add 2001:db8::1/64 dev d0 nodad; ip link set d0 up\n"+
		commands+"ip route; ip -6 route")
	for _, want := range []string{"198.51.100.0/24 via 192.0.2.254", "2001:db8:10::/48 via 2001:db8::fe"} {
		if !strings.Contains(got, want) {
			t.Errorf("routes %s", got)
		}
	}
	for _, unit := range []string{"static-routes.service", "ansible-pull.service", "ansible-pull.timer"} {
		if got := tool(t, "systemd-analyze", "verify", "--man=no", filepath.Join(top, "etc/systemd/system", unit)); got != "" {
			t.Errorf("%s: %s", unit, got)
		}
	}
	if err := unix.Access(filepath.Join(top, "etc/sudoers.d/site"), unix.F_OK); err != nil || modeOf(t, top, "etc/sudoers.d/site") != 0o440 {
		t.Error(err)
	}
}
