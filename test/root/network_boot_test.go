//go:build root && slow

package root

import (
	"os"
	"testing"
)

// The kernel and the initramfs have named the interface before the guest's udev
// does; the addresses are those that QEMU's own network has for its guest.
func TestARealGuestIsOnTheNetworkThatGanetiKnows(t *testing.T) {
	for renderer, hook := range map[string]string{
		"ifupdown":         "",
		"systemd-networkd": `chroot "$TARGET" dpkg --remove ifupdown`,
	} {
		t.Run(renderer, func(t *testing.T) {
			l := realGuest(t)
			key := l.adminsKey()
			public, err := os.ReadFile(key + ".pub")
			must(t, err)
			l.env["OSP_SSH_AUTHORIZED_KEYS"] = string(public)
			l.nic(0, "MAC=aa:00:00:12:34:56", "MODE=bridged", "LINK=br0", "IP=10.0.2.15", "NETWORK_NAME=lan", "NETWORK_SUBNET=10.0.2.0/24",
				"NETWORK_GATEWAY=10.0.2.2", "NETWORK_SUBNET6=fec0::/64", "NETWORK_GATEWAY6=fec0::2")
			if hook != "" {
				l.hook("50-remove", hook)
			}
			has(t, l.create(), "network of the guest, for "+renderer+": nic0 10.0.2.15/24")
			m := l.start("bios")
			m.key = key
			m.says("inst1 login:", guestPatience)
			if state := m.must("systemctl is-system-running --wait"); state != "running" {
				t.Errorf("the system is %s:\n%s", state, m.must("systemctl --failed --no-legend --plain; journalctl -b -p err --no-pager"))
			}
			has(t, m.must("ip -o addr show nic0"), "inet 10.0.2.15/24 ", "inet6 fec0::a800:ff:fe12:3456/64 ")
			has(t, m.must("ip route; ip -6 route"), "default via 10.0.2.2 dev nic0", "default via fec0::2 dev nic0")
			m.off()
		})
	}
}
