//go:build root && slow

package libvirt

import (
	"os"
	"os/exec"
	"strconv"
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

// moment is a running guest as it was once: its memory and its disks. Going back to it
// costs seconds, and a boot minutes.
type moment struct {
	lab
	guest string
}

const momentDir = "/srv/moment"

// keepMoment keeps a running guest, which is off then.
func (l lab) keepMoment(guest string) moment {
	l.Helper()
	l.tool("mkdir", "-p", momentDir)
	l.Cleanup(func() { os.RemoveAll(momentDir) })
	l.tool("virsh", "-q", "save", guest, momentDir+"/memory")
	l.tool("sh", "-c", "cp --sparse=always "+pool+"/"+guest+"-* "+momentDir)
	return moment{l, guest}
}

// goBack has the guest run as it did.
func (m moment) goBack() {
	m.Helper()
	m.tool("sh", "-c", "cp --sparse=always "+momentDir+"/"+m.guest+"-* "+pool)
	m.tool("virsh", "-q", "restore", momentDir+"/memory")
}

// TestVirshsOrdinaryVerbsWorkOnAGuest has each of them do to a real guest what it does
// to any: those that freeze it let it go on where it was, and the others end its boot in
// order, which its journal tells, by which it is found again as it ran before each.
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
	agentAnswers()
	virsh("domtime", "web1", "--now") // after the pauses, as docs/vm.md says
	if guest, err := strconv.ParseInt(l.ssh("web1", "date +%s"), 10, 64); err != nil || time.Now().Unix()-guest > 10 || guest-time.Now().Unix() > 10 {
		t.Errorf("its clock is at %d, and the node's at %d: %v", guest, time.Now().Unix(), err)
	}
	then := l.keepMoment("web1")
	off := func() { l.becomes("web1", "shut off") }
	// resets waits until the machine is reset, at which a guest that was asked to restart is.
	resets := func(args ...string) {
		t.Helper()
		event := exec.Command("virsh", "-q", "event", "--event", "reboot", "--domain", "web1", "--timeout", "300")
		if err := event.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // it listens
		virsh(args...)
		if err := event.Wait(); err != nil {
			t.Errorf("%v: the machine is not reset: %v", args, err)
		}
	}
	ends := []struct {
		name, target string
		end          func()
		again        bool // it runs then
	}{
		{"reboot by the agent", "reboot.target", func() { agentAnswers(); resets("reboot", "web1", "--mode", "agent") }, true},
		{"reboot by ACPI", "poweroff.target", func() { resets("reboot", "web1", "--mode", "acpi") }, true}, // and libvirt resets the machine
		{"libvirt-guests, shutdown", "poweroff.target", func() { guests("stop", "shutdown"); off(); guests("start", "shutdown") }, true},
		{"vm reboot", "poweroff.target", func() { l.vm("reboot", "--stop-time", "5m", "web1") }, true},
		{"vm stop", "poweroff.target", func() { l.vm("stop", "--stop-time", "5m", "web1") }, false},
		{"shutdown", "poweroff.target", func() { virsh("shutdown", "web1"); off() }, false},
		{"shutdown by the agent", "poweroff.target", func() { agentAnswers(); virsh("shutdown", "web1", "--mode", "agent"); off() }, false},
	}
	for _, row := range ends {
		then.goBack()
		begin := time.Now()
		row.end()
		took := time.Since(begin)
		if state := l.state("web1"); (state == "running") != row.again {
			t.Errorf("%s: it is %s", row.name, state)
		}
		l.try("virsh", "-q", "destroy", "web1")
		l.vm("mount", "web1")
		journal := l.tool("journalctl", "--no-pager", "-o", "cat", "-D", "/mnt/web1/var/log/journal", "_BOOT_ID="+strings.ReplaceAll(boot, "-", ""), "-n", "60")
		l.vm("umount", "web1")
		if !strings.Contains(journal, "Reached target "+row.target) {
			t.Errorf("%s: it did not end in order; its journal's end:\n%s", row.name, journal)
		}
		t.Logf("%s: seen, after %.0f s", row.name, took.Seconds())
	}
	l.vm("remove", "--yes", "web1")
	l.clean(5 * time.Second)
}
