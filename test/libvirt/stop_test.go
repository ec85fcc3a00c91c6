//go:build root

package libvirt

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// answers is a boot record that does what a guest does about its power button, and
// nothing else: it waits until the button was pressed a number of times, and turns the
// machine off. The registers are those of q35's power management (Intel's I/O
// Controller Hub 9, "PM1_STS" and those after it), where SeaBIOS puts them.
func answers(presses byte) []byte {
	code := []byte{
		0xfa,                // cli
		0xb9, presses, 0x00, // mov cx, presses
		0xba, 0x02, 0x06, // mov dx, 0x602: PM1_EN
		0xb8, 0x00, 0x01, // mov ax, 0x100: the power button
		0xef,             // out dx, ax
		0xba, 0x00, 0x06, // mov dx, 0x600: PM1_STS
		0xed,             // in ax, dx
		0xf6, 0xc4, 0x01, // test ah, 1
		0x74, 0xfa, // jz, back to in
		0xb8, 0x00, 0x01, // mov ax, 0x100
		0xef,       // out dx, ax: seen
		0xe2, 0xf4, // loop, back to in
		0xba, 0x04, 0x06, // mov dx, 0x604: PM1_CNT
		0xb8, 0x00, 0x20, // mov ax, 0x2000: off
		0xef,             // out dx, ax
		0xf4, 0xeb, 0xfd, // hlt, for ever
	}
	record := make([]byte, 512)
	copy(record, code)
	record[510], record[511] = 0x55, 0xaa
	return record
}

// machine starts a guest of two volumes, without an operating system: web2-boot, with
// a boot record (nil is none, and the guest never answers), and web2-root, an ext4.
func (l lab) machine(record []byte) {
	l.Helper()
	for name, size := range map[string]string{"web2-boot": "1M", "web2-root": "64M"} {
		l.tool("virsh", "-q", "vol-create-as", "default", name, size, "--format", "raw")
	}
	l.record(record)
	l.tool("mkfs.ext4", "-q", pool+"/web2-root")
	disks := ""
	for i, name := range []string{"web2-boot", "web2-root"} {
		disks += fmt.Sprintf("<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/><source file='%s/%s'/><target dev='vd%c' bus='virtio'/></disk>", pool, name, 'a'+i)
	}
	l.write("/srv/machine.xml", "<domain type='qemu'><name>web2</name><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>"+
		"<features><acpi/><apic/></features><devices>"+disks+"<serial type='pty'/></devices></domain>")
	l.tool("virsh", "-q", "define", "/srv/machine.xml")
	l.tool("virsh", "-q", "start", "web2")
	time.Sleep(3 * time.Second) // SeaBIOS's
}

// record writes web2's boot record.
func (l lab) record(record []byte) {
	l.Helper()
	f, err := os.OpenFile(pool+"/web2-boot", os.O_WRONLY, 0)
	if err != nil {
		l.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(record); err != nil {
		l.Fatal(err)
	}
}

func (l lab) state(guest string) string {
	return strings.TrimSpace(l.try("virsh", "-q", "domstate", guest))
}

// took lists the steps that a vm command takes, and what it says in the end.
func (l lab) took(args ...string) (steps []string, last string, err error) {
	l.Helper()
	events, err := l.events(args...)
	for _, e := range events {
		if e.MS != nil {
			steps = append(steps, e.Step)
		}
		if e.Level != "info" || e.Step == "" {
			last = e.Message
		}
	}
	return steps, last, err
}

// removedInOrder removes a running guest, which shuts down by itself when it is asked.
func (l lab) removedInOrder(guest string) {
	l.Helper()
	steps, last, err := l.took("remove", "--yes", "--stop", guest)
	if got := strings.Join(steps, ", "); err != nil || got != "check that it can be removed, shut down the guest, delete the volumes, undefine the domain" {
		l.Errorf("%v: it took the steps %s, and says %s", err, got, last)
	}
}

func TestAGuestThatAnswersIsShutDownAndNotUnplugged(t *testing.T) {
	l := newLab(t)
	l.machine(answers(1))
	l.removedInOrder("web2")
	l.clean(0)
}

func TestAGuestThatDoesNotAnswerIsUnpluggedByRemoveAlone(t *testing.T) {
	l := newLab(t)
	l.machine(nil)
	said := l.fails("was asked to, is running, and may still do it: it doesn't answer within 3s: see why (instance-debootstrap vm console web2)", program, "vm", "grow", "--stop", "--stop-time", "3s", "--root-size", "+64M", "web2")
	if !strings.Contains(said, "vm stop --force web2") || l.state("web2") != "running" {
		t.Errorf("it is %s, after:\n%s", l.state("web2"), said)
	}
	l.fails("shut it down first", "/srv/vmbootstrap", "--remove", "default", "web2")
	begin := time.Now()
	out, err := exec.Command(program, "vm", "remove", "--yes", "--stop", "--stop-time", "3s", "web2").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "is running and doesn't answer: it is forced off, and its last writes may be lost") || time.Since(begin) < 3*time.Second {
		t.Errorf("%v, after %v:\n%s", err, time.Since(begin), out)
	}
	l.clean(0)
}

func TestAPausedGuestIsNotWaitedFor(t *testing.T) {
	l := newLab(t)
	l.machine(answers(1))
	l.tool("virsh", "-q", "suspend", "web2")
	l.fails("web2 is paused, and can't shut down: virsh resume web2 first", program, "vm", "grow", "--stop", "--root-size", "+64M", "web2")
	begin := time.Now()
	steps, _, err := l.took("remove", "--yes", "--stop", "web2")
	if got := strings.Join(steps, ", "); err != nil || got != "check that it can be removed, force the guest off, delete the volumes, undefine the domain" || time.Since(begin) > 10*time.Second {
		t.Errorf("%v, after %v: %s", err, time.Since(begin), got)
	}
	l.clean(0)
}

// What changes the disks of a guest that goes on from its memory damages it.
func TestASavedGuestsDisksAreLeftAlone(t *testing.T) {
	l := newLab(t)
	l.machine(answers(1))
	l.tool("virsh", "-q", "managedsave", "web2")
	for _, args := range [][]string{{"grow", "--root-size", "+64M", "web2"}, {"grow", "--stop", "--root-size", "+64M", "web2"}, {"mount", "web2"}, {"grub", "web2"}} {
		l.fails("web2 is saved, and goes on from its memory", append([]string{program, "vm"}, args...)...)
	}
	if _, _, err := l.took("remove", "--yes", "web2"); err != nil {
		t.Error(err)
	}
	l.clean(0)
}

func TestGrowShutsDownAndStartsAgainWhateverComesOfIt(t *testing.T) {
	l := newLab(t)
	l.machine(answers(1))
	running := func(after string) {
		t.Helper()
		if state := l.state("web2"); state != "running" {
			t.Fatalf("it is %s after %s", state, after)
		}
		time.Sleep(3 * time.Second) // SeaBIOS's
	}
	l.fails("or give --stop", program, "vm", "grow", "--root-size", "+64M", "web2")

	// What can be refused is, while the guest runs.
	for says, size := range map[string]string{"is only made larger": "32M", "nothing to do": "64M"} {
		steps, last, _ := l.took("grow", "--stop", "--root-size", size, "web2")
		if len(steps) > 1 || !strings.Contains(last, says) {
			t.Errorf("with %s it took %q, and says %q", size, steps, last)
		}
	}
	id := l.tool("virsh", "-q", "domid", "web2")

	steps, last, err := l.took("grow", "--stop", "--root-size", "+64M", "web2")
	if err != nil || !strings.Contains(last, "from 64 MiB to 128 MiB") || len(steps) < 6 || steps[1] != "shut down the guest" || steps[len(steps)-1] != "start the guest again" {
		t.Errorf("%v: %q, and it says %q", err, steps, last)
	}
	running("growing")
	if l.tool("virsh", "-q", "domid", "web2") == id {
		t.Error("it was not shut down")
	}

	// What the pool has no room for is refused too.
	steps, last, _ = l.took("grow", "--stop", "--root-size", "100000T", "web2")
	if len(steps) > 0 || !strings.Contains(last, "MiB in all, and 104857600000 MiB are asked for") {
		t.Errorf("with 100000T it took %q, and says %q", steps, last)
	}

	// The pool is gone when the guest has shut down.
	withoutPool := func() string {
		t.Helper()
		time.AfterFunc(4*time.Second, func() { l.tool("virsh", "-q", "pool-destroy", "default") })
		defer l.tool("virsh", "-q", "pool-start", "default")
		return l.fails("make the volume larger: ", program, "vm", "grow", "--stop", "--root-size", "+64M", "web2")
	}
	l.tool("virsh", "-q", "destroy", "web2")
	l.record(answers(2))
	l.tool("virsh", "-q", "start", "web2")
	time.Sleep(3 * time.Second) // SeaBIOS's
	said := withoutPool()
	if strings.Contains(said, "vm start") {
		t.Errorf("it is said to be shut off:\n%s", said)
	}
	running("a failure")

	// Nor can it be started again.
	l.tool("virsh", "-q", "attach-disk", "web2", "/srv/none", "vdc", "--config")
	said = withoutPool()
	if !strings.Contains(said, "web2 was running and is shut off now: vm start web2: start it again: ") {
		t.Errorf("of two errors it says:\n%s", said)
	}
	l.vm("remove", "--yes", "web2")
	l.clean(0)
}

func TestAGuestIsAskedAgain(t *testing.T) {
	l := newLab(t)
	l.machine(answers(2))
	begin := time.Now()
	l.vm("grow", "--stop", "--root-size", "+64M", "web2")
	if took := time.Since(begin); took < 10*time.Second || took > 40*time.Second {
		t.Errorf("it took %v", took)
	}
	l.vm("remove", "--yes", "--stop", "--stop-time", "0s", "web2")
	l.clean(0)
}

func TestASignalIsHeardWhileAGuestIsWaitedFor(t *testing.T) {
	l := newLab(t)
	l.machine(nil)
	for _, args := range [][]string{{"grow", "--root-size", "+64M"}, {"remove", "--yes"}} {
		cmd := exec.Command(program, append(append([]string{"vm"}, args...), "--stop", "web2")...)
		out, in, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdout, cmd.Stderr = in, in
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in.Close()
		var said strings.Builder
		lines := bufio.NewScanner(out)
		for lines.Scan() && !strings.Contains(lines.Text(), "web2 is asked to shut down") {
			said.WriteString(lines.Text() + "\n")
		}
		begin := time.Now()
		cmd.Process.Signal(syscall.SIGTERM)
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
		}
		out.Close()
		if err := cmd.Wait(); err == nil || time.Since(begin) > 10*time.Second || !strings.Contains(said.String(), "web2 was asked to, is running, and may still do it: ") || l.state("web2") != "running" {
			t.Errorf("%v: %v after %v:\n%s", args, err, time.Since(begin), said.String())
		}
	}
	l.vm("remove", "--yes", "--stop", "--stop-time", "0s", "web2")
	l.clean(0)
}
