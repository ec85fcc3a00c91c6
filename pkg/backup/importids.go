package backup

import (
	"bytes"
	"cmp"
	"context"
	"strings"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/tell"
)

// names are the ids by which the guest's own files know its disk, and so those that it
// gets in the end.
type names struct {
	uuid  string // of the filesystem; "" is what it was made with
	label string // the same, where they name it by that
	// renamed says that the layout was given the ids that they name.
	renamed bool
	// What a tar's or dump's own fstab says of the EFI system partition.
	espSerial  uint32
	bootsByESP bool
}

// adjustGuest makes true what the guest's own files say of its disks.
func (r *restore) adjustGuest(ctx context.Context) error {
	if !r.req.IsRoot() {
		return nil
	}
	return r.tree.Edit(ctx, func(root *guest.Root) error {
		if r.manifest.Filesystem == nil {
			if err := checkTree(root, string(r.stream.Kind)); err != nil {
				return err
			}
			if err := r.learnNames(ctx, root); err != nil {
				return err
			}
		}
		if err := r.renewESP(ctx); err != nil {
			return err
		}
		if r.ids != nil && len(r.ids.made) > 0 {
			files, err := guest.ReplaceIDs(root, r.ids.made)
			if err != nil {
				return err
			}
			tell.Info(ctx, "new UUIDs in %s", pattern.Plain(strings.Join(files, ", ")))
		}
		return r.adjustFstab(ctx, root)
	})
}

// learnNames takes the filesystem's and the disk's ids from the guest's own
// files, since a tar and a dump don't say them.
func (r *restore) learnNames(ctx context.Context, root *guest.Root) error {
	said, err := guest.ReadNames(root)
	if err != nil {
		tell.Warn(ctx, "the guest's fstab can't be used: %v", err)
	}
	if r.names.espSerial, err = r.learnESP(said); err != nil {
		return err
	}
	r.names.uuid = cmp.Or(r.ids.of(said.RootUUID), r.rootUUID)
	if r.ids != nil {
		return nil
	}
	r.names.label = said.RootLabel
	if l, ok := r.disk.layout.WithPartUUID(r.root.Number, said.RootPartUUID); ok {
		r.disk.layout, r.names.renamed = l, true
	}
	return nil
}

// learnESP returns the serial number by which the guest's fstab mounts its EFI
// system partition, or a new one.
func (r *restore) learnESP(said guest.Names) (uint32, error) {
	r.names.bootsByESP = said.HasESP
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
func (r *restore) adjustFstab(ctx context.Context, root *guest.Root) error {
	text, err := guest.ReadFstab(root)
	if err != nil {
		tell.Warn(ctx, "fstab is left as it is: %v", err) // a folder of a backup has none
		return nil
	}
	_, hasESP := r.disk.layout.ESP()
	edited := guest.EditFstab(text, func(e guest.FstabEntry) (device, disable string) {
		switch {
		case e.Dir == "/" && !r.isRoot(e.Device):
			return "UUID=" + r.finalUUID(), ""
		case e.Type == "swap" && r.manifest.Filesystem == nil && len(r.swapIDs) == 1 && isDisk(e.Device):
			return "UUID=" + r.swapIDs[0], ""
		case e.IsESP() && r.manifest.Filesystem == nil && hasESP:
			return r.nameOfESP(e.Device), ""
		case e.IsESP() && r.manifest.Filesystem == nil:
			return "", "not in the backup that this disk was imported from"
		}
		return e.Device, ""
	})
	if t := r.spec.Type; t != "" { // the filesystem is a new one
		options, _ := filesystem.FstabOptions(t, false)
		edited = guest.EditRootType(edited, string(t), options)
	}
	st, err := root.Stat("/etc/fstab")
	if err != nil || bytes.Equal(edited, text) && st.Mode() == 0o644 {
		return err
	}
	return root.WriteFile("/etc/fstab", edited, 0o644, guest.Reset)
}

// nameOfESP is how fstab names the new EFI system partition: as before, where
// that is its UUID.
func (r *restore) nameOfESP(device string) string {
	uuid := "UUID=" + boot.FATUUID(r.names.espSerial)
	if strings.EqualFold(strings.NewReplacer(`"`, "", "'", "").Replace(device), uuid) {
		return device
	}
	return uuid
}

// isRoot reports whether a device field of fstab(5) names the new filesystem.
func (r *restore) isRoot(device string) bool {
	kind, value, _ := strings.Cut(device, "=")
	value = strings.Trim(value, `"'`)
	switch kind {
	case "UUID":
		return strings.EqualFold(value, r.finalUUID())
	case "LABEL":
		return value == cmp.Or(r.names.label, r.spec.Label)
	case "PARTUUID":
		return r.root.Number > 0 && strings.EqualFold(value, r.partUUID())
	case "PARTLABEL":
		return r.root.Number > 0 && value == r.root.Name && value != ""
	}
	return false
}

func (r *restore) partUUID() string {
	root, _ := r.disk.layout.RootPartition()
	return root.UUID
}

// isDisk reports whether a device field of fstab(5) names a disk, not a file.
func isDisk(device string) bool {
	return strings.Contains(device, "=") || strings.HasPrefix(device, "/dev/")
}

// swapsBeside lists the UUIDs of the instance's other disks that are swap now.
func swapsBeside(ctx context.Context, req *osapi.Request) (uuids []string) {
	for _, d := range req.Disks {
		if d.Index == req.IODisk || !d.IsGuests() {
			continue
		}
		if s, ok := siblingAt(ctx, d.Path); ok && s.Type == "swap" {
			uuids = append(uuids, s.UUID)
		}
	}
	return uuids
}

// adopt gives the unmounted filesystem the UUID and label by which the guest's files
// name it.
func (r *restore) adopt(ctx context.Context) error {
	part, err := r.disk.Attach(ctx, r.root, false)
	if err != nil {
		return err
	}
	if r.names.uuid != "" && r.names.uuid != r.rootUUID {
		if err := filesystem.Adopt(ctx, part.Device, r.spec.Type, r.names.uuid); err != nil {
			return err
		}
	}
	if r.names.label != "" {
		return filesystem.SetLabel(ctx, part.Device, r.spec.Type, r.names.label)
	}
	return nil
}

// writeTable makes the filesystem, which is whole and on the disk before it, one that a
// table leads to.
func (r *restore) writeTable(ctx context.Context) error {
	if err := r.disk.detach(ctx); err != nil {
		return err
	}
	if err := r.disk.Sync(); err != nil {
		return err
	}
	return r.disk.layout.Write(r.disk.File())
}

func (r *restore) hasTable(context.Context) (bool, string) {
	return r.disk.layout.Style != partition.StyleNone, "the filesystem takes the whole disk"
}

// finalUUID is the UUID that the filesystem will have.
func (r *restore) finalUUID() string { return cmp.Or(r.names.uuid, r.rootUUID) }
