package libvirt

import (
	"cmp"
	"context"
	"strings"
)

// Image is a file or device that a guest's disk consists of.
type Image struct {
	Path   string
	Format string // raw, qcow2, …
}

// Snapshot is a snapshot of a domain (libvirt.org, "Snapshot XML format").
type Snapshot struct {
	Name   string `xml:"name"`
	Memory struct {
		File string `xml:"file,attr"`
	} `xml:"memory"`
	Disks []struct {
		Target string     `xml:"name,attr"`
		Driver Driver     `xml:"driver"`
		Source DiskSource `xml:"source"`
	} `xml:"disks>disk"`
	// Before is the domain as it was before.
	Before Domain `xml:"domain"`
}

// Files are the files that an external snapshot made.
func (s Snapshot) Files() (paths []string) {
	if s.Memory.File != "" {
		paths = append(paths, s.Memory.File)
	}
	for _, disk := range s.Disks {
		if path := disk.Source.Path(); path != "" {
			paths = append(paths, path)
		}
	}
	return paths
}

// Snapshots lists a domain's snapshots.
func (v Virsh) Snapshots(ctx context.Context, uuid string) (list []Snapshot, err error) {
	names, err := v.run(ctx, "snapshot-list", uuid, "--name")
	if err != nil {
		return nil, err
	}
	for snapshot := range strings.Lines(names) {
		snapshot = strings.TrimRight(snapshot, "\n")
		var s Snapshot
		if err := v.read(ctx, "snapshot "+snapshot+" of domain "+uuid, &s, "snapshot-dumpxml", uuid, "--snapshotname", snapshot); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// maxChain bounds a chain, which could lead back to itself.
const maxChain = 200

// Chain lists what a disk of a domain consists of: the image that the guest writes to,
// the one that it is an overlay of, and so on, as far as libvirt says it, in the
// domain's definition, its snapshots or the volumes' own. No image is opened here, and no format guessed.
func (v Virsh) Chain(ctx context.Context, disk Disk, snapshots []Snapshot) ([]Image, error) {
	path, err := v.pathOf(ctx, disk.Source)
	if err != nil {
		return nil, err
	}
	top := Image{Path: path, Format: "raw"}
	if disk.Driver != nil {
		top.Format = cmp.Or(disk.Driver.Type, "raw")
	}
	chain := []Image{top}
	below := disk.Below
	for last := top; last.Path != "" && last.Format != "raw" && len(chain) < maxChain; {
		next := Image{}
		if below != nil {
			if path, err = v.pathOf(ctx, below.Source); err != nil {
				return nil, err
			}
			next = Image{path, below.Format.Type}
			below = below.Below
		}
		if next.Path == "" {
			if next, err = v.below(ctx, last.Path, snapshots); err != nil {
				return nil, err
			}
		}
		if next.Path == "" {
			break
		}
		chain, last = append(chain, next), next
	}
	return chain, nil
}

// below is what an image is an overlay of, by the volume's definition or that of the
// snapshot which made it.
func (v Virsh) below(ctx context.Context, path string, snapshots []Snapshot) (Image, error) {
	if image, err := v.Below(ctx, path); err != nil || image.Path != "" {
		return image, err
	}
	for _, s := range snapshots {
		for _, made := range s.Disks {
			if made.Source.Path() != path {
				continue
			}
			for _, disk := range s.Before.Devices.Disks {
				if disk.Target.Dev == made.Target && disk.Driver != nil {
					path, err := v.pathOf(ctx, disk.Source)
					return Image{path, disk.Driver.Type}, err
				}
			}
		}
	}
	return Image{}, nil
}

// pathOf is the path of a disk's data, also of one that is named by pool and volume; "" is
// none that libvirt knows of.
func (v Virsh) pathOf(ctx context.Context, s DiskSource) (string, error) {
	if s.Pool == "" {
		return s.Path(), nil
	}
	path, err := v.value(ctx, "vol-path", "--pool", s.Pool, s.Volume)
	if isNotFound(err) {
		return "", nil
	}
	return path, err
}

// Overlays lists the volumes of a pool that are named as libvirt names a snapshot of
// the volume of a name and path, and are overlays of it. One whose header can't be read
// is none: a guest may have written it.
func (v Virsh) Overlays(ctx context.Context, pool, name, path string) (found []Volume, err error) {
	lines, err := v.run(ctx, "vol-list", pool)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(lines) { // NAME PATH
		column := strings.Fields(line)
		if len(column) < 2 || !strings.HasPrefix(column[0], name+".") {
			continue
		}
		if below, err := v.Below(ctx, column[1]); err == nil && below.Path == path {
			found = append(found, Volume{Name: column[0], Path: column[1]})
		}
	}
	return found, nil
}
