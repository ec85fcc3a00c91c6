package doctor

import (
	"context"
	"slices"
	"strings"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/vm"
)

// guests checks that the guests that were made here come back with the node. A node
// without libvirt has none.
func (d *diagnosis) guests(ctx context.Context, virsh libvirt.Virsh) {
	const subject = "guests"
	if virsh.Check(ctx) != nil {
		return
	}
	before := len(d.findings)
	open, err := vm.OpenScreens(ctx, virsh)
	d.fails(subject, Warning, err)
	for _, name := range open {
		d.add(subject, Warning, "%s: its screen is on a port of the node's, which each user here reaches: shut it down, and leave out <graphics> (virsh edit %[1]s), or have <graphics type='vnc'><listen type='socket'/></graphics>", name)
	}
	list, err := vm.List(ctx, virsh)
	if d.fails(subject, Warning, err) || len(list) == 0 {
		return
	}
	started, err := virsh.Autostarted(ctx)
	if d.fails(subject, Warning, err) {
		return
	}
	var off []string
	for _, f := range list {
		if !slices.Contains(started, f.Domain.UUID) {
			off = append(off, f.Name)
			continue
		}
		var pools []string
		for _, disk := range f.Disks {
			pools = append(pools, disk.Pool)
		}
		texts, err := vm.NotStarted(ctx, virsh, pools, f.Networks())
		d.fails(subject, Warning, err)
		for _, text := range texts {
			d.add(subject, Warning, "%s: %s", f.Name, text)
		}
	}
	if len(off) > 0 {
		d.add(subject, OK, "%s: not started with the node (virsh autostart)", strings.Join(off, ", "))
	}
	d.well(before, subject, "%d made here, which come back with the node", len(list))
}
