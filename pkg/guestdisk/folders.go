package guestdisk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/pattern"
)

// apart is what a guest mounts on a folder beside its root: another partition of the same disk,
// or a subvolume of one, or of the root's.
type apart struct {
	folder    string
	part      partition.Partition
	subvolume string // "" is a btrfs's default one
}

func (a apart) String() string {
	if a.subvolume != "" {
		return fmt.Sprintf("%s (subvolume %s)", a.folder, pattern.Plain(a.subvolume))
	}
	return fmt.Sprintf("%s (partition %d)", a.folder, a.part.Number)
}

// maxSubvolumes bounds what a guest's fstab has mounted.
const maxSubvolumes = 64

// apartOf lists it, those above before those below: partitions by their names, and subvolumes
// by the guest's fstab, which is on its root.
func (d *Disk) apartOf(ctx context.Context, root *Part, dir string) (list []apart, err error) {
	layout, rootPart, err := d.Root()
	if err != nil {
		return nil, err
	}
	byUUID := map[string]partition.Partition{}
	if root.found.Type == string(filesystem.Btrfs) {
		byUUID[root.UUID()] = rootPart
	}
	list = partitionsOf(layout)
	for _, a := range list {
		p := a.part
		if found, err := filesystem.ProbeAt(ctx, d.Node(), p.Offset(), p.SizeBytes()); err == nil && found.Type == string(filesystem.Btrfs) {
			byUUID[found.UUID] = p
		}
	}
	if len(byUUID) > 0 {
		var text []byte
		err := guest.Edit(ctx, dir, func(files *guest.Root) error {
			text, _ = guest.ReadFstab(files) // a guest without one mounts nothing
			return nil
		})
		if err != nil {
			return nil, err
		}
		list = withSubvolumes(list, guest.ParseFstab(text), byUUID)
	}
	slices.SortFunc(list, func(a, b apart) int { return cmp.Compare(a.folder, b.folder) })
	return list, nil
}

func partitionsOf(layout partition.Layout) (list []apart) {
	for _, p := range layout.Beside() {
		list = append(list, apart{folder: p.Folder(), part: p})
	}
	return list
}

// withSubvolumes adds the subvolumes of these filesystems that an fstab has mounted.
func withSubvolumes(list []apart, fstab []guest.FstabEntry, byUUID map[string]partition.Partition) []apart {
	for _, e := range fstab {
		uuid, isUUID := strings.CutPrefix(strings.NewReplacer(`"`, "", "'", "").Replace(e.Device), "UUID=")
		p, known := byUUID[strings.ToLower(uuid)]
		name := subvolumeOf(e.Options)
		if !isUUID || !known || name == "" || e.Dir == "/" || !path.IsAbs(e.Dir) || path.Clean(e.Dir) != e.Dir || pattern.Plain(e.Dir) != e.Dir {
			continue
		}
		switch i := slices.IndexFunc(list, func(a apart) bool { return a.folder == e.Dir }); {
		case i >= 0 && list[i].part.Number == p.Number && list[i].subvolume == "":
			list[i].subvolume = name
		case i < 0 && len(list) < maxSubvolumes:
			list = append(list, apart{e.Dir, p, name})
		}
	}
	return list
}

// subvolumeOf is the subvolume that an fstab's options name; "" is none.
func subvolumeOf(options string) string {
	for option := range strings.SplitSeq(options, ",") {
		if name, ok := strings.CutPrefix(option, "subvol="); ok {
			return strings.Trim(name, "/")
		}
	}
	return ""
}

func concerns(folder, path string) bool {
	return strings.HasPrefix(path+"/", folder+"/") || strings.HasPrefix(folder+"/", path+"/")
}

// IsBeside tells whether what MountBeside has mounted has to do with a path.
func (t *Tree) IsBeside(path string) bool {
	return slices.ContainsFunc(t.beside, func(folder string) bool { return concerns(folder, path) })
}

// concerning are those of a list that have to do with a path: it is in them, or they are in it.
func concerning(list []apart, path string) []apart {
	return slices.DeleteFunc(slices.Clone(list), func(a apart) bool { return !concerns(a.folder, path) })
}

func describeApart(list []apart) string {
	var texts []string
	for _, a := range list {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}

// Edit opens the tree for reading and writing its files: what MountBeside has mounted, too.
func (t *Tree) Edit(ctx context.Context, edit func(*guest.Root) error) error {
	return guest.Edit(ctx, t.Dir, func(root *guest.Root) error {
		for _, folder := range t.beside {
			if err := root.Graft(folder, t.Dir+folder); err != nil {
				return err
			}
		}
		return edit(root)
	})
}

// Mounts are what MountBeside has mounted, by whole paths.
func (t *Tree) Mounts() (paths []string) {
	for _, folder := range t.beside {
		paths = append(paths, t.Dir+folder)
	}
	return paths
}

// MountBeside mounts what a guest has beside its root for what has to do with a path, where it
// belongs in the tree. repair has its filesystems repaired first, as the root was; without, they
// must be clean.
func (d *Disk) MountBeside(ctx context.Context, t *Tree, path string, repair bool) error {
	list, err := d.apartOf(ctx, t.Part, t.Dir)
	if err != nil {
		return err
	}
	for _, a := range concerning(list, path) {
		if slices.Contains(t.beside, a.folder) {
			continue
		}
		if err := d.mountApart(ctx, t, a, repair); err != nil {
			return fmt.Errorf("%v: %w", a, err)
		}
		t.beside = append(t.beside, a.folder)
	}
	return nil
}

// BootPlace is where a guest has the files of /boot.
type BootPlace struct {
	Number    int // of the partition; 0 is the whole disk
	Type      filesystem.Type
	UUID      string // of the filesystem
	Subvolume string // of a btrfs, that they are in; "" is none
	IsApart   bool   // from the root: a filesystem or a subvolume of its own
}

// MountBoot mounts what a guest has apart for /boot, as MountBeside does, and tells where that
// is.
func (d *Disk) MountBoot(ctx context.Context, t *Tree) (at BootPlace, err error) {
	if err := d.MountBeside(ctx, t, "/boot", true); err != nil {
		return at, err
	}
	list, err := d.apartOf(ctx, t.Part, t.Dir)
	_, root, rootErr := d.Root()
	if err = cmp.Or(err, rootErr); err != nil {
		return at, err
	}
	if i := slices.IndexFunc(list, func(a apart) bool { return a.folder == "/boot" }); i >= 0 {
		p := t.parts[list[i].part.Number]
		at = BootPlace{Number: list[i].part.Number, UUID: p.UUID(), Subvolume: list[i].subvolume, IsApart: true}
		at.Type, err = p.Type()
		return at, err
	}
	at = BootPlace{Number: root.Number, Type: t.Type, UUID: t.UUID()}
	err = guest.Edit(ctx, t.Dir, func(files *guest.Root) error {
		text, _ := guest.ReadFstab(files)
		entries := guest.ParseFstab(text)
		if i := slices.IndexFunc(entries, func(e guest.FstabEntry) bool { return e.Dir == "/" }); i >= 0 && t.Type == filesystem.Btrfs {
			at.Subvolume = subvolumeOf(entries[i].Options)
		}
		return nil
	})
	return at, err
}

func (d *Disk) mountApart(ctx context.Context, t *Tree, a apart, repair bool) error {
	if t.parts == nil {
		_, root, err := d.Root()
		if err != nil {
			return err
		}
		t.parts = map[int]*Part{root.Number: t.Part}
	}
	p := t.parts[a.part.Number]
	if p == nil {
		var err error
		if p, err = d.Attach(ctx, a.part, !repair); err != nil {
			return err
		}
		if t.readOnly {
			p = p.ForReading()
		}
		if err := p.prepare(ctx, repair); err != nil {
			return err
		}
		t.parts[a.part.Number] = p
	}
	kind, err := p.Type()
	if err != nil {
		return err
	}
	top, err := openFolder(t.Dir)
	if err != nil {
		return err
	}
	defer top.Close()
	at, err := placeIn(top, a.folder)
	if err != nil {
		return err
	}
	defer at.Close()
	return p.mountOn(ctx, fmt.Sprintf("/proc/self/fd/%d", at.Fd()), t.Dir+a.folder, kind, a.subvolume)
}

// prepare repairs what is on the part, or, without, looks whether it is clean; what is to be
// checked in full is.
func (p *Part) prepare(ctx context.Context, repair bool) error {
	t, err := p.Type()
	if err != nil {
		return err
	}
	if repair {
		err = filesystem.Repair(ctx, p.Device, t)
	} else {
		err = p.mustBeClean(t)
	}
	return cmp.Or(err, p.checkInFull(ctx, t))
}

// placeIn opens a folder in a guest's tree on which something is to be mounted. It may be in
// what was mounted there before, but no link of the guest's leads to it.
func placeIn(top *os.File, folder string) (*os.File, error) {
	fd, err := unix.Openat2(int(top.Fd()), strings.TrimPrefix(folder, "/"), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("on the way to %s the guest has a link: have its fstab name the folder that it leads to", folder)
	case err != nil:
		return nil, fmt.Errorf("the guest's %s: %w", folder, err)
	}
	return os.NewFile(uintptr(fd), filepath.Join(top.Name(), folder)), nil
}

// mustBeClean refuses what was not unmounted cleanly.
func (p *Part) mustBeClean(t filesystem.Type) error {
	clean, why, err := filesystem.IsClean(p.Device, t)
	if err == nil && !clean {
		err = errors.New("the filesystem was not unmounted cleanly (" + why + "): it isn't mounted")
	}
	return err
}

// mountClean mounts what can't be written to, and must have been unmounted cleanly.
func (p *Part) mountClean(ctx context.Context) (*Tree, error) {
	t, err := p.Type()
	if err != nil {
		return nil, err
	}
	if err := p.mustBeClean(t); err != nil {
		return nil, err
	}
	return p.Mount(ctx, t)
}

// Apart says which folders that have to do with a path the guest has on partitions of their
// own; "" is none.
func (d *Disk) Apart(path string) string {
	layout, _, err := d.Root()
	if err != nil {
		return ""
	}
	return describeApart(concerning(partitionsOf(layout), path))
}
