package debootstrap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/pattern"
)

// bus is how the hypervisor gives the instance its root disk: by what Ganeti says of
// that disk, else by the hypervisor's parameter.
func (j *Job) bus() string {
	hv := maps.Clone(j.Request.HV)
	if disks := j.Request.Disks; len(disks) > 0 && disks[0].FrontendType != "" {
		if hv == nil {
			hv = map[string]string{}
		}
		hv["disk_type"] = disks[0].FrontendType
	}
	return boot.InstanceBus(j.Request.Hypervisor, hv)
}

// checkNICs refuses a guest whose kernel has no driver for a network interface of the
// instance's. What an admin's own tree lacks is a warning.
func (j *Job) checkNICs(ctx context.Context, root *guest.Root) error {
	kernels, err := boot.Kernels(root)
	if err != nil || len(kernels) == 0 {
		return err
	}
	kernel := kernels[0] // which it boots
	var faults []error
	for _, n := range j.Request.NICs {
		frontend := cmp.Or(n.FrontendType, j.Request.HV["nic_type"])
		lacks, err := boot.LacksDriver(root, kernel.Version, boot.NICDrivers(j.Request.Hypervisor, frontend))
		if lacks != "" {
			err = fmt.Errorf("the kernel %s has no driver for NIC %d, of type %s (%s): KERNEL_PKG=auto is the kernel for all machines, or change the hypervisor parameter nic_type",
				pattern.Plain(kernel.Version), n.Index, frontend, lacks)
		}
		faults = append(faults, err)
	}
	err = errors.Join(faults...)
	if err != nil && j.tree != nil && (j.tree.Key == "" || j.tree.Source == cache.SourceEdited) {
		warn(ctx, "%s was not made here: %v", j.tree.Path, err)
		return nil
	}
	return err
}
