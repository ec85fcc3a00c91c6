// Package qemu boots a disk in a throw-away virtual machine and listens to its
// serial port.
//
// What runs in the machine is hostile. It has no network; QEMU is nobody in a
// network namespace of its own, filters its own system calls (-sandbox), and has
// the disk as an open descriptor that can't be written to. What the guest writes
// goes to an unnamed file on a tmpfs of bounded size, and of what it says the last
// part is kept.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
)

const nobody = "65534"

// overlayBytes bounds what a guest may write before writes fail: a boot to the
// login prompt writes some 50 MiB.
const overlayBytes = 512 << 20

// Machine boots a disk and leaves it as it is.
type Machine struct {
	Arch      string   // Debian's name of the guest's architecture; "" is amd64
	Firmware  string   // one of Firmwares
	Disk      *os.File // the raw disk, open for reading; nil is none
	IsFile    bool     // it is a file, not a block device
	MemoryMiB int
	KVM       bool   // else the processor is emulated
	WorkDir   string // a folder of this run's, for the mount point of what the guest writes
}

// Check says what the node lacks for machines of an architecture with the firmwares, by
// package.
func Check(arch string, firmwares []string) error {
	var errs []error
	m := modelOf(arch)
	if _, err := command.Look(m.program); err != nil {
		errs = append(errs, fmt.Errorf("%w: install the package %s", err, m.pkg))
	}
	for _, tool := range []string{"unshare", "prlimit", "setpriv"} {
		if _, err := command.Look(tool); err != nil {
			errs = append(errs, fmt.Errorf("%w: install the package util-linux", err))
		}
	}
	for _, name := range firmwares {
		_, err := m.find(name)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// errFound ends a machine whose console has said what was waited for.
var errFound = errors.New("the marker was found")

// Boot starts the machine and waits until its console says what it waits for. The
// machine is ended then. The error says why it did not come to that: the guest
// gave up, or ended, or ctx did.
func (m Machine) Boot(ctx context.Context, c *Console) error {
	args, err := m.args()
	if err != nil {
		return err
	}
	dir := filepath.Join(m.WorkDir, "overlay")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer os.Remove(dir)
	options := fmt.Sprintf("mode=0700,uid=%s,gid=%s,size=%d", nobody, nobody, overlayBytes)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.begin(cancel)
	run := command.Cmd{Args: m.confined(args), Env: []string{"TMPDIR=" + dir}, Stdout: c, Quiet: true}
	if m.Disk != nil {
		run.Files = []*os.File{m.Disk}
	}
	err = command.Run(ctx, run)
	c.flush()
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errFound):
		return nil
	case cause != nil:
		return cause
	case err != nil:
		return err
	}
	return errors.New("the machine switched itself off, or was restarted by the guest")
}

// confined puts what takes QEMU's rights away before its arguments. /dev/kvm is
// its group's.
func (m Machine) confined(args []string) []string {
	groups := "--clear-groups"
	var st unix.Stat_t
	if m.KVM && unix.Stat(kvmDevice, &st) == nil {
		groups = "--groups=" + strconv.Itoa(int(st.Gid))
	}
	return append([]string{
		"unshare", "--net", "--",
		"prlimit", "--core=0", fmt.Sprintf("--fsize=%d", overlayBytes), "--",
		"setpriv", "--reuid=" + nobody, "--regid=" + nobody, groups, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--",
	}, args...)
}

// diskFD is the disk's descriptor in QEMU: the first of command.Cmd's Files.
const diskFD = 3

func (m Machine) args() ([]string, error) {
	model := modelOf(m.Arch)
	firmware, err := model.find(m.Firmware)
	if err != nil {
		return nil, err
	}
	accel, cpu := "tcg", model.cpu
	if m.KVM {
		accel, cpu = "kvm", "host"
	}
	args := []string{
		model.program, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		// Without graphics SeaBIOS talks to the serial port.
		"-machine", firmware.machine + ",graphics=off,accel=" + accel, "-cpu", cpu, "-smp", "1", "-m", strconv.Itoa(m.MemoryMiB),
		"-nic", "none", "-device", "virtio-rng-pci",
	}
	args = append(args, model.video...)
	args = append(args, firmware.args()...)
	if m.Disk == nil {
		return args, nil
	}
	driver := "host_device"
	if m.IsFile {
		driver = "file"
	}
	return append(args, "-add-fd", fmt.Sprintf("fd=%d,set=1", diskFD),
		"-drive", "if=virtio,format=raw,snapshot=on,cache=unsafe,werror=report,file.driver="+driver+",file.filename=/dev/fdset/1"), nil
}

const kvmDevice = "/dev/kvm"

// kvmProbeTime is how long an empty machine may take under KVM; it takes less
// than two seconds where KVM works.
const kvmProbeTime = 15 * time.Second

// virtualizes says whether processors, as /proc/cpuinfo lists them on amd64, have what KVM
// needs for any kernel: without it a KVM of software, such as PVM, runs a guest's firmware
// and only those kernels that are made for it.
var virtualizes = pattern.New(`(?m)^flags\s*:.* (vmx|svm)( |$)`)

// KVMWorks says whether a machine without a disk comes to the end of its firmware
// under KVM: that the device is there proves nothing on a node that is itself a
// guest. The error is why it doesn't, in an admin's words; what QEMU says of it is
// logged.
func KVMWorks(ctx context.Context, arch, workDir string) error {
	model := modelOf(arch)
	if model.node != runtime.GOARCH {
		return fmt.Errorf("KVM on this node (%s) doesn't run guests of %s", runtime.GOARCH, arch)
	}
	if _, err := os.Stat(kvmDevice); err != nil {
		return fmt.Errorf("the node has no %s: switch virtualization on in its firmware, or on the host that it is a guest of", kvmDevice)
	}
	if cpus, err := os.ReadFile("/proc/cpuinfo"); runtime.GOARCH == "amd64" && (err != nil || !virtualizes().Match(cpus)) {
		return fmt.Errorf("%s is there, but the node's processor can't virtualize (neither vmx nor svm is among its flags in /proc/cpuinfo)", kvmDevice)
	}
	probe, cancel := context.WithTimeoutCause(ctx, kvmProbeTime, fmt.Errorf("an empty machine hangs under KVM for %v", kvmProbeTime))
	defer cancel()
	empty := Machine{Arch: arch, Firmware: model.probe.firmware, MemoryMiB: 128, KVM: true, WorkDir: workDir}
	err := empty.Boot(probe, &Console{Marker: model.probe.marker})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	zerolog.Ctx(ctx).Debug().Msgf("KVM: %v", err)
	return fmt.Errorf("%s is there, but no machine starts with it, as on a node that is a virtual machine itself and may not have guests (--verbose shows more)", kvmDevice)
}
