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

// answers is a boot record that says on the serial port that it runs, and then does what a
// guest does about its power button, and nothing else: it waits until the button was pressed
// a number of times, goes on for a time, and turns the machine off. The registers are those
// of q35's power management (Intel's I/O Controller Hub 9, "PM1_STS" and those after it),
// where SeaBIOS puts them. It sleeps from one tick of the timer to the next, of which there
// are 18 a second.
func answers(presses byte, goesOn time.Duration) []byte {
	ticks := byte(1 + goesOn*18/time.Second)
	code := []byte{
		0xba, 0xf8, 0x03, // mov dx, 0x3f8: the first serial port
		0xb0, 'r', // mov al, 'r'
		0xee,                // out dx, al
		0xb9, presses, 0x00, // mov cx, presses
		0xba, 0x02, 0x06, // mov dx, 0x602: PM1_EN
		0xb8, 0x00, 0x01, // mov ax, 0x100: the power button
		0xef,             // out dx, ax
		0xfb,             // sti
		0xf4,             // hlt, until the next tick
		0xba, 0x00, 0x06, // mov dx, 0x600: PM1_STS
		0xed,             // in ax, dx
		0xf6, 0xc4, 0x01, // test ah, 1
		0x74, 0xf6, // jz, back to hlt
		0xb8, 0x00, 0x01, // mov ax, 0x100
		0xef,       // out dx, ax: seen
		0xe2, 0xf0, // loop, back to hlt
		0xb1, ticks, // mov cl, ticks
		0xf4,       // hlt
		0xe2, 0xfd, // loop, back to hlt
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

// serial is what web2's boot records say.
const serial = "/srv/web2.serial"

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
		"<features><acpi/><apic/></features><devices>"+disks+"<serial type='pty'><log file='"+serial+"' append='off'/></serial></devices></domain>")
	l.tool("virsh", "-q", "define", "/srv/machine.xml")
	l.tool("virsh", "-q", "start", "web2")
	if record != nil {
		l.answers()
	}
}

// answers waits until web2's boot record runs.
func (l lab) answers() {
	l.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if said, _ := os.ReadFile(serial); strings.HasSuffix(string(said), "r") {
			return
		}
		if time.Now().After(deadline) {
			l.Fatal("web2's boot record doesn't run")
		}
	}
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
	l.machine(answers(1, 0))
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
	l.machine(answers(1, 0))
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
	l.machine(answers(1, 0))
	l.tool("virsh", "-q", "managedsave", "web2")
	for _, args := range [][]string{{"grow", "--root-size", "+64M", "web2"}, {"grow", "--stop", "--root-size", "+64M", "web2"}, {"mount", "web2"}, {"grub", "web2"}} {
		l.fails("web2 is saved, and goes on from its memory", append([]string{program, "vm"}, args...)...)
	}
	if _, _, err := l.took("remove", "--yes", "web2"); err != nil {
		t.Error(err)
	}
	l.clean(0)
}

// growsWithoutPool stops the pool while web2 shuts down to be grown, and returns what is said.
func (l lab) growsWithoutPool() string {
	l.Helper()
	defer l.tool("virsh", "-q", "pool-start", "default")
	said, _, err := l.hears([]string{"grow", "--root-size", "+64M"}, func(*os.Process) { l.tool("virsh", "-q", "pool-destroy", "default") })
	if err == nil || !strings.Contains(said, "make the volume larger: ") {
		l.Errorf("%v:\n%s", err, said)
	}
	return said
}

// hears runs a vm command with --stop, does something when it has asked web2 to shut down,
// and returns what it said, and how long it went on for then.
func (l lab) hears(args []string, do func(*os.Process)) (said string, after time.Duration, err error) {
	l.Helper()
	cmd := exec.Command(program, append(append([]string{"vm"}, args...), "--stop", "web2")...)
	out, in, err := os.Pipe()
	if err != nil {
		l.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		l.Fatal(err)
	}
	in.Close()
	var begin time.Time
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said += lines.Text() + "\n"
		if begin.IsZero() && strings.Contains(lines.Text(), "web2 is asked to shut down") {
			begin = time.Now()
			do(cmd.Process)
		}
	}
	return said, time.Since(begin), cmd.Wait()
}

func TestASignalIsHeardWhileAGuestIsWaitedFor(t *testing.T) {
	l := newLab(t)
	l.machine(nil)
	for _, args := range [][]string{{"grow", "--root-size", "+64M"}, {"remove", "--yes"}} {
		said, after, err := l.hears(args, func(p *os.Process) { p.Signal(syscall.SIGTERM) })
		if err == nil || after > 10*time.Second || !strings.Contains(said, "web2 was asked to, is running, and may still do it: ") || l.state("web2") != "running" {
			t.Errorf("%v: %v after %v:\n%s", args, err, after, said)
		}
	}
	l.vm("remove", "--yes", "--stop", "--stop-time", "0s", "web2")
	l.clean(0)
}

// writes is a boot record that writes to the second disk for ever, 32 KiB of each MiB.
func writes() []byte {
	code := []byte{
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xbe, 0x20, 0x7c, // mov si, 0x7c20: what to write, and where
		0xb2, 0x81, // mov dl, 0x81: the second disk
		0xb8, 0x00, 0x43, // mov ax, 0x4300: write
		0xcd, 0x13, // int 0x13
		0x66, 0x81, 0x44, 0x08, 0x00, 0x08, 0x00, 0x00, // add dword [si+8], 2048
		0xeb, 0xef, // jmp, back to mov dl
	}
	record := make([]byte, 512)
	copy(record, code)
	copy(record[0x20:], []byte{16, 0, 64, 0, 0, 0x7c, 0, 0}) // 64 sectors, from 0x7c00
	record[510], record[511] = 0x55, 0xaa
	return record
}

func TestACreateThatIsInterruptedBeforeItsFirstStepSaysThatNothingWasMade(t *testing.T) {
	l := newLab(t)
	const settings = "/etc/default/ganeti-instance-debootstrap"
	text, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	l.write(settings, string(text)+": >/srv/reading\nsleep 30\n")
	defer os.Remove("/srv/reading")
	cmd := exec.Command(program, append([]string{"vm"}, append(small(), "web1")...)...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); l.try("stat", "/srv/reading") == "" && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	cmd.Process.Signal(syscall.SIGINT)
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 130 || !strings.HasSuffix(strings.TrimSpace(said.String()), "interrupted by SIGINT: nothing was made") {
		t.Errorf("exit status %d, and it says:\n%s", status, said.String())
	}
	l.clean(0)
}

func TestARemovalThatIsInterruptedAtItsBeginningSaysSo(t *testing.T) {
	l := newLab(t)
	l.tool("virsh", "-q", "vol-create-as", "default", "web2-root", "1M", "--format", "raw")
	l.domain("web2", pool+"/web2-root")
	t.Run("slow", func(t *testing.T) {
		l := lab{t}
		l.losing(`[ -e /srv/calling ] || { : >/srv/calling; sleep 2; }
exec "$real" "$@"
`)
		defer os.Remove("/srv/calling")
		cmd := exec.Command(program, "vm", "remove", "--yes", "web2")
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); l.try("stat", "/srv/calling") == "" && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
		}
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if status := cmd.ProcessState.ExitCode(); status != 143 || !strings.HasSuffix(strings.TrimSpace(said.String()), "interrupted by SIGTERM") {
			t.Errorf("exit status %d, and it says:\n%s", status, said.String())
		}
	})
	l.vm("remove", "--yes", "web2")
	l.clean(0)
}
