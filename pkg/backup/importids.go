package backup

import (
	"bytes"
	"cmp"
	"context"
	"strings"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/tell"
)

// names are the ids by which the guest's own files know its disk, and so those that it
// gets in the end.
type names struct {
	uuid  string // of the filesystem
	label string // the same, where a tar's or dump's fstab names it by that
	// What such an fstab says of the EFI system partition.
	espSerial  uint32
	bootsByESP bool
}

// adjustGuest makes true what the guest's own files say of its disks.
func (r *restore) adjustGuest(ctx context.Context, at place, fs newFS) (place, names, error) {
	known := names{uuid: cmp.Or(at.spec.UUID, fs.uuid)}
	if !r.req.IsRoot() {
		return at, known, nil
	}
	err := guest.Edit(ctx, fs.Dir, func(root *guest.Root) (err error) {
		if !at.described {
			if err := checkTree(root, string(r.stream.Kind)); err != nil {
				return err
			}
			if at, known, err = r.learnNames(ctx, root, at, fs); err != nil {
				return err
			}
		}
		if err := r.renewESP(ctx, at); err != nil {
			return err
		}
		if r.ids != nil && len(r.ids.made) > 0 {
			files, err := guest.ReplaceIDs(root, r.ids.made)
			if err != nil {
				return err
			}
			tell.Info(ctx, "new UUIDs in %s", pattern.Plain(strings.Join(files, ", ")))
		}
		return r.adjustFstab(ctx, root, at, known)
	})
	return at, known, err
}

// learnNames takes the filesystem's and the disk's ids from the guest's own
// files, since a tar and a dump don't say them.
func (r *restore) learnNames(ctx context.Context, root *guest.Root, at place, fs newFS) (place, names, error) {
	said, err := guest.ReadNames(root)
	if err != nil {
		tell.Warn(ctx, "the guest's fstab can't be used: %v", err)
	}
	known := names{uuid: cmp.Or(r.ids.of(said.RootUUID), fs.uuid), bootsByESP: said.HasESP}
	if known.espSerial, err = r.learnESP(said); err != nil || r.ids != nil {
		return at, known, err
	}
	known.label = said.RootLabel
	if l, ok := at.layout.WithPartUUID(at.root.Number, said.RootPartUUID); ok {
		at.layout = l
		at.root, _ = l.RootPartition()
	}
	return at, known, nil
}

// learnESP returns the serial number by which the guest's fstab mounts its EFI
// system partition, or a new one.
func (r *restore) learnESP(said guest.Names) (uint32, error) {
	serial, ok := boot.ParseFATUUID(said.ESPUUID)
	switch {
	case !ok:
		return boot.RandomSerial()
	case r.ids != nil:
		serial = r.ids.ofSerial(said.ESPUUID)
	}
	return serial, nil
}

// adjustFstab rewrites the entries that name what is not there: the root by
// another UUID or by a device's name, swap that is another disk's now, the ESP
// of a disk that has none.
func (r *restore) adjustFstab(ctx context.Context, root *guest.Root, at place, known names) error {
	text, err := guest.ReadFstab(root)
	if err != nil {
		tell.Warn(ctx, "fstab is left as it is: %v", err) // a folder of a backup has none
		return nil
	}
	_, hasESP := at.layout.ESP()
	edited := guest.EditFstab(text, func(e guest.FstabEntry) (device, disable string) {
		switch {
		case e.Dir == "/" && !at.isNamed(known, e.Device):
			return "UUID=" + known.uuid, ""
		case e.Type == "swap" && !at.described && len(r.swapIDs) == 1 && isDisk(e.Device):
			return "UUID=" + r.swapIDs[0], ""
		case e.IsESP() && !at.described && hasESP:
			return nameOfESP(known.espSerial, e.Device), ""
		case e.IsESP() && !at.described:
			return "", "not in the backup that this disk was imported from"
		}
		return e.Device, ""
	})
	options, _ := filesystem.FstabOptions(at.spec.Type, false)
	edited = guest.EditRootType(edited, string(at.spec.Type), options)
	st, err := root.Stat("/etc/fstab")
	if err != nil || bytes.Equal(edited, text) && st.Mode() == 0o644 {
		return err
	}
	return root.WriteFile("/etc/fstab", edited, 0o644, guest.Reset)
}

// nameOfESP is how fstab names the new EFI system partition: as before, where
// that is its UUID.
func nameOfESP(serial uint32, device string) string {
	uuid := "UUID=" + boot.FATUUID(serial)
	if strings.EqualFold(strings.NewReplacer(`"`, "", "'", "").Replace(device), uuid) {
		return device
	}
	return uuid
}

// isNamed reports whether a device field of fstab(5) names the new filesystem.
func (at place) isNamed(known names, device string) bool {
	kind, value, _ := strings.Cut(device, "=")
	value = strings.Trim(value, `"'`)
	switch kind {
	case "UUID":
		return strings.EqualFold(value, known.uuid)
	case "LABEL":
		return value == cmp.Or(known.label, at.spec.Label)
	case "PARTUUID":
		return at.root.Number > 0 && strings.EqualFold(value, at.root.UUID)
	case "PARTLABEL":
		return at.root.Number > 0 && value == at.root.Name && value != ""
	}
	return false
}

// isDisk reports whether a device field of fstab(5) names a disk, not a file.
func isDisk(device string) bool {
	return strings.Contains(device, "=") || strings.HasPrefix(device, "/dev/")
}

// adopt gives the unmounted filesystem, which has a UUID for now, the UUID and label by
// which the guest's files name it.
func (r *restore) adopt(ctx context.Context, at place, uuid string, known names) error {
	part, err := r.disk.Attach(ctx, at.root, false)
	if err != nil {
		return err
	}
	if known.uuid != uuid {
		if err := filesystem.Adopt(ctx, part.Device, at.spec.Type, known.uuid); err != nil {
			return err
		}
	}
	if known.label != "" {
		return filesystem.SetLabel(ctx, part.Device, at.spec.Type, known.label)
	}
	return nil
}
