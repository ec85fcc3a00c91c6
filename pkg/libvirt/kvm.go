package libvirt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"instance-debootstrap/pkg/command"
)

// emulators are QEMU's programs, by libvirt's names of architectures.
var emulators = map[string]string{"x86_64": "qemu-system-x86_64", "i686": "qemu-system-x86_64"}

// Emulator returns the QEMU of an architecture, or why there is none.
func Emulator(arch string) (string, error) {
	name, ok := emulators[arch]
	if !ok {
		return "", fmt.Errorf("architecture %s: only x86_64 and i686 are known", arch)
	}
	return command.Look(name)
}

// probeTime is what a machine that only stops itself may take.
const probeTime = 15 * time.Second

// KVMWorks tells whether KVM runs a guest here, and why it doesn't. That
// /dev/kvm is there proves nothing (in a virtual machine without nesting, say):
// a guest is started, whose boot record asks the machine to end with a status of
// its own. dir takes the record meanwhile.
func KVMWorks(ctx context.Context, dir string) (works bool, why string) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return false, "there is no /dev/kvm"
	}
	qemu, err := Emulator("x86_64")
	if err != nil {
		return false, err.Error()
	}
	// mov al, 0x2a; out 0xf4, al; hlt; jmp $-1, and the signature.
	record := make([]byte, 512)
	copy(record, []byte{0xb0, 0x2a, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd})
	record[510], record[511] = 0x55, 0xaa
	disk := filepath.Join(dir, "kvm-probe.img")
	defer os.Remove(disk)
	if err := os.WriteFile(disk, record, 0o600); err != nil {
		return false, err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	err = command.Run(ctx, command.Cmd{Quiet: true, Group: true, Args: []string{
		qemu, "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=0x01", "-drive", "file=" + disk + ",format=raw,if=ide,readonly=off",
	}})
	// isa-debug-exit ends QEMU with twice the value, plus 1.
	if command.ExitStatus(err) == 2*0x2a+1 {
		return true, ""
	}
	if ctx.Err() != nil {
		return false, fmt.Sprintf("a guest that was to end at once still ran after %v", probeTime)
	}
	return false, fmt.Sprintf("a guest did not start: %v", err)
}
