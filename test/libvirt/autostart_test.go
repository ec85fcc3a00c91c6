//go:build root

package libvirt

import (
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
	l.tool(append(append([]string{program}, create...), "--no-autostart", "web2")...)
	if got := l.tool("virsh", "-q", "list", "--all", "--autostart", "--name"); strings.TrimSpace(got) != "web1" {
		t.Errorf("with the node start %q", got)
	}
	if got := l.tool("virsh", "-q", "net-list", "--all", "--autostart", "--name") + l.tool("virsh", "-q", "pool-list", "--all", "--autostart", "--name"); strings.TrimSpace(got) != "" {
		t.Errorf("the admin's own were changed: %q", got)
	}
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
