//go:build root && slow

package libvirt

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestWhatKeepsAGuestFromComingBackWithTheNodeIsSaid(t *testing.T) {
	l := newLab(t)
	l.networks()
	create := []string{"vm", "create", "--ssh-key", key + ".pub", "--root-size", "3G", "--swap-size", "64M", "--network", "default"}
	out, err := exec.Command(program, append(create, "web1")...).CombinedOutput()
	for _, says := range []string{"virsh net-autostart default", "virsh pool-autostart default"} {
		if err != nil || !strings.Contains(string(out), says) {
			t.Errorf("create does not say %q: %v\n%s", says, err, out)
		}
		if found := l.try(program, "doctor"); !strings.Contains(found, says) {
			t.Errorf("doctor does not say %q:\n%s", says, found)
		}
	}
	l.tool(append(append([]string{program}, create...), "--no-autostart", "--unattended-upgrades", "web2")...)
	if got := l.tool("virsh", "-q", "list", "--all", "--autostart", "--name"); strings.TrimSpace(got) != "web1" {
		t.Errorf("with the node start %q", got)
	}
	if got := l.tool("virsh", "-q", "net-list", "--all", "--autostart", "--name") + l.tool("virsh", "-q", "pool-list", "--all", "--autostart", "--name"); strings.TrimSpace(got) != "" {
		t.Errorf("the admin's own were changed: %q", got)
	}
	l.showsAll()
	l.vm("mount", "web2")
	if text := string(l.read("/mnt/web2/etc/apt/apt.conf.d/20auto-upgrades")); !strings.Contains(text, `Unattended-Upgrade "1"`) {
		t.Errorf("20auto-upgrades:\n%s", text)
	}
	l.read("/mnt/web2/usr/bin/unattended-upgrade")
	if hosts := string(l.read("/mnt/web2/etc/hosts")); strings.Contains(hosts, strings.TrimSpace(l.tool("hostname"))) {
		t.Errorf("the node's name is in the guest's hosts:\n%s", hosts)
	}
	l.vm("umount", "web2")
	l.tool("virsh", "-q", "net-autostart", "default")
	l.tool("virsh", "-q", "pool-autostart", "default")
	defer l.try("virsh", "-q", "pool-autostart", "--disable", "default")
	if found := l.try(program, "doctor"); strings.Contains(found, "virsh net-autostart") || strings.Contains(found, "virsh pool-autostart") || !strings.Contains(found, "web2: not started with the node") {
		t.Errorf("doctor:\n%s", found)
	}
	for _, name := range []string{"web1", "web2"} {
		l.vm("remove", "--yes", name)
	}
	l.clean(5 * time.Second)
}

// showsAll expects all that there is to say of web2 in show, and of a new guest in defaults.
func (l lab) showsAll() {
	l.Helper()
	shown := l.vm("show", "--json", "web2")
	for _, says := range []string{`"firmware":"bios"`, `"memory_bytes":1073741824`, `"vcpus":1`, `"autostart":false`, `"graphics":"none"`, `"network":"default"`, `"mac":"52:54:00:`, `"pool":"default"`, `"layout":"boot+root+swap"`} {
		if !strings.Contains(shown, says) {
			l.Errorf("show does not say %s: %s", says, shown)
		}
	}
	if shown := l.vm("show", "web1"); !strings.Contains(shown, "autostart: yes\n") || !strings.Contains(shown, "\nnic: 52:54:00:") {
		l.Errorf("show: %s", shown)
	}
	defaults := l.vm("defaults")
	for _, says := range []string{"# pool: default (/srv/pool, ", "# layout: boot+root+swap", "# firmware: bios", "# autostart: yes", "# graphics: none", "# MAC: random"} {
		if !strings.Contains(defaults, says) {
			l.Errorf("defaults do not say %s:\n%s", says, defaults)
		}
	}
}

func TestAnotherLibvirtIsRefusedAndWhoMayNotIsToldSo(t *testing.T) {
	l := newLab(t)
	l.fails("on the node itself only", program, "vm", "list", "--connect", "qemu+ssh://elsewhere/system")
	l.fails("LIBVIRT_DEFAULT_URI is", "env", "LIBVIRT_DEFAULT_URI=xen:///system", program, "vm", "list")
	l.tool("env", "LIBVIRT_DEFAULT_URI=xen:///system", program, "vm", "list", "--connect", "qemu:///system")
	nobody := []string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", program, "vm"}
	l.fails("root is needed", append(nobody, "mount", "web1")...)
	l.fails("the group libvirt", append(nobody, "list")...)
}

func TestAKernelOfOldIsTakenAsTodays(t *testing.T) {
	l := newLab(t)
	l.write("/root/.vmbootstrap", "kernelpkg=linux-image-2.6-amd64\nboot_size=128M\ncolour=red\n")
	defer os.Remove("/root/.vmbootstrap")
	out, err := exec.Command(program, append([]string{"vm"}, small("--dry-run", "web1")...)...).CombinedOutput()
	for _, says := range []string{`kernelpkg "linux-image-2.6-amd64" (/root/.vmbootstrap:1): no suite has it`, `boot_size "128M" (/root/.vmbootstrap:2): /boot gets 512 MiB`, "colour is not a key"} {
		if err != nil || !strings.Contains(string(out), says) {
			t.Errorf("it does not say %q: %v\n%s", says, err, out)
		}
	}
}

func TestWhatTheNodeCannotHaveIsRefusedBeforeAnythingIsMade(t *testing.T) {
	l := newLab(t)
	for says, options := range map[string]string{
		"memory of 921600 MiB: the node has ":         "--memory 900G",
		"999 virtual CPUs: this QEMU's machines have": "--vcpus 999",
		"pool default has ":                           "--root-size 900T",
	} {
		said := l.fails(says, append(append([]string{program, "vm"}, small(strings.Fields(options)...)...), "web1")...)
		if strings.Contains(said, "make the volumes") {
			t.Errorf("%s: something was made:\n%s", options, said)
		}
	}
	l.clean(0)
}
