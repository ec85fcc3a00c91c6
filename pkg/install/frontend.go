package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/tell"
)

// bus is how the hypervisor gives the instance its root disk: by what Ganeti says of
// that disk, else by the hypervisor's parameter.
func (o *Order) bus() string {
	hv := maps.Clone(o.Request.HV)
	if disks := o.Request.Disks; len(disks) > 0 && disks[0].FrontendType != "" {
		if hv == nil {
			hv = map[string]string{}
		}
		hv["disk_type"] = disks[0].FrontendType
	}
	return boot.InstanceBus(o.Request.Hypervisor, hv)
}

// nicDrivers are the modules of which the guest's kernel must have one for a network
// interface, and that one's type.
func (o *Order) nicDrivers(n osapi.NIC) (frontend string, drivers []string) {
	frontend = cmp.Or(n.FrontendType, o.Request.HV["nic_type"])
	return frontend, boot.NICDrivers(o.Request.Hypervisor, frontend)
}

// usualNICs are the drivers that every kernel for virtual machines has.
var usualNICs = []string{"virtio_net", "xen_netfront"}

// checkTreesNICs refuses a tree whose kernel has no driver for a network interface of
// the instance's, before the disk is touched. What an admin's own tree lacks is a
// warning. A tree isn't read through for what all of the distribution's kernels have.
func (o *Order) checkTreesNICs(ctx context.Context, tree *cache.Entry, workDir string) error {
	admins := tree.Key == "" || tree.Source == cache.SourceEdited
	if !slices.ContainsFunc(o.Request.NICs, func(n osapi.NIC) bool {
		_, drivers := o.nicDrivers(n)
		return len(drivers) > 0 && (admins || !slices.Contains(usualNICs, drivers[0]))
	}) {
		return nil
	}
	dir, err := os.MkdirTemp(workDir, "kernel-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := tree.Extract(ctx, dir, kernelFile); err != nil {
		return fmt.Errorf("look for the kernel in %s: %w", tree.Path, err)
	}
	err = guest.Edit(ctx, dir, o.checkNICs)
	if err != nil && admins {
		tell.Warn(ctx, "%s was not made here: %v", tree.Path, err)
		return nil
	}
	return err
}

// kernelFile tells where checkNICs looks for a file of a tree, "" is that it doesn't,
// and whether it reads it.
func kernelFile(name string) (path string, read bool) {
	dir, base := filepath.Split(strings.TrimPrefix(name, "usr/"))
	switch {
	case dir == "boot/" && (strings.HasPrefix(base, "vmlinu") || strings.HasPrefix(base, "initrd.img-")):
		return dir + base, false
	case strings.HasPrefix(dir, "lib/modules/") && (base == "modules.dep" || base == "modules.builtin"):
		return dir + base, true
	}
	return "", false
}

// checkNICs refuses a guest whose kernel has no driver for a network interface of the
// instance's.
func (o *Order) checkNICs(root *guest.Root) error {
	kernels, err := boot.Kernels(root)
	if err != nil || len(kernels) == 0 {
		return err
	}
	kernel := kernels[0] // which it boots
	var faults []error
	for _, n := range o.Request.NICs {
		frontend, drivers := o.nicDrivers(n)
		lacks, err := boot.LacksDriver(root, kernel.Version, drivers)
		if lacks != "" {
			err = fmt.Errorf("the kernel %s has no driver for NIC %d, of type %s (%s): KERNEL_PKG=auto is the kernel for all machines, or change the hypervisor parameter nic_type",
				pattern.Plain(kernel.Version), n.Index, frontend, lacks)
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}
