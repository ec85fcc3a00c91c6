//go:build root && slow

package libvirt

import (
	"strings"
	"testing"
	"time"
)

// becomes waits for a guest's state.
func (l lab) becomes(guest, state string) {
	l.Helper()
	for deadline := time.Now().Add(5 * time.Minute); l.state(guest) != state; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			l.Fatalf("%s is %s, and never %s", guest, l.state(guest), state)
		}
	}
}

// boot is the name that a guest's kernel gives to its boot.
func (l lab) boot(guest string) string {
	l.Helper()
	return l.ssh(guest, "cat /proc/sys/kernel/random/boot_id")
}

// TestVirshsOrdinaryVerbsWorkOnAGuest has each of them do to a real guest what it does
// to any: those that freeze it let it go on where it was, and the others end its boot in
// order.
func TestVirshsOrdinaryVerbsWorkOnAGuest(t *testing.T) {
	l := newLab(t)
	l.vm(small("--wait", "web1")...)
	virsh := func(args ...string) { t.Helper(); l.tool(append([]string{"virsh", "-q"}, args...)...) }
	guests := func(verb, how string) { // libvirt-guests.service
		t.Helper()
		l.write("/etc/default/libvirt-guests", "ON_BOOT=start\nON_SHUTDOWN="+how+"\nSHUTDOWN_TIMEOUT=300\n")
		l.tool("/usr/lib/libvirt/libvirt-guests.sh", verb)
	}

	boot := l.boot("web1")
	freezes := []struct {
		name, state string
		stop, goOn  func()
	}{
		{"suspend and resume", "paused", func() { virsh("suspend", "web1") }, func() { virsh("resume", "web1") }},
		{"managedsave and start", "shut off", func() { virsh("managedsave", "web1") }, func() { l.vm("start", "web1") }},
		{"libvirt-guests, suspend", "shut off", func() { guests("stop", "suspend") }, func() { guests("start", "suspend") }},
	}
	for _, row := range freezes {
		row.stop()
		if state := l.state("web1"); state != row.state {
			t.Errorf("%s: it is %s", row.name, state)
		}
		row.goOn()
		if state := l.state("web1"); state != "running" {
			t.Fatalf("%s: it does not go on: it is %s", row.name, state)
		}
		l.reach("web1")
		if now := l.boot("web1"); now != boot {
			t.Errorf("%s: it was booted anew", row.name)
		}
		t.Logf("%s: seen", row.name)
	}

	agentAnswers := func() {
		t.Helper()
		for range 120 {
			if strings.Contains(l.try("virsh", "-q", "qemu-agent-command", "web1", `{"execute":"guest-ping"}`), "return") {
				return
			}
			time.Sleep(time.Second)
		}
		t.Error("its agent does not answer")
	}
	ends := []struct {
		name, target string
		end          func()
	}{
		{"reboot by the agent", "reboot.target", func() { agentAnswers(); virsh("reboot", "web1", "--mode", "agent") }},
		{"reboot by ACPI", "poweroff.target", func() { virsh("reboot", "web1", "--mode", "acpi") }}, // and libvirt resets the machine
		{"libvirt-guests, shutdown", "poweroff.target", func() { guests("stop", "shutdown"); l.becomes("web1", "shut off"); guests("start", "shutdown") }},
		{"vm reboot", "poweroff.target", func() { l.vm("reboot", "--stop-time", "5m", "web1") }},
		{"shutdown by the agent", "poweroff.target", func() {
			agentAnswers()
			virsh("shutdown", "web1", "--mode", "agent")
			l.becomes("web1", "shut off")
			l.vm("start", "web1")
		}},
	}
	for _, row := range ends {
		begin := time.Now()
		before := l.boot("web1")
		row.end()
		for deadline := time.Now().Add(10 * time.Minute); ; time.Sleep(2 * time.Second) {
			l.reach("web1")
			if l.boot("web1") != before {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: it goes on as if nothing had been asked", row.name)
			}
		}
		if journal := l.ssh("web1", "journalctl --no-pager -o cat -b "+strings.ReplaceAll(before, "-", "")+" -n 60"); !strings.Contains(journal, "Reached target "+row.target) {
			t.Errorf("%s: it did not end in order; its journal's end:\n%s", row.name, journal)
		}
		t.Logf("%s: seen, %.0f s to the next boot's ssh", row.name, time.Since(begin).Seconds())
	}
	l.vm("stop", "--stop-time", "5m", "web1")
	l.vm("remove", "--yes", "web1")
	l.clean(5 * time.Second)
}
