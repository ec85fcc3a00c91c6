//go:build root && slow

package root

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// examples enables all example hooks at once, in the order in which an admin would number
// them, and returns the folder of their data.
func (l *lab) examples() (confdata string) {
	l.Helper()
	dir := filepath.Join(base, "conf/hooks")
	for i, from := range strings.Fields("hooks/grub hooks/interfaces hooks/ssh-keys hooks/lock-root hooks/locale-timezone hooks/apt-sources " +
		"examples/hooks/users examples/hooks/sudo examples/hooks/timezone examples/hooks/unattended-upgrades examples/hooks/internal-ca " +
		"examples/hooks/puppet examples/hooks/ansible-pull examples/hooks/node-exporter examples/hooks/serial-getty examples/hooks/static-routes") {
		text, err := os.ReadFile(filepath.Join("../..", from))
		must(l, err)
		l.write(fmt.Sprintf("conf/hooks/%d-%s", 10+i, filepath.Base(from)), string(text), 0o755)
	}
	for _, from := range []string{"hooks", "examples/hooks"} {
		l.tool("cp", "-r", filepath.Join("../..", from, "confdata"), dir)
	}
	return filepath.Join(dir, "confdata")
}

// siteData are the files that the hooks want, with a key to log in by, a certificate of the
// site's own authority at /root/leaf.pem, and a repository for ansible-pull at /srv/site.git.
func (l *lab) siteData(confdata string) (key string) {
	l.Helper()
	key = l.adminsKey()
	dir := l.TempDir()
	l.tool("sh", "-euc", `cd "$1"
cp "$2.pub" "$3/authorized_keys"
mkdir "$3/users" "$3/ca"; cp "$2.pub" "$3/users/alice.pub"
echo en_GB.UTF-8 >"$3/locale"; echo 10.20.0.0/16 via 10.0.2.254 >"$3/static-routes"
openssl req -quiet -x509 -newkey rsa:2048 -nodes -subj "/CN=The site" -keyout ca.key -out "$3/ca/site.crt" 2>/dev/null ||
openssl req -x509 -newkey rsa:2048 -nodes -subj "/CN=The site" -keyout ca.key -out "$3/ca/site.crt"
openssl req -newkey rsa:2048 -nodes -subj /CN=git.example -keyout leaf.key -out leaf.csr
openssl x509 -req -days 9 -in leaf.csr -CA "$3/ca/site.crt" -CAkey ca.key -CAcreateserial -out "$3/leaf.pem"
git init --quiet --initial-branch=main site; cd site
printf -- '- hosts: localhost\n  gather_facts: no\n  tasks:\n  - copy: {content: "of {{ inventory_hostname }}\n", dest: /etc/set-up}\n' >local.yml
git add local.yml; git -c user.name=a -c user.email=a@example commit --quiet --message=site
git clone --quiet --bare . "$3/site.git"`, "sh", dir, key, confdata)
	l.hook("50-leaf", `cp "${0%/*}/confdata/leaf.pem" "$TARGET/root/"; cp -r "${0%/*}/confdata/site.git" "$TARGET/srv/"; chown -R 0:0 "$TARGET/srv/site.git"`)
	l.tool("sed", "-i", "s|^repository=.*|repository=/srv/site.git|", filepath.Join(filepath.Dir(confdata), "22-ansible-pull"))
	return key
}

func TestAGuestThatAllExampleHooksHaveSetUpIsAsTheySay(t *testing.T) {
	l := realGuest(t)
	settings, err := os.ReadFile(filepath.Join(base, "default"))
	must(t, err)
	l.write("default", strings.Replace(string(settings), ",locales\n", ",locales,sudo,tzdata,unattended-upgrades,ca-certificates,puppet-agent,ansible-core,git,prometheus-node-exporter\n", 1), 0o644)
	l.env["OSP_BOOTLOADER"], l.env["OSP_TIMEZONE"], l.env["OSP_PARTITION_STYLE"] = "auto", "Asia/Tokyo", "msdos"
	l.nic(0, "MAC=aa:00:00:12:34:56", "MODE=bridged", "LINK=br0", "IP=10.0.2.15", "NETWORK_NAME=lan", "NETWORK_SUBNET=10.0.2.0/24", "NETWORK_GATEWAY=10.0.2.2")
	key := l.siteData(l.examples())
	has(t, l.create(), "a hook has installed a boot loader")

	second := filepath.Join(t.TempDir(), "ttyS1")
	m := l.start("bios", "-serial", "file:"+second)
	m.key = key
	m.says("inst1 login:", guestPatience)
	if state := m.must("systemctl is-system-running --wait"); state != "running" {
		t.Errorf("the system is %s:\n%s", state, m.must("systemctl --failed --no-legend --plain; journalctl -b -p warning --no-pager"))
	}
	for _, c := range []struct{ hook, command, want string }{
		{"grub", "grep -c menuentry /boot/grub/grub.cfg", "1"},
		{"interfaces", "ip -o -4 address show nic0; ip route show default", "inet 10.0.2.15/24 |default via 10.0.2.2 dev nic0"},
		{"ssh-keys", "cut -d' ' -f3 /etc/ssh/ssh_host_ed25519_key.pub", "root@inst1.example"},
		{"lock-root", "passwd -S root", "root L "},
		{"locale-timezone", "env; perl -e 1", "LANG=en_GB.UTF-8"},
		{"apt-sources", "apt-get update --print-uris", "/dists/" + os.Getenv("TEST_SUITE") + "-backports/InRelease"},
		{"timezone", "date +%Z; timedatectl show -p Timezone --value; cat /etc/timezone", "JST\nAsia/Tokyo\nAsia/Tokyo"},
		{"unattended-upgrades", "systemctl is-active unattended-upgrades apt-daily-upgrade.timer; unattended-upgrade --dry-run --verbose; apt-config dump", `active
active|No packages found that can be upgraded unattended|Periodic::Unattended-Upgrade "1"|Automatic-Reboot "true"`},
		{"internal-ca", "openssl verify /root/leaf.pem", "/root/leaf.pem: OK"},
		{"puppet", "systemctl is-active puppet; puppet config print --section agent certname server", "active|certname = inst1.example|server = puppet.example.com"},
		{"ansible-pull", "while [ $(systemctl show -P ExecMainExitTimestampMonotonic ansible-pull) = 0 ]; do sleep 2; done; cat /etc/set-up || journalctl -u ansible-pull --no-pager; systemctl show -P Result ansible-pull", "of localhost|success"},
		{"node-exporter", "systemctl show -P NRestarts prometheus-node-exporter; ss -ltnH 'sport = 9100'", "0\n|10.0.2.15:9100"},
		{"serial-getty", "systemctl is-active serial-getty@ttyS0 serial-getty@ttyS1", "active\nactive"},
		{"static-routes", "ip route", "10.20.0.0/16 via 10.0.2.254 dev nic0"},
	} {
		said := m.must(c.command)
		for want := range strings.SplitSeq(c.want, "|") {
			if !strings.Contains(said, want) {
				t.Errorf("%s: %s says\n%s\nwithout %q", c.hook, c.command, said, want)
			}
		}
	}
	if prompt, err := os.ReadFile(second); err != nil || !strings.Contains(string(prompt), "inst1 login:") {
		t.Errorf("the second serial port says %q, %v", prompt, err)
	}
	m.user = "alice"
	if said := m.must("id -un; sudo -n id -un"); said != "alice\nroot" {
		t.Errorf("alice is %q", said)
	}
	m.user = "root"
	if failed := m.must("systemctl --failed --no-legend --plain"); failed != "" {
		t.Errorf("what failed:\n%s", failed)
	}
	m.off()
}
