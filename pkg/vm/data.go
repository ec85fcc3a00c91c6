package vm

import (
	"context"
	"fmt"
	"math"
	"strings"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/tell"
)

// The layouts of a virtual machine's volumes.
const (
	// LayoutThree is GUEST-boot, an msdos table with one partition for /boot, and
	// GUEST-root and GUEST-swap, which have no table: each can be grown and checked
	// from the node.
	LayoutThree = "boot+root+swap"
	// LayoutSingle is one volume, GUEST, with a table. Any other name is a file of LAYOUT's,
	// by which that one volume is partitioned.
	LayoutSingle = "single"
)

// MinBootBytes is the least that a /boot of its own needs: two kernels with their
// initramfs.
const MinBootBytes int64 = 512 << 20

// MinRootBytes is the least that a root's volume has.
const MinRootBytes = partition.MinDiskBytes

// Storage is what the guest's disks are to be.
type Storage struct {
	Pool                            libvirt.Pool
	Layout                          string
	BootBytes, RootBytes, SwapBytes int64 // no boot and no swap but with LayoutThree
	Data                            []DataVolume
}

// DataVolume is a further disk of a new guest.
type DataVolume struct {
	Pool      libvirt.Pool
	SizeBytes int64
	Folder    string // where the guest mounts it; "" leaves it blank
}

// MaxDataVolumes is how many a guest can have: the last one is /dev/vdz.
const MaxDataVolumes = 23

// Volume is one of the volumes that a new guest gets.
type Volume struct {
	libvirt.Volume
	Pool libvirt.Pool
	// Role is what it is for: boot, root, swap, data1, … It is also its serial number.
	Role   string
	Folder string // where the guest mounts it, of data
}

// Volumes are those that a guest of this name gets, in its order.
func (s Storage) Volumes(guest string) (list []Volume) {
	add := func(pool libvirt.Pool, suffix, role string, sizeBytes int64, folder string) {
		name := guest + suffix
		at := libvirt.Volume{Name: name, SizeBytes: sizeBytes, Path: strings.TrimRight(pool.Path, "/") + "/" + name}
		list = append(list, Volume{at, pool, role, folder})
	}
	if s.Layout != LayoutThree {
		add(s.Pool, "", "root", s.RootBytes, "")
	} else {
		add(s.Pool, "-boot", "boot", s.BootBytes, "")
		add(s.Pool, "-root", "root", s.RootBytes, "")
		add(s.Pool, "-swap", "swap", s.SwapBytes, "")
	}
	for i, d := range s.Data {
		role := fmt.Sprintf("data%d", i+1)
		add(d.Pool, "-"+role, role, d.SizeBytes, d.Folder)
	}
	return list
}

func (s Storage) describeVolumes(guest string) string {
	var parts []string
	for _, p := range s.Volumes(guest) {
		text := fmt.Sprintf("%s (%d MiB)", p.Name, p.SizeBytes>>20)
		if p.Pool.Name != s.Pool.Name {
			text += " in pool " + p.Pool.Name
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ") + " in pool " + s.Pool.Name
}

// checkRoom refuses volumes that their pools have no room for.
func checkRoom(ctx context.Context, volumes []Volume) error {
	needed, pools := map[string]int64{}, map[string]libvirt.Pool{}
	for _, p := range volumes {
		needed[p.Pool.Name] += min(p.SizeBytes, math.MaxInt64-needed[p.Pool.Name])
		pools[p.Pool.Name] = p.Pool
	}
	for name, bytes := range needed {
		if err := hasRoom(ctx, pools[name], bytes, bytes); err != nil {
			return fmt.Errorf("%w: give smaller sizes, or another --pool", err)
		}
	}
	return nil
}

// hasRoom refuses volumes of bytes in all, of which more are new, that a pool of LVM,
// which allocates them whole, has no room for, or that are larger than a pool of files, and
// warns of those that may grow beyond what is free in one.
func hasRoom(ctx context.Context, pool libvirt.Pool, bytes, more int64) error {
	switch {
	case pool.Type == "logical" && more > pool.FreeBytes:
		return fmt.Errorf("pool %s has %d MiB free, and %d MiB are needed", pool.Name, pool.FreeBytes>>20, more>>20)
	case pool.Type != "logical" && bytes > pool.CapacityBytes:
		return fmt.Errorf("pool %s has %d MiB in all, and %d MiB are asked for", pool.Name, pool.CapacityBytes>>20, bytes>>20)
	case pool.Type != "logical" && more > pool.FreeBytes:
		tell.Warn(ctx, "pool %s has %d MiB free, and %d MiB more may be written to it: its guests stop when there is no more", pool.Name, pool.FreeBytes>>20, more>>20)
	}
	return nil
}
