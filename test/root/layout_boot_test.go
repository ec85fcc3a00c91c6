//go:build root && slow

package root

import (
	"os"
	"strings"
	"testing"
)

func TestAGuestBootsFromItsLayoutByEachFirmware(t *testing.T) {
	l := realGuest(t)
	key := l.adminsKey()
	public, err := os.ReadFile(key + ".pub")
	must(t, err)
	l.layout("server", "0 384M ext4 /boot\n0 128M swap\n0 640M xfs /var\n0 64M ext4 /home\n0 rest ext4 /\n")
	l.env["OSP_LAYOUT"], l.env["OSP_NETWORK"], l.env["OSP_SSH_AUTHORIZED_KEYS"] = "server", "dhcp", string(public)
	l.env["NIC_COUNT"], l.env["NIC_0_MAC"], l.env["NIC_0_MODE"], l.env["NIC_0_LINK"] = "1", "aa:00:00:12:34:56", "bridged", "br0"
	l.create()

	m := l.start("secure")
	m.key = key
	m.says("inst1 login:", guestPatience)
	isWhole := func() {
		t.Helper()
		if state := m.must("systemctl is-system-running --wait"); state != "running" {
			t.Errorf("the system is %s:\n%s", state, m.must("systemctl --failed --no-legend --plain; journalctl -b -p err --no-pager"))
		}
		if said := m.must("for f in / /boot /var /home /boot/efi; do findmnt -n -r -o TARGET,FSTYPE $f; done; swapon --noheadings --show=TYPE; systemctl list-units --no-legend --plain '*-auto*'"); !strings.Contains(said,
			"/ ext4\n/boot ext4\n/var xfs\n/home ext4\n/boot/efi vfat\npartition") {
			t.Errorf("what is mounted: %s", said)
		}
	}
	isWhole()
	m.must("update-grub")
	m.must("grub-install")                                            // for UEFI
	m.must("DEBIAN_FRONTEND=noninteractive dpkg-reconfigure grub-pc") // for BIOS
	m.must("update-initramfs -u")
	if out := m.must("grep -rhoE '/dev/loop[0-9]+' /boot/grub/*.cfg /etc || true"); out != "" {
		t.Errorf("the node's device is named: %s", out)
	}
	m.off()
	m = l.start("bios")
	m.key = key
	m.says("inst1 login:", guestPatience)
	isWhole()
	m.off()
}

func TestAGuestWithALayoutIsBootTestedByEachFirmware(t *testing.T) {
	l := realGuest(t)
	l.layout("server", "0 384M xfs /boot\n0 128M swap\n0 640M ext4 /var\n0 rest btrfs /\n")
	l.env["OSP_LAYOUT"], l.env["OSP_BOOT_TEST"] = "server", "yes"
	log := l.create()
	for _, firmware := range []string{"bios", "uefi"} {
		l.matches(log, "firmware "+firmware+": a login prompt after")
	}
}

func TestAGuestInSubvolumesBootsByEachFirmware(t *testing.T) {
	l := realGuest(t)
	key := l.adminsKey()
	public, err := os.ReadFile(key + ".pub")
	must(t, err)
	l.layout("server", "0 128M swap\n0 rest btrfs / @rootfs\n0 - btrfs /home @home\n0 - btrfs /var @var\n")
	l.env["OSP_LAYOUT"], l.env["OSP_NETWORK"], l.env["OSP_SSH_AUTHORIZED_KEYS"] = "server", "dhcp", string(public)
	l.env["NIC_COUNT"], l.env["NIC_0_MAC"], l.env["NIC_0_MODE"], l.env["NIC_0_LINK"] = "1", "aa:00:00:12:34:56", "bridged", "br0"
	l.create()

	isWhole := func(m *machine) {
		t.Helper()
		m.key = key
		m.says("inst1 login:", guestPatience)
		if state := m.must("systemctl is-system-running --wait"); state != "running" {
			t.Errorf("the system is %s:\n%s", state, m.must("systemctl --failed --no-legend --plain; journalctl -b -p err --no-pager"))
		}
		if said := m.must("for f in / /home /var; do findmnt -n -r -o TARGET,FSROOT $f; done; grep -o 'rootflags=[^ ]*' /proc/cmdline"); said != "/ /@rootfs\n/home /@home\n/var /@var\nrootflags=subvol=@rootfs" {
			t.Errorf("what is mounted: %s", said)
		}
	}
	m := l.start("bios")
	isWhole(m)
	m.must("update-grub")
	m.must("DEBIAN_FRONTEND=noninteractive dpkg-reconfigure grub-pc")
	m.must("btrfs subvolume snapshot / /home/before")
	m.must("btrfs subvolume set-default 5 /") // neither GRUB nor the kernel goes by that
	m.off()
	m = l.start("secure")
	isWhole(m)
	m.off()
}
