package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/guest"
)

// bus is how the hypervisor gives the instance its disks.
func (j *Job) bus() string { return boot.InstanceBus(j.Request.Hypervisor, j.Request.HV) }

// usualBus is the one that every tree with a kernel has to start from.
const usualBus = "virtio"

// checkInitramfs refuses a new tree whose guests would stop in their initramfs. A
// bus that is neither the instance's nor the usual one is only missed.
func (j *Job) checkInitramfs(ctx context.Context, dir string) error {
	lacks, err := j.initramfsLacks(ctx, dir)
	var faults []error
	for _, l := range lacks {
		if l.Root != "" || l.Bus == j.bus() || l.Bus == usualBus {
			faults = append(faults, j.blameKernel(l))
			continue
		}
		warn(ctx, "%v", l)
	}
	return errors.Join(err, errors.Join(faults...))
}

func (j *Job) initramfsLacks(ctx context.Context, dir string) (lacks []boot.Lack, err error) {
	root, err := guest.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	lacks, err = boot.InitramfsLacks(ctx, dir, root, j.fstype(), j.bus())
	return lacks, errors.Join(err, root.Close())
}

// blameKernel says what to do about a guest that would stop in its initramfs.
func (j *Job) blameKernel(l boot.Lack) error {
	remedy := "set KERNEL_PKG to another kernel (auto is the one for all machines)"
	switch {
	case l.Carried:
		remedy = "take another kernel or initramfs package (KERNEL_PKG, EXTRA_PKGS)"
	case l.Bus != "":
		remedy += ", or change the hypervisor parameter disk_type"
	}
	return fmt.Errorf("%w: %v; %s", boot.ErrInitramfs, l, remedy)
}

// looksAtInitramfs tells whether the guest's initramfs has to be looked at again:
// a tree that was built here holds all roots and the usual bus.
func (j *Job) looksAtInitramfs() bool {
	return j.bus() != "" && j.bus() != usualBus || j.treeIsAdmins()
}

// treeIsAdmins tells whether the tree is an admin's own, or one of ours that an
// admin has changed.
func (j *Job) treeIsAdmins() bool {
	return j.tree != nil && (j.tree.Key == "" || j.tree.Source == cache.SourceEdited)
}

// checkGuestsInitramfs looks at the initramfs of a finished guest, of which a
// cached tree was built for an instance with another bus. An admin's own tree is
// only warned of.
func (j *Job) checkGuestsInitramfs(ctx context.Context) error {
	if !j.looksAtInitramfs() {
		return nil
	}
	lacks, err := j.initramfsLacks(ctx, j.target)
	if err != nil {
		warn(ctx, "whether the guest's initramfs has what it starts from is not known: %v", err)
	}
	var faults []error
	for _, l := range lacks {
		switch {
		case l.Root != string(j.fstype()) && l.Bus != j.bus():
		case j.treeIsAdmins():
			warn(ctx, "%v: %s was not made here", l, j.tree.Path)
		default:
			faults = append(faults, j.blameKernel(l))
		}
	}
	return errors.Join(faults...)
}

// lookAtLife tells what the guest will lack while it runs, once the hooks have had
// their say: somebody who hears its hypervisor's wish, and a password.
func (j *Job) lookAtLife(ctx context.Context, root *guest.Root) error {
	if j.boot.made != "" && !guest.AnswersPowerButton(root) {
		warn(ctx, "nothing in the guest answers its power button, so its hypervisor can only kill it: leave power in GUEST_SERVICES, or install dbus (systemd) or acpid in it")
	}
	blank, err := guest.RootIsOpen(root)
	if err != nil || !blank {
		return err
	}
	info(ctx, "root has no password: who reaches the guest's console is root (ROOT_PASSWORD=locked, or a hash, changes that)")
	for _, display := range []string{"vnc_bind_address", "spice_bind"} {
		if at := j.Request.HV[display]; reachesFurther(at) {
			warn(ctx, "root has no password, and %s=%s shows the guest's console to the network: give root one (ROOT_PASSWORD), or bind it to 127.0.0.1", display, at)
		}
	}
	return nil
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
