package vm

import (
	"context"
	"fmt"
	"math"
	"strings"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/tell"
)

// DataVolume is a further disk of a new guest.
type DataVolume struct {
	Pool      libvirt.Pool
	SizeBytes int64
	Folder    string // where the guest mounts it; "" leaves it blank
}

// MaxDataVolumes is how many a guest can have: the last one is /dev/vdz.
const MaxDataVolumes = 23

// DataRole is what the further disk number i (from 0 on) is called: in the guest's
// metadata, as its serial number, and at the end of its volume's name.
func DataRole(i int) string { return fmt.Sprintf("data%d", i+1) }

// DataDisks lists the further disks' volumes.
func (v *Wanted) DataDisks() (list []libvirt.Volume) {
	for i, d := range v.Data {
		name := v.Guest + "-" + DataRole(i)
		list = append(list, libvirt.Volume{Name: name, SizeBytes: d.SizeBytes, Path: strings.TrimRight(d.Pool.Path, "/") + "/" + name})
	}
	return list
}

// poolOf is the pool of the guest's volume number i (from 0 on).
func (v *Wanted) poolOf(i int) libvirt.Pool {
	first := 3
	if v.Layout == LayoutSingle {
		first = 1
	}
	if i < first {
		return v.Pool
	}
	return v.Data[i-first].Pool
}

// checkRoom refuses volumes that their pools have no room for.
func (v *making) checkRoom(ctx context.Context) error {
	needed, pools := map[string]int64{}, map[string]libvirt.Pool{}
	for i, p := range v.volumes {
		pool := v.poolOf(i)
		needed[pool.Name] += min(p.SizeBytes, math.MaxInt64-needed[pool.Name])
		pools[pool.Name] = pool
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
