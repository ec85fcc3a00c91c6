package vm

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/tell"
)

// checkFigures refuses what this node can't have, and warns of what it can't have
// together with what it has now.
func (v *making) checkFigures(ctx context.Context, kvm bool) error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	memoryKiB := int64(info.Totalram) * int64(info.Unit) >> 10
	if v.MemoryKiB > memoryKiB {
		return fmt.Errorf("memory of %d MiB: the node has %d MiB: give the guest less (--memory)", v.MemoryKiB>>10, memoryKiB>>10)
	}
	most, err := v.Virsh.MaxVCPUs(ctx, v.Arch, kvm)
	switch {
	case err != nil:
		return err
	case v.VCPUs > most:
		return fmt.Errorf("%d virtual CPUs: this QEMU's machines have at most %d", v.VCPUs, most)
	case v.VCPUs > runtime.NumCPU():
		tell.Warn(ctx, "%d virtual CPUs are more than the node has processors (%d): they wait for one another", v.VCPUs, runtime.NumCPU())
	}
	return nil
}

// checkAutostart warns of what the guest needs when the node boots, and that libvirt
// doesn't start by itself. It is the admin's: nothing here changes it.
func (v *making) checkAutostart(ctx context.Context) error {
	if !v.Autostart {
		return nil
	}
	var pools, networks []string
	for _, vol := range v.volumes {
		pools = append(pools, vol.Pool.Name)
	}
	for _, nic := range v.NICs {
		networks = append(networks, nic.Network.Name)
	}
	texts, err := NotStarted(ctx, v.Virsh, pools, networks)
	for _, text := range texts {
		tell.Warn(ctx, "%s", text)
	}
	return err
}

// NotStarted says which of these pools and networks libvirt doesn't start with the node,
// and the command that has it do so. "" is none.
func NotStarted(ctx context.Context, virsh libvirt.Virsh, pools, networks []string) (texts []string, err error) {
	started, err := virsh.AutostartedPools(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(pools))) {
		if name != "" && !slices.Contains(started, name) {
			texts = append(texts, fmt.Sprintf("the pool %s isn't started with the node, and the guest's volumes aren't found then: virsh pool-autostart %s", name, name))
		}
	}
	if started, err = virsh.AutostartedNetworks(ctx); err != nil {
		return nil, err
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(networks))) {
		if name != "" && !slices.Contains(started, name) {
			texts = append(texts, fmt.Sprintf("libvirt's network %s isn't started with the node, and the guest doesn't start then: virsh net-autostart %s", name, name))
		}
	}
	return texts, nil
}

// Networks are the networks of libvirt's that the guest is on.
func (f *VM) Networks() (names []string) {
	for _, nic := range f.Domain.Devices.Interfaces {
		if nic.Source.Network != "" {
			names = append(names, nic.Source.Network)
		}
	}
	return names
}

// OpenScreens names the guests of the script of 2009 whose screen is on a port of the
// node's, as that script left it, with a blank password of root's.
func OpenScreens(ctx context.Context, virsh libvirt.Virsh) (names []string, err error) {
	domains, err := otherDomains(ctx, virsh, "")
	for _, domain := range domains {
		isOld := slices.ContainsFunc(domain.Devices.Disks, func(disk libvirt.Disk) bool { return filepath.Base(disk.Source.Path()) == domain.Name+"-root" })
		if isOld && domain.ScreenHasPort() {
			names = append(names, domain.Name)
		}
	}
	return names, err
}
