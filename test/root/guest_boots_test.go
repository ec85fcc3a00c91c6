//go:build root && slow

package root

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// realGuest is a lab whose guests are real ones, of the archive and the suite that
// apt uses. The trees are kept for the other tests of this run.
func realGuest(t *testing.T) *lab {
	t.Helper()
	return realGuestOf(t, os.Getenv("TEST_SUITE"))
}

// realCache is a folder of trees from the archive: one that outlives this run, where
// TEST_CACHE names it.
func realCache(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("TEST_CACHE")
	if cache == "" {
		cache = filepath.Join(base, "real-cache")
	}
	must(t, os.MkdirAll(cache, 0o755))
	return cache
}

// ubuntus are the suites of Ubuntu's whose guests are booted, where TEST_UBUNTU names an archive
// and the file of its keys.
var ubuntus = []string{"jammy", "noble", "resolute", "stonking"}

func realGuestOf(t *testing.T, suite string) *lab {
	t.Helper()
	l := newLab(t, 3072)
	mirror := os.Getenv("TEST_MIRROR")
	if mirror == "" || suite == "" {
		t.Fatal("TEST_MIRROR and TEST_SUITE aren't set: test/archive prints them")
	}
	more := ""
	if slices.Contains(ubuntus, suite) {
		var keys string
		if mirror, keys, _ = strings.Cut(os.Getenv("TEST_UBUNTU"), " "); keys == "" {
			t.Fatal("TEST_UBUNTU isn't set: test/ubuntu prints it")
		}
		more = "KEYRING=" + keys + "\nCOMPONENTS=main,universe\n"
	}
	cache := realCache(t)
	// One tree for all styles and filesystems, and for test/libvirt's guests.
	l.write("default", more+fmt.Sprintf("MIRROR=%s\nSUITE=%s\nCACHE_DIR=%s\nKERNEL_PKG=cloud\n"+
		"EXTRA_PKGS=openssh-server,grub-efi-amd64-signed,shim-signed,xfsprogs,btrfs-progs,qemu-guest-agent,locales\n", mirror, suite, cache), 0o644)
	l.env["OSP_BOOTLOADER"] = "grub"
	return l
}

func TestAGuestIsReachedAndKeepsItself(t *testing.T) {
	l := realGuest(t)
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
	if state := m.must("od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-*"); strings.TrimSpace(state) != "1" {
		t.Errorf("Secure Boot is %q", state)
	}
	if limit := m.must("systemctl show -P JobRunningTimeoutUSec dev-ttyS0.device"); limit != "5min" {
		t.Errorf("systemd waits %s for the console", limit)
	}
	if key := m.must("ssh-keygen -l -f /etc/ssh/ssh_host_rsa_key; ssh-keyscan -T 120 -t rsa 127.0.0.1 2>/dev/null; ls /var/lib/instance-debootstrap"); !strings.Contains(key, "(RSA)") ||
		!strings.Contains(key, "127.0.0.1 ssh-rsa ") || strings.Contains(key, "wanted") {
		t.Errorf("the guest's RSA key:\n%s", key)
	}
	m.must("mountpoint /boot/efi")
	m.must("update-grub")
	m.must("grub-install")                                            // UEFI, and the removable path by debconf's answer below
	m.must("DEBIAN_FRONTEND=noninteractive dpkg-reconfigure grub-pc") // as an upgrade does it, for BIOS
	m.must("test -e /dev/disk/by-id/instance-debootstrap-boot")       // what debconf names
	if out := m.must("grep -rhoE '/dev/loop[0-9]+' /boot/grub/*.cfg /etc || true"); out != "" {
		t.Errorf("the node's device is named: %s", out)
	}
	if out := m.must("debconf-show grub-pc | grep -E 'install_devices:|force_efi_extra_removable'"); !strings.Contains(out, "install_devices: /dev/disk/by-id/instance-debootstrap-boot") || !strings.Contains(out, "removable: true") {
		t.Errorf("debconf knows:\n%s", out)
	}
	m.off()

	l.env["NIC_0_MAC"] = "aa:00:00:99:99:99" // as gnt-instance modify --net 0:modify,mac= does
	m = l.start("bios")
	m.key = key
	m.says("inst1 login:", guestPatience)
	if mac := m.must("cat /sys/class/net/nic0/address"); mac != "aa:00:00:99:99:99" {
		t.Errorf("nic0 has %s", mac)
	}
	if state := m.must("systemctl is-system-running --wait"); state != "running" {
		t.Errorf("under the other firmware the system is %s", state)
	}
	m.must("update-initramfs -u")
	m.off()
}
