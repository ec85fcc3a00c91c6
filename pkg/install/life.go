package install

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/tell"
)

// usualBus is the one that every tree with a kernel has to start from.
const usualBus = "virtio"

// unusualBus is the instance's bus where it is another one: its trees are kept
// apart, since only these were looked at for it.
func (c Choice) unusualBus() string {
	if c.Boot.Loader == "" || c.bus() == usualBus {
		return ""
	}
	return c.bus()
}

// checkInitramfs refuses a new tree whose guests would stop in their initramfs. A
// bus that is neither the instance's nor the usual one is a warning.
func (c Choice) checkInitramfs(ctx context.Context, dir string) error {
	lacks, err := c.initramfsLacks(ctx, dir)
	ours := c.Settings.KernelPkg == "auto" || c.Settings.KernelPkg == "cloud" // else it may be one that needs no initramfs
	if errors.Is(err, boot.ErrNoKernel) && !c.mustBoot() && !(ours && errors.Is(err, boot.ErrInitramfs)) {
		return nil // which is told when the guest is made to boot
	}
	var faults []error
	for _, l := range lacks {
		if l.Root == "" && l.Bus != usualBus && l.Bus != c.bus() {
			tell.Warn(ctx, "%v", l)
			continue
		}
		faults = append(faults, c.blameKernel(l))
	}
	return errors.Join(err, errors.Join(faults...))
}

func (c Choice) initramfsLacks(ctx context.Context, dir string) (lacks []boot.Lack, err error) {
	err = guest.Edit(ctx, dir, func(root *guest.Root) (err error) {
		lacks, err = boot.InitramfsLacks(ctx, dir, root, c.fstype(), c.bus())
		return err
	})
	return lacks, err
}

// blameKernel says what to do about a guest that would stop in its initramfs.
func (c Choice) blameKernel(l boot.Lack) error {
	remedy := "KERNEL_PKG=auto is the kernel for all machines"
	if c.Tool.Distribution() == "ubuntu" {
		remedy = "KERNEL_PKG=linux-image-generic is the kernel for all machines"
	}
	switch {
	case l.Carried:
		remedy = "its package is told what to hold in /etc/initramfs-tools or /etc/dracut.conf.d; KERNEL_PKG and EXTRA_PKGS choose other packages"
	case l.Bus != "":
		remedy += ", or change the hypervisor parameter disk_type"
	}
	return fmt.Errorf("%w: %v; %s", boot.ErrInitramfs, l, remedy)
}

// warnOfAdminsInitramfs looks into the initramfs of a guest whose tree is an
// admin's own, or was changed by one: what it lacks is a warning.
func (c Choice) warnOfAdminsInitramfs(ctx context.Context, tree *cache.Entry, target string) error {
	if tree == nil || tree.Key != "" && tree.Source != cache.SourceEdited {
		return nil
	}
	lacks, err := c.initramfsLacks(ctx, target)
	if context.Cause(ctx) != nil {
		return err
	}
	if err != nil && !errors.Is(err, boot.ErrNoKernel) {
		tell.Warn(ctx, "%s was not made here: %v", tree.Path, err)
	}
	for _, l := range lacks {
		if l.Concerns(c.fstype(), c.bus()) {
			tell.Warn(ctx, "%s was not made here: %v", tree.Path, l)
		}
	}
	return nil
}

// blameServices adds to the error of a build that lacks packages what those are there for,
// the guest agent, the guest's services, KERNEL_PKG or EXTRA_PKGS, and how to do without.
func (c Choice) blameServices(err error) error {
	for _, name := range bootstrap.Lacking(err, c.agentPackages()) {
		err = fmt.Errorf("%w; %s is for the guest agent's channel: name an archive that has it (MIRROR, EXTRA_SOURCES); under Ganeti, gnt-instance modify -H use_guest_agent=False does without", err, name)
	}
	if c.Settings.UserData != "" {
		for _, name := range bootstrap.Lacking(err, cloudInitPackages) {
			err = fmt.Errorf("%w; %s is there for USER_DATA: choose a suite that has it, or set FIRST_BOOT instead", err, name)
		}
	}
	for _, name := range bootstrap.Lacking(err, c.Boot.Services) {
		err = fmt.Errorf("%w; %s is there for GUEST_SERVICES, which may name less", err, name)
	}
	for _, name := range bootstrap.Lacking(err, []string{c.Settings.KernelPkg}) {
		err = fmt.Errorf("%w; KERNEL_PKG names %s: correct it, or set auto", err, name)
	}
	remedy := "name what has it in COMPONENTS or EXTRA_SOURCES"
	if c.lacksUniverse() {
		remedy = "add universe to COMPONENTS (main,universe), where most packages are"
	}
	for _, name := range bootstrap.Lacking(err, c.Settings.ExtraPkgs) {
		err = fmt.Errorf("%w; EXTRA_PKGS names %s: correct it, or %s", err, name, remedy)
	}
	return err
}

// lookAtLife tells what the guest will lack while it runs, once the hooks have had
// their say: an answer to the power button, and a password. Xen asks a guest's
// kernel to shut down, and needs no answer of another.
func lookAtLife(ctx context.Context, req *osapi.Request, root *guest.Root, boots bool) {
	hypervisor, hv := req.Hypervisor, req.HV
	if boots && (hypervisor == "" || hypervisor == "kvm") && !guest.AnswersPowerButton(root) {
		tell.Warn(ctx, "nothing in the guest answers its power button, so its hypervisor can only kill it: leave power in GUEST_SERVICES, or install dbus (systemd) or acpid in it")
	}
	blank, err := guest.RootIsOpen(root)
	if err != nil {
		tell.Warn(ctx, "whether root has a password is not known: %v", err)
	}
	if !blank {
		return
	}
	tell.Info(ctx, "root has no password: anybody who reaches the guest's console is root (ROOT_PASSWORD=locked, or a hash, changes that)")
	for display, password := range map[string]string{"vnc_bind_address": "vnc_password_file", "spice_bind": "spice_password_file"} {
		if at := hv[display]; reachesFurther(at) && (hv[password] == "" || hv[password] == "None") {
			tell.Warn(ctx, "root has no password, and %s=%s shows the guest's console to the network: give root one (ROOT_PASSWORD), set %s, or bind it to 127.0.0.1", display, at, password)
		}
	}
}

// reachesFurther tells whether a display that is bound there is seen beyond the
// node: anything but the loopback, a socket's path and nothing at all.
func reachesFurther(bind string) bool {
	if bind == "" || bind == "None" || bind == "lo" || bind == "localhost" || strings.HasPrefix(bind, "/") {
		return false
	}
	address, err := netip.ParseAddr(bind)
	return err != nil || !address.IsLoopback()
}
