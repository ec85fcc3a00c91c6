package libvirt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
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

// Volume is a volume of a pool. libvirt looks at a volume's first bytes, which a guest
// may have written, for its format and size (storage volumes of type file): neither is
// taken from there, and a volume is what its file or device is.
type Volume struct {
	Name      string
	IsFile    bool // else it is a block device
	SizeBytes int64
	Path      string
}

// Pools lists the active pools.
func (v Virsh) Pools(ctx context.Context) (pools []Pool, err error) {
	uuids, err := v.names(ctx, "pool-list", "--uuid")
	if err != nil {
		return nil, err
	}
	for _, uuid := range uuids {
		p, err := v.pool(ctx, uuid)
		if err != nil {
			return nil, err
		}
		pools = append(pools, p)
	}
	return pools, nil
}

// pool reads a pool's definition, by its UUID or name.
func (v Virsh) pool(ctx context.Context, name string) (p Pool, err error) {
	err = v.read(ctx, "pool "+name, &p, "pool-dumpxml", name)
	return p, err
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
		return p, fmt.Errorf("pool %s is of type %s; of type %s are the pools whose volumes can be installed on: give one of those (--pool)", p.Name, p.Type, strings.Join(usable, ", "))
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
	case len(pools) == 0: // as Debian's package leaves it
		return errors.New("libvirt has no active pool: virsh pool-start one that it has (virsh pool-list --all), or have one of files: virsh pool-define-as default dir --target /var/lib/libvirt/images, virsh pool-start default, virsh pool-autostart default")
	}
	return fmt.Errorf("which pool? (%s): give --pool or --vg", active)
}

// PathOf is the path of a pool's volume; "" is that there is none of the name.
func (v Virsh) PathOf(ctx context.Context, pool, name string) (string, error) {
	paths, err := v.Volumes(ctx, pool)
	return paths[name], err
}

// Volumes lists a pool's volumes whose names have no blanks, and their paths.
func (v Virsh) Volumes(ctx context.Context, pool string) (paths map[string]string, err error) {
	lines, err := v.run(ctx, "vol-list", pool)
	paths = map[string]string{}
	for line := range strings.Lines(lines) { // NAME PATH
		if f := strings.Fields(line); len(f) > 1 {
			paths[f[0]] = f[1]
		}
	}
	return paths, err
}

// PoolOf is the active pool of the volume at a path; "" is none.
func (v Virsh) PoolOf(ctx context.Context, path string) (string, error) {
	pool, err := v.value(ctx, "vol-pool", path)
	if isNotFound(err) {
		return "", nil
	}
	return pool, err
}

// isNotFound tells whether libvirt says that it has no such volume or pool, and not that
// it can't be asked.
func isNotFound(err error) bool {
	var failed *command.Error
	if !errors.As(err, &failed) {
		return false
	}
	said := strings.Join(failed.Tail, "\n")
	return strings.Contains(said, "Storage volume not found") || strings.Contains(said, "Storage pool not found") || strings.Contains(said, "is not active")
}

// Below is the image that a volume, which is one itself, is an overlay of, by its own
// header; an empty path is none.
func (v Virsh) Below(ctx context.Context, path string) (Image, error) {
	var vol struct {
		Path   string `xml:"backingStore>path"`
		Format Format `xml:"backingStore>format"`
	}
	text, err := v.run(ctx, "vol-dumpxml", path)
	if isNotFound(err) {
		return Image{}, nil
	}
	if err == nil {
		err = parse(text, &vol, "vol-dumpxml")
	}
	if err != nil {
		return Image{}, fmt.Errorf("volume %s: %w", path, err)
	}
	return Image{vol.Path, vol.Format.Type}, nil
}

// ErrExists is why a volume isn't made whose name is taken.
var ErrExists = errors.New("it exists already")

// MakeVolume makes a raw volume: a sparse file, or a volume of LVM that is
// allocated whole (one that isn't would be a snapshot). A name that is taken is
// ErrExists, and touches nothing; after another error it may have been made.
func (v Virsh) MakeVolume(ctx context.Context, p Pool, name string, sizeBytes int64) error {
	args := []string{"vol-create-as", p.Name, name, strconv.FormatInt(sizeBytes, 10)}
	if p.files() {
		args = append(args, "--allocation", "0", "--format", "raw")
	}
	_, err := v.run(ctx, args...)
	if err != nil && taken().MatchString(err.Error()) {
		err = fmt.Errorf("%w: %w", ErrExists, err)
	}
	return err
}

// taken is what libvirt says of a name that is: by its own list, by lvcreate, or by open(2).
var taken = pattern.New(`exists already|already exists|File exists`)

// HasPool tells whether a pool is there and active.
func (v Virsh) HasPool(ctx context.Context, name string) (bool, error) {
	active, err := v.names(ctx, "pool-list", "--name")
	return slices.Contains(active, name), err
}

// DeleteVolume removes a volume with all that is on it.
func (v Virsh) DeleteVolume(ctx context.Context, pool, name string) error {
	_, err := v.run(ctx, "vol-delete", "--pool", pool, name)
	return err
}

// ExtendLV makes a volume of LVM larger, to sizeBytes. libvirt has no way to do that,
// but sees it done by lvextend(8).
func (v Virsh) ExtendLV(ctx context.Context, pool, path string, sizeBytes int64) error {
	args := []string{"lvextend", "--quiet", "--size", strconv.FormatInt(sizeBytes, 10) + "b", path}
	if err := command.Run(ctx, command.Cmd{Args: args, Quiet: true, Group: true}); err != nil {
		return err
	}
	return v.Refresh(ctx, pool)
}

// Refresh has libvirt read a pool's volumes anew.
func (v Virsh) Refresh(ctx context.Context, pool string) error {
	_, err := v.run(ctx, "pool-refresh", pool)
	return err
}
