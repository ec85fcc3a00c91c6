package guestdisk

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
)

// Edit opens the tree for reading and writing its files: what MountBeside has mounted, too.
func (t *Tree) Edit(ctx context.Context, edit func(*guest.Root) error) error {
	return guest.Edit(ctx, t.Dir, func(root *guest.Root) error {
		for folder, dir := range t.beside {
			if err := root.Graft(folder, dir); err != nil {
				return err
			}
		}
		return edit(root)
	})
}

// concern tells which partitions a guest has for folders that have to do with a path: it is in
// them, or they are in it.
func concern(layout partition.Layout, path string) (parts []partition.Partition) {
	for _, p := range layout.Beside() {
		if folder := p.Folder() + "/"; strings.HasPrefix(path+"/", folder) || strings.HasPrefix(folder, path+"/") {
			parts = append(parts, p)
		}
	}
	return parts
}

// MountBeside mounts the filesystems that a guest has beside its root's for what has to do
// with a path, and adds them to the tree. repair has them repaired first, as the root was;
// without, they must be clean.
func (d *Disk) MountBeside(ctx context.Context, t *Tree, path string, repair bool) error {
	layout, _, err := d.Root()
	if err != nil {
		return err
	}
	for _, p := range concern(layout, path) {
		part, err := d.Attach(ctx, p, !repair)
		var tree *Tree
		switch {
		case err != nil:
		case !repair:
			tree, err = part.mountClean(ctx)
		case t.readOnly:
			tree, err = part.ForReading().MountRepaired(ctx)
		default:
			tree, err = part.MountRepaired(ctx)
		}
		if err != nil {
			return fmt.Errorf("%s, partition %d: %w", p.Folder(), p.Number, err)
		}
		if t.beside == nil {
			t.beside = map[string]string{}
		}
		t.beside[p.Folder()] = tree.Dir
	}
	return nil
}

// mountClean mounts what can't be written to, and must have been unmounted cleanly.
func (p *Part) mountClean(ctx context.Context) (*Tree, error) {
	t, err := p.Type()
	if err != nil {
		return nil, err
	}
	clean, why, err := filesystem.IsClean(p.Device, t)
	if err != nil {
		return nil, err
	}
	if !clean {
		return nil, errors.New("the filesystem was not unmounted cleanly (" + why + "): it isn't mounted")
	}
	return p.Mount(ctx, t)
}

// Apart says which folders that have to do with a path the guest has on filesystems of their
// own; "" is none.
func (d *Disk) Apart(path string) string {
	layout, _, err := d.Root()
	if err != nil {
		return ""
	}
	return describeApart(concern(layout, path))
}

func describeApart(parts []partition.Partition) string {
	var texts []string
	for _, p := range parts {
		texts = append(texts, fmt.Sprintf("%s (partition %d)", p.Folder(), p.Number))
	}
	return strings.Join(texts, ", ")
}
