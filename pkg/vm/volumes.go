package vm

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/tell"
)

// Which of a domain's disks is what. The domain's metadata say which volumes were
// made for it, and libvirt, which images a disk consists of: a snapshot puts an image
// over the volume, and a domain can be renamed. Guests that were made before the
// metadata said so are known by their disks' serial numbers, and those of the script
// of 2009 by their volumes' names.

// roles are the suffixes of volumes' names, and what the volumes are for.
var roles = map[string]string{"-boot": "boot", "-root": "root", "-swap": "swap", "": "root"}

// Roles lists what the guest's volumes are for, in its order.
func (f *VM) Roles() []string {
	order := []string{"boot", "root", "swap"}
	more := slices.Sorted(maps.Keys(f.Disks))
	return slices.DeleteFunc(append(order, slices.DeleteFunc(more, func(role string) bool { return slices.Contains(order, role) })...),
		func(role string) bool { _, has := f.Disks[role]; return !has })
}

// findDisks sorts the domain's disks: into its own volumes, what is over them, and
// the others.
func (f *VM) findDisks(ctx context.Context) error {
	snapshots, err := f.virsh.Snapshots(ctx, f.Domain.UUID)
	if err != nil {
		return err
	}
	made := f.Known.Volumes
	if f.Known.UUID != f.Domain.UUID { // a clone, which took the metadata along
		made = nil
	}
	var paths []string
	for _, disk := range f.Domain.Devices.Disks {
		if disk.Device == "disk" {
			more, err := f.addDisk(ctx, disk, snapshots, made)
			if err != nil {
				return err
			}
			paths = append(paths, more...)
		}
	}
	isNone := func(path string) bool {
		return path != "" && !slices.ContainsFunc(paths, func(p string) bool { return isSameDisk(p, path) })
	}
	for _, vol := range made {
		if isNone(vol.Path) {
			f.beside = append(f.beside, vol.Path)
		}
	}
	for _, s := range snapshots {
		for _, path := range s.Files() {
			if isNone(path) && !slices.Contains(f.beside, path) {
				f.beside = append(f.beside, path)
			}
		}
	}
	return nil
}

// addDisk sorts one of the domain's disks, and returns the paths that it consists of.
func (f *VM) addDisk(ctx context.Context, disk libvirt.Disk, snapshots []libvirt.Snapshot, made []libvirt.GuestVolume) (paths []string, err error) {
	if disk.Driver != nil && disk.Driver.Type != "raw" {
		f.refresh(ctx) // snapshots aren't made by the pool
	}
	chain, err := f.virsh.Chain(ctx, disk, snapshots)
	if err != nil {
		return nil, err
	}
	for _, image := range chain {
		paths = append(paths, image.Path)
	}
	role, at := f.roleOf(disk, chain, made)
	if _, taken := f.Disks[role]; role == "" || taken {
		f.Others = append(f.Others, paths...)
		return paths, nil
	}
	// A volume that is gone keeps its place: remove can be repeated.
	path := chain[at].Path
	pool, err := f.poolOf(ctx, path)
	if err != nil {
		return nil, err
	}
	over := chain[:at]
	if chain[at].Format != "raw" {
		over = chain[:at+1]
	}
	f.Disks[role] = Disk{volumeAt(path), pool, disk.Target.Dev, over}
	f.Others = append(f.Others, paths[at+1:]...)
	return paths, nil
}

// roleOf says what a disk is for, and which image of it is the guest's volume; "" is
// none of the guest's.
func (f *VM) roleOf(disk libvirt.Disk, chain []libvirt.Image, made []libvirt.GuestVolume) (role string, at int) {
	for i, image := range chain {
		for _, vol := range made {
			if isSameDisk(image.Path, vol.Path) {
				return vol.Role, i
			}
		}
	}
	for i, image := range chain {
		name := image.Path[strings.LastIndexByte(image.Path, '/')+1:]
		if suffix, named := strings.CutPrefix(name, f.Name); named && len(made) == 0 && roles[suffix] != "" {
			return roles[suffix], i
		}
	}
	is := func(role string) bool { return role == disk.Serial }
	known := slices.ContainsFunc(slices.Collect(maps.Values(roles)), is) || slices.ContainsFunc(f.Known.Volumes, func(v libvirt.GuestVolume) bool { return is(v.Role) })
	if f.Ours && known {
		return disk.Serial, 0
	}
	return "", 0
}

// volumeAt is the volume of a path, as large as its file or device is; one that is gone
// has no size.
func volumeAt(path string) libvirt.Volume {
	vol := libvirt.Volume{Name: filepath.Base(path), Path: path}
	vol.SizeBytes, vol.IsFile, _ = blockdev.Size(path)
	return vol
}

// poolOf finds the pool of the volume at a path, which may not know it yet; "" is that no
// active one has it.
func (f *VM) poolOf(ctx context.Context, path string) (string, error) {
	pool, err := f.virsh.PoolOf(ctx, path)
	if err != nil || pool != "" || f.refreshed {
		return pool, err
	}
	f.refresh(ctx)
	return f.virsh.PoolOf(ctx, path)
}

// refresh has libvirt read all pools anew, once. One that can't be read stays as it is.
func (f *VM) refresh(ctx context.Context) {
	if f.refreshed {
		return
	}
	f.refreshed = true
	pools, err := f.virsh.Pools(ctx)
	if err != nil {
		tell.Info(ctx, "libvirt's pools: %v", err)
	}
	for _, p := range pools {
		if err := f.virsh.Refresh(ctx, p.Name); err != nil {
			tell.Info(ctx, "pool %s: %v", p.Name, err)
		}
	}
}

// isSameDisk reports whether two paths lead to one disk: a volume of LVM has several.
func isSameDisk(a, b string) bool {
	if a == b {
		return true
	}
	one, err := blockdev.Key(a)
	two, err2 := blockdev.Key(b)
	return err == nil && err2 == nil && one == two
}

// rootDisk is the volume of the guest's root.
func (f *VM) rootDisk() (Disk, error) {
	d, ok := f.Disks["root"]
	if !ok {
		return d, fmt.Errorf("which disk of the guest %s is its root is not known: it was not made here, and none is named %s or %s-root", f.Name, f.Name, f.Name)
	}
	return d, nil
}

// mustBeWhole refuses a guest whose data are not on its volumes alone, but also on
// what a snapshot has put over them.
func (f *VM) mustBeWhole(wanted ...string) error {
	for _, role := range wanted {
		d := f.Disks[role]
		if len(d.over) == 0 {
			continue
		}
		if last := d.over[len(d.over)-1]; last.Path == d.Path {
			return fmt.Errorf("the guest %s's disk %s, %s, is of format %s, and only raw ones are read here: shut it down, convert it (qemu-img convert -O raw %s FILE) and put FILE in its place (virsh edit %s)",
				f.Name, d.target, d.Path, last.Format, d.Path, f.forVirsh())
		}
		begin := ""
		if !f.Running() {
			begin = "virsh start " + f.forVirsh() + "; "
		}
		return fmt.Errorf("the guest %s writes its disk %s to %s, a snapshot over the volume %s: merge it while the guest runs, and then drop the snapshots (%svirsh blockcommit %s %s --active --pivot --wait; virsh snapshot-delete %s NAME --metadata, of virsh snapshot-list %s --name)",
			f.Name, d.target, d.over[0].Path, d.Name, begin, f.forVirsh(), d.target, f.forVirsh(), f.forVirsh())
	}
	return nil
}

// otherDomains are all domains but one.
func otherDomains(ctx context.Context, virsh libvirt.Virsh, uuid string) (others []libvirt.Domain, err error) {
	list, err := virsh.Domains(ctx)
	for _, id := range list {
		d, err := virsh.Domain(ctx, id.UUID)
		if err != nil && virsh.IsGone(ctx, id.UUID) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if d.UUID != uuid {
			others = append(others, d)
		}
	}
	return others, err
}

// usersOf names the domains, other than that of the UUID, that have one of the paths as a
// disk, or below one.
func usersOf(ctx context.Context, virsh libvirt.Virsh, uuid string, paths []string) (users map[string]string, err error) {
	others, err := otherDomains(ctx, virsh, uuid)
	users = map[string]string{}
	for _, d := range others {
		disks := d.Devices.Disks
		now, err := virsh.LiveDomain(ctx, d.UUID) // a disk may have been attached to it as it runs
		if err != nil && virsh.IsGone(ctx, d.UUID) {
			continue
		}
		if err != nil {
			return nil, err
		}
		disks = append(disks, now.Devices.Disks...)
		snapshots, err := virsh.Snapshots(ctx, d.UUID)
		if err != nil && !virsh.IsGone(ctx, d.UUID) {
			return nil, err
		}
		for _, disk := range disks {
			chain, err := virsh.Chain(ctx, disk, snapshots)
			if err != nil {
				return nil, err
			}
			for _, image := range chain {
				for _, path := range paths {
					if isSameDisk(path, image.Path) {
						users[path] = d.Name
					}
				}
			}
		}
	}
	return users, err
}

// Goes lists the paths that are removed with the guest, what others are overlays of first:
// what was interrupted is found again by what is over it.
func (f *VM) Goes() (paths []string) {
	for _, role := range f.Roles() {
		d := f.Disks[role]
		paths = append(paths, d.Path)
		for _, image := range slices.Backward(d.over) {
			if image.Path != d.Path {
				paths = append(paths, image.Path)
			}
		}
	}
	for _, path := range f.beside {
		if _, err := os.Lstat(path); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}
