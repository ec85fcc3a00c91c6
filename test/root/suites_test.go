//go:build root && slow

package root

import (
	"os"
	"testing"
)

// TestGuestsOfTheNewestSuitesAreReachedAndKeepThemselves is
// TestAGuestIsReachedAndKeepsItself for the suites that change while we look: what
// docs/suites.md says of them. It is not part of a check, since their archive may
// be broken for a day; run it before a release.
func TestGuestsOfTheNewestSuitesAreReachedAndKeepThemselves(t *testing.T) {
	for _, suite := range []string{"forky", "sid"} {
		t.Run(suite, func(t *testing.T) { isReachedAndKeepsItself(t, suite) })
	}
}

func TestUbuntusGuestsAreReachedAndKeepThemselves(t *testing.T) {
	for _, suite := range ubuntus {
		t.Run(suite, func(t *testing.T) { isReachedAndKeepsItself(t, suite) })
	}
}

// isReachedAndKeepsItself has a new guest start under Secure Boot, be reached by ssh, and start
// under BIOS after what an upgrade of GRUB and of the initramfs does.
func isReachedAndKeepsItself(t *testing.T, suite string) {
	t.Helper()
	l := realGuestOf(t, suite)
	key := l.adminsKey()
	public, err := os.ReadFile(key + ".pub")
	must(t, err)
	l.env["OSP_PARTITION_STYLE"], l.env["OSP_NETWORK"], l.env["OSP_SSH_AUTHORIZED_KEYS"] = "gpt", "dhcp", string(public)
	l.env["NIC_COUNT"], l.env["NIC_0_MAC"], l.env["NIC_0_MODE"], l.env["NIC_0_LINK"] = "1", "aa:00:00:12:34:56", "bridged", "br0"
	l.create()

	m := l.start("secure")
	m.key = key
	m.says("inst1 login:", guestPatience)
	if state := m.must("systemctl is-system-running --wait"); state != "running" {
		t.Errorf("the system is %s:\n%s", state, m.must("systemctl --failed --no-legend --plain; journalctl -b -p err --no-pager"))
	}
	m.must("mountpoint /boot/efi")
	if id := m.must("cat /etc/machine-id"); len(id) != 32 {
		t.Errorf("the machine id is %q", id)
	}
	m.must("DEBIAN_FRONTEND=noninteractive dpkg-reconfigure grub-pc") // GRUB for BIOS, and grub.cfg, as an upgrade does it
	m.must("update-initramfs -u -k all")                              // as an upgrade of it does
	m.off()

	m = l.start("bios")
	m.key = key
	m.says("inst1 login:", guestPatience)
	m.must("true")
	m.off()
}
