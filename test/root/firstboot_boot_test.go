//go:build root && slow

package root

import (
	"os"
	"strings"
	"testing"
)

func TestAGuestRunsItsUserDataAndItsScriptAtItsFirstBootAndNeverAgain(t *testing.T) {
	l := realGuest(t)
	key := l.adminsKey()
	public, err := os.ReadFile(key + ".pub")
	must(t, err)
	l.env["OSP_NETWORK"], l.env["OSP_SSH_AUTHORIZED_KEYS"] = "dhcp", string(public)
	l.env["NIC_COUNT"], l.env["NIC_0_MAC"], l.env["NIC_0_MODE"], l.env["NIC_0_LINK"] = "1", "aa:00:00:12:34:56", "bridged", "br0"
	l.env["OSP_USER_DATA"] = "#cloud-config\nusers:\n- default\n- {name: ann, sudo: 'ALL=(ALL) NOPASSWD:ALL'}\nruncmd:\n- echo ran >>/root/ran\n"
	l.env["OSP_BOOT_TEST"] = "yes"
	l.env["OSP_FIRST_BOOT"] = "#!/bin/sh\necho hello of $(id -un)\nip -4 -o addr show scope global\nexit 3\n"
	log := l.create()
	if !strings.Contains(log, "cloud-init ended in the copy without an error") {
		t.Errorf("the boot test didn't wait for cloud-init:\n%s", log)
	}

	m := l.start("bios")
	m.key = key
	m.says("inst1 login:", guestPatience)
	if said := m.must("cloud-init status --wait --long"); !strings.Contains(said, "status: done") || !strings.Contains(said, "NoCloud") {
		t.Errorf("cloud-init says %s\n%s", said, m.must("grep -iE 'warn|error|trace' /var/log/cloud-init.log"))
	}
	if said := m.must("su ann -c 'sudo -n id -un'; cat /root/ran; hostname; cat /etc/hostname"); said != "root\nran\ninst1.example\ninst1.example" {
		t.Errorf("ann, what ran, and the name: %q", said)
	}
	said := m.must("until grep -q ended /var/log/instance-debootstrap-first-boot.log; do sleep 1; done; cat /var/log/instance-debootstrap-first-boot.log")
	for _, want := range []string{"hello of root\n", ": nic0 ", "inet 10.0.2.15/", "ended with exit status 3"} {
		if !strings.Contains(strings.ReplaceAll(said, "    ", " "), want) {
			t.Errorf("the log of the first boot lacks %q:\n%s", want, said)
		}
	}
	if said := m.must("systemctl is-system-running --wait; systemctl --failed --no-legend --plain"); !strings.HasPrefix(said, "degraded\ninstance-debootstrap-first-boot.service ") || strings.Count(said, ".service") != 1 {
		t.Errorf("what failed: %s", said)
	}
	for _, fingerprint := range strings.Fields(m.must("for f in /etc/ssh/ssh_host_e*.pub; do ssh-keygen -l -f $f | cut -d' ' -f2; done")) {
		if !strings.Contains(log, fingerprint) {
			t.Errorf("the create's log doesn't know the host key %s", fingerprint)
		}
	}
	if said := m.must("ls -A /etc/network/interfaces.d /etc/netplan /etc/systemd/network 2>/dev/null; grep -l cloud-init /etc/udev/rules.d/*net* /etc/network/interfaces || true"); strings.Contains(said, "cloud") {
		t.Errorf("cloud-init wrote a network: %s", said)
	}
	if said := m.must("debconf-show grub-pc | grep install_devices:; grep -c " + os.Getenv("TEST_MIRROR") + " /etc/apt/sources.list"); !strings.Contains(said, "/dev/disk/by-id/instance-debootstrap-boot") {
		t.Errorf("GRUB's disk and apt's sources: %s", said)
	}
	m.off()

	l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"] = "inst1.example", "inst2.example"
	if log, exit := l.run("rename"); exit != 0 {
		t.Fatal(log)
	}
	m = l.start("bios")
	m.key = key
	m.says("inst2 login:", guestPatience)
	m.must("cloud-init status --wait")
	if said := m.must("cat /root/ran; hostname; cat /etc/hostname; grep -c begins /var/log/instance-debootstrap-first-boot.log; systemctl is-system-running --wait"); said != "ran\ninst2.example\ninst2.example\n1\nrunning" {
		t.Errorf("after the rename: %q", said)
	}
	m.off()
}
