//go:build root

package root

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// grubsWord is what GRUB says when it comes to the kernel of grubTree.
const grubsWord = "premature end of file /boot/vmlinuz-6.1.0-9-amd64"

// bootTest runs boot-test on the lab's disk and returns what it printed. The disk
// must stay as it was.
func (l *lab) bootTest(options ...string) (stdout, stderr string, exit int) {
	l.Helper()
	before := l.tool("sha256sum", l.disk)
	cmd := exec.Command(program, append(append([]string{"boot-test"}, options...), l.disk)...)
	var out, messages strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &messages
	cmd.Run()
	if after := l.tool("sha256sum", l.disk); after != before {
		l.Errorf("boot-test changed the disk")
	}
	l.clean(0)
	return out.String(), messages.String(), cmd.ProcessState.ExitCode()
}

func TestBootTestSeesTheGuestOnACopyOfItsDisk(t *testing.T) {
	l := newLab(t, 600)
	l.grubTree()
	l.env["OSP_FIRMWARE"] = "bios"
	l.create()
	stdout, stderr, exit := l.bootTest("--marker", grubsWord, "--timeout", "90s", "--console")
	if exit != 0 || !strings.Contains(stdout, grubsWord[:20]) && !strings.Contains(stdout, "Booting") || !strings.Contains(stderr, "boots\n") {
		t.Errorf("exit status %d\n%s\n%s", exit, stdout, stderr)
	}
	stdout, stderr, exit = l.bootTest("--marker", "never said", "--timeout", "20s")
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if exit != 1 || stdout != "" || !strings.Contains(stderr, "console: error: premature end of file") || !strings.Contains(lines[len(lines)-1], `"never said" did not come`) {
		t.Errorf("exit status %d, %q\n%s", exit, stdout, stderr)
	}
}

func TestBootTestRefusesWhatItCannotTest(t *testing.T) {
	l := newLab(t, 600)
	for want, options := range map[string][]string{
		"no boot loader":                             nil,
		`--firmware "coreboot"`:                      {"--firmware", "coreboot"},
		"--memory 1: MiB":                            {"--memory", "1"},
		"more than nothing":                          {"--timeout", "0s"},
		"UEFI has nothing to start: --firmware bios": {"--firmware", "uefi"},
	} {
		_, stderr, exit := l.bootTest(options...)
		if exit == 0 || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit status %d, without %q:\n%s", options, exit, want, stderr)
		}
	}
	out, err := exec.Command("unshare", "-m", "sh", "-c", `mount -t tmpfs none /usr/share/OVMF && exec "$0" boot-test --firmware uefi "$1"`, program, l.disk).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "install the package ovmf") {
		t.Errorf("%v, without the firmware's files:\n%s", err, out)
	}
}

func TestBootTestNamesThePackageThatIsMissing(t *testing.T) {
	l := newLab(t, 100)
	for want, hidden := range map[string]string{"install the package ovmf": "/usr/share/OVMF", "install the package qemu-system-x86": "/usr/bin"} {
		// In a mount namespace of its own: others boot guests on this machine.
		script := `mount --bind "$1" "$2" && exec "$3" boot-test --firmware uefi "$4"`
		out, err := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", l.TempDir(), hidden, program, l.disk).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%v, without %q:\n%s", err, want, out)
		}
	}
}

func TestBootTestEndsWhenTheGuestGivesUp(t *testing.T) {
	l := newLab(t, 600)
	if _, stderr, exit := l.bootTest("--firmware", "bios", "--timeout", "60s"); exit != 1 || !strings.Contains(stderr, `gave up: "No bootable device"`) {
		t.Errorf("exit status %d\n%s", exit, stderr)
	}
}

func TestBootTestIsRefusedOnADiskThatARunningGuestHas(t *testing.T) {
	l := newLab(t, 100)
	qemu := exec.Command("qemu-system-x86_64", "-S", "-accel", "tcg", "-display", "none", "-nodefaults", "-drive", "format=raw,if=virtio,file="+l.disk)
	must(t, qemu.Start())
	defer func() { qemu.Process.Kill(); qemu.Wait() }()
	time.Sleep(2 * time.Second)
	if _, stderr, exit := l.bootTest("--firmware", "bios"); exit != 1 || !strings.Contains(stderr, "in use") {
		t.Errorf("exit status %d\n%s", exit, stderr)
	}
}

func TestABootTestThatIsKilledLeavesNothing(t *testing.T) {
	l := newLab(t, 600)
	for _, after := range []time.Duration{100 * time.Millisecond, 700 * time.Millisecond, 18 * time.Second} {
		cmd := exec.Command(program, "boot-test", "--firmware", "bios", "--memory", "613", "--marker", "never said", l.disk)
		must(t, cmd.Start())
		time.Sleep(after)
		cmd.Process.Signal(syscall.SIGKILL)
		cmd.Wait()
		l.clean(5 * time.Second)
		if out, _ := exec.Command("pgrep", "-f", "qemu-system-x86_64.* -m 613 ").Output(); len(out) > 0 {
			t.Errorf("killed after %v: QEMU goes on: %s", after, out)
		}
	}
}

func TestCreateFailsWhenTheGuestDoesNotBoot(t *testing.T) {
	l := newLab(t, 600)
	l.grubTree() // whose kernel is none
	l.env["OSP_BOOT_TEST"], l.env["OSP_FIRMWARE"] = "yes", "bios"
	l.hook("50-short", `echo 'echo "(initramfs) "' >>"$TARGET/boot/own.cfg"
mkdir -p "$TARGET/boot/grub"
printf 'serial --unit=0\nterminal_output serial\nmenuentry x {\nlinux /boot/none\n}\necho "(initramfs) "\nsleep 5\n' >"$TARGET/boot/grub/grub.cfg"`)
	log := l.fails("does not boot with firmware bios: the guest gave up")
	if !strings.Contains(log, "console: (initramfs)") {
		t.Error(log)
	}
}

func TestABootTestThatCannotBeIsRefusedBeforeTheDiskIsTouched(t *testing.T) {
	l := newLab(t, 600)
	l.grubTree()
	l.env["OSP_BOOT_TEST"], l.env["OSP_FIRMWARE"] = "yes", "bios"
	l.env["INSTANCE_HV_serial_console"] = "False"
	l.fails("set the hypervisor parameter serial_console")
	l.untouched()
	l.env["INSTANCE_HV_serial_console"], l.env["INSTANCE_HV_kernel_path"] = "True", "/boot/vmlinuz-3-kvmU"
	if log := l.create(); strings.Contains(log, "console:") {
		t.Errorf("a guest that boots with the node's kernel was booted:\n%s", log)
	}
}
