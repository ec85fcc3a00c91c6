package libvirt

import (
	"context"
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"instance-debootstrap/pkg/command"
)

// Pool is a storage pool.
type Pool struct {
	Name string `xml:"name"`
	Type string `xml:"type,attr"` // dir, fs, netfs, logical, …
	// Source is the volume group of a pool of type logical.
	Source        string `xml:"source>name"`
	CapacityBytes int64  `xml:"capacity"`
	// FreeBytes is what libvirt last saw.
	FreeBytes int64  `xml:"available"`
	Path      string `xml:"target>path"`
}

// files reports whether the pool's volumes are files; else they are of LVM.
func (p Pool) files() bool { return p.Type != "logical" }

// Volume is a volume of a pool.
type Volume struct {
	Name      string `xml:"name"`
	Type      string `xml:"type,attr"` // file or block
	SizeBytes int64  `xml:"capacity"`
	Path      string `xml:"target>path"`
	// Below is the image that it is an overlay of; an empty Path is none.
	Below struct {
		Path   string `xml:"path"`
		Format Format `xml:"format"`
	} `xml:"backingStore"`
}

// Pools lists the active pools.
func (v Virsh) Pools(ctx context.Context) (pools []Pool, err error) {
	names, err := v.names(ctx, "pool-list", "--name")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		p, err := v.pool(ctx, name)
		if err != nil {
			return nil, err
		}
		pools = append(pools, p)
	}
	return pools, nil
}

func (v Virsh) pool(ctx context.Context, name string) (p Pool, err error) {
	text, err := v.run(ctx, "pool-dumpxml", name)
	if err == nil {
		err = xml.Unmarshal([]byte(text), &p)
	}
	if err != nil {
		return p, fmt.Errorf("pool %s: %w", name, err)
	}
	return p, nil
}

// usable are the types of pools whose volumes are disks that this node can write.
var usable = []string{"dir", "fs", "netfs", "logical"}

// FindPool returns the active pool of a name, or the one of a volume group; with
// neither, the pool called default, or the only one. What libvirt knows of its
// volumes is read anew.
func (v Virsh) FindPool(ctx context.Context, name, group string) (Pool, error) {
	pools, err := v.Pools(ctx)
	if err != nil {
		return Pool{}, err
	}
	wanted := func(p Pool) bool {
		switch {
		case name != "":
			return p.Name == name
		case group != "":
			return p.Type == "logical" && (p.Source == group || p.Name == group)
		}
		return p.Name == "default" || len(pools) == 1
	}
	i := slices.IndexFunc(pools, wanted)
	if i < 0 {
		return Pool{}, noPool(pools, name, group)
	}
	p := pools[i]
	if !slices.Contains(usable, p.Type) {
		return p, fmt.Errorf("pool %s is of type %s; of type %s are the pools whose volumes can be installed on", p.Name, p.Type, strings.Join(usable, ", "))
	}
	if _, err := v.run(ctx, "pool-refresh", p.Name); err != nil {
		return p, err
	}
	return v.pool(ctx, p.Name)
}

func noPool(pools []Pool, name, group string) error {
	var known []string
	for _, p := range pools {
		known = append(known, p.Name)
	}
	active := "no pool is active"
	if len(known) > 0 {
		active = "active are " + strings.Join(known, ", ")
	}
	switch {
	case name != "":
		return fmt.Errorf("libvirt has no active pool %s (%s): virsh pool-start %s, or give another --pool", name, active, name)
	case group != "":
		return fmt.Errorf("libvirt has no active pool for the volume group %s (%s): virsh pool-define-as %s logical --source-name %s --target /dev/%s, and pool-start it",
			group, active, group, group, group)
	}
	return fmt.Errorf("which pool? (%s): give --pool or --vg", active)
}

// Volume reads a volume of a pool. Found is false when there is none of the name.
func (v Virsh) Volume(ctx context.Context, pool, name string) (vol Volume, found bool, err error) {
	lines, err := v.run(ctx, "vol-list", pool)
	if err != nil {
		return vol, false, err
	}
	for line := range strings.Lines(lines) { // NAME PATH
		if f := strings.Fields(line); len(f) > 0 && f[0] == name {
			vol, err = v.readVolume(ctx, "vol-dumpxml", "--pool", pool, name)
			return vol, err == nil, err
		}
	}
	return vol, false, nil
}

// VolumeAt reads the volume of a path, and the name of its pool.
func (v Virsh) VolumeAt(ctx context.Context, path string) (vol Volume, pool string, err error) {
	if pool, err = v.run(ctx, "vol-pool", path); err != nil {
		return vol, "", err
	}
	vol, err = v.readVolume(ctx, "vol-dumpxml", path)
	return vol, pool, err
}

func (v Virsh) readVolume(ctx context.Context, args ...string) (vol Volume, err error) {
	text, err := v.run(ctx, args...)
	if err == nil {
		err = xml.Unmarshal([]byte(text), &vol)
	}
	if err != nil {
		return vol, fmt.Errorf("volume %s: %w", args[len(args)-1], err)
	}
	return vol, nil
}

// MakeVolume makes a raw volume: a sparse file, or a volume of LVM that is
// allocated whole (one that isn't would be a snapshot). A name that is taken is
// an error, and touches nothing.
func (v Virsh) MakeVolume(ctx context.Context, p Pool, name string, sizeBytes int64) (Volume, error) {
	args := []string{"vol-create-as", p.Name, name, strconv.FormatInt(sizeBytes, 10)}
	if p.files() {
		args = append(args, "--allocation", "0", "--format", "raw")
	}
	if _, err := v.run(ctx, args...); err != nil {
		return Volume{}, err
	}
	return v.readVolume(ctx, "vol-dumpxml", "--pool", p.Name, name)
}

// DeleteVolume removes a volume with all that is on it.
func (v Virsh) DeleteVolume(ctx context.Context, pool, name string) error {
	_, err := v.run(ctx, "vol-delete", "--pool", pool, name)
	return err
}

// ResizeVolume makes a volume larger, to sizeBytes. libvirt has no way to do that
// with one of LVM, but sees it done by lvextend(8).
func (v Virsh) ResizeVolume(ctx context.Context, pool string, vol Volume, sizeBytes int64) error {
	size := strconv.FormatInt(sizeBytes, 10)
	if vol.Type != "block" {
		_, err := v.run(ctx, "vol-resize", "--pool", pool, vol.Name, size)
		return err
	}
	if err := command.Run(ctx, command.Cmd{Args: []string{"lvextend", "--quiet", "--size", size + "b", vol.Path}, Quiet: true, Group: true}); err != nil {
		return err
	}
	return v.Refresh(ctx, pool)
}

// Refresh has libvirt read a pool's volumes anew.
func (v Virsh) Refresh(ctx context.Context, pool string) error {
	_, err := v.run(ctx, "pool-refresh", pool)
	return err
}
