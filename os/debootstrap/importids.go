package debootstrap

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/pattern"
)

// renewIDs prepares IMPORT_UUID=new. Every disk of the instance is imported by a
// process of its own, and fstab on one names the others: so each new UUID is
// made of the instance and the old one, and all processes come to the same.
func (r *restore) renewIDs() {
	if r.Settings.ImportUUID != "new" {
		return
	}
	if r.ids == nil {
		r.ids = map[string]string{}
	}
	for _, s := range r.manifest.Siblings {
		if s.Moves {
			r.ids[s.UUID] = r.derive(s.UUID)
		}
	}
	if fs := r.manifest.Filesystem; fs != nil {
		r.ids[fs.UUID] = r.derive(fs.UUID)
	}
}

// newID returns what an old UUID becomes.
func (r *restore) newID(old string) string {
	if r.ids == nil || old == "" {
		return old
	}
	return r.derive(old)
}

// derive makes a UUID of this instance and an old one: version 8 of RFC 9562,
// from SHA-256.
func (r *restore) derive(old string) string {
	b := r.digest("uuid", old)
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// deriveSerial does the same to a FAT filesystem's serial number.
func (r *restore) deriveSerial(old string) uint32 {
	return binary.LittleEndian.Uint32(r.digest("serial", old)) | 1
}

func (r *restore) digest(what, old string) []byte {
	sum := sha256.Sum256([]byte(what + "\x00" + cmp.Or(r.Request.InstanceUUID, r.Request.InstanceName) + "\x00" + strings.ToLower(old)))
	return sum[:]
}

// renewLayout gives the disk and its partitions new ids, made as derive's are.
func (r *restore) renewLayout(old partition.Layout) (partition.Layout, error) {
	var seed []byte
	for i := range 256 {
		seed = append(seed, r.digest(fmt.Sprintf("disk %d", i), old.DiskID)...)
	}
	l, err := old.Renew(bytes.NewReader(seed))
	if err != nil {
		return l, err
	}
	r.ids[old.DiskID] = l.DiskID
	for i, p := range old.Partitions {
		r.ids[p.UUID] = l.Partitions[i].UUID
	}
	delete(r.ids, "")
	return l, nil
}

// adjustGuest makes true what the guest's own files say of its disks.
func (r *restore) adjustGuest(ctx context.Context) error {
	if r.Request.IODisk != 0 {
		return nil
	}
	return r.inGuest(ctx, func(root *guest.Root) error {
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
		if len(r.ids) > 0 {
			files, err := guest.ReplaceIDs(root, r.ids)
			if err != nil {
				return err
			}
			info(ctx, "new UUIDs in %s", pattern.Plain(strings.Join(files, ", ")))
		}
		return r.adjustFstab(ctx, root)
	})
}

// learnNames takes the filesystem's and the disk's ids from the guest's own
// files, since a tar and a dump don't say them.
func (r *restore) learnNames(ctx context.Context, root *guest.Root) error {
	names, err := guest.ReadNames(root)
	if err != nil {
		warn(ctx, "the guest's fstab can't be used: %v", err)
	}
	if r.espSerial, err = r.learnESP(names); err != nil {
		return err
	}
	if r.ids != nil {
		r.uuid = r.rootUUID
		if names.RootUUID != "" {
			r.uuid = r.derive(names.RootUUID)
			r.ids[names.RootUUID] = r.uuid
		}
		return nil
	}
	r.uuid = cmp.Or(names.RootUUID, r.rootUUID)
	r.label = names.RootLabel
	if l, ok := r.layout.WithPartUUID(r.root.Number, names.RootPartUUID); ok {
		r.layout, r.renamed = l, true
	}
	return nil
}

// learnESP returns the serial number by which the guest's fstab mounts its EFI
// system partition, or a new one.
func (r *restore) learnESP(names guest.Names) (uint32, error) {
	r.bootsByESP = names.HasESP
	serial, ok := boot.ParseFATUUID(names.ESPUUID)
	switch {
	case !ok:
		return randomSerial()
	case r.ids != nil:
		serial = r.deriveSerial(names.ESPUUID)
		r.ids[strings.ToLower(names.ESPUUID)] = boot.FATUUID(serial)
	}
	return serial, nil
}

// adjustFstab rewrites the entries that name what is not there: the root by
// another UUID or by a device's name, swap that is another disk's now, the ESP
// of a disk that has none.
func (r *restore) adjustFstab(ctx context.Context, root *guest.Root) error {
	text, err := guest.ReadFstab(root)
	if err != nil {
		warn(ctx, "fstab is left as it is: %v", err) // a folder of a backup has none
		return nil
	}
	_, hasESP := r.layout.ESP()
	edited := guest.EditFstab(text, func(e guest.FstabEntry) (device, disable string) {
		switch {
		case e.Dir == "/" && !r.isRoot(e.Device):
			return "UUID=" + r.uuidInTheEnd(), ""
		case e.Type == "swap" && r.manifest.Filesystem == nil && len(r.swapIDs) == 1 && isDisk(e.Device):
			return "UUID=" + r.swapIDs[0], ""
		case e.IsESP() && r.manifest.Filesystem == nil && hasESP:
			return r.nameOfESP(e.Device), ""
		case e.IsESP() && r.manifest.Filesystem == nil:
			return "", "not in the backup that this disk was imported from"
		}
		return e.Device, ""
	})
	st, err := root.Stat("/etc/fstab")
	if err != nil || bytes.Equal(edited, text) && st.Mode() == 0o644 {
		return err
	}
	return root.WriteFile("/etc/fstab", edited, 0o644, guest.Reset)
}

// nameOfESP is how fstab names the new EFI system partition: as before, where
// that is its UUID.
func (r *restore) nameOfESP(device string) string {
	uuid := "UUID=" + boot.FATUUID(r.espSerial)
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
		return strings.EqualFold(value, r.uuidInTheEnd())
	case "LABEL":
		return value == cmp.Or(r.label, r.spec.Label)
	case "PARTUUID":
		return r.root.Number > 0 && strings.EqualFold(value, r.partUUID())
	case "PARTLABEL":
		return r.root.Number > 0 && value == r.root.Name && value != ""
	}
	return false
}

func (r *restore) partUUID() string {
	root, _, _ := r.layout.Ours()
	return root.UUID
}

// isDisk reports whether a device field of fstab(5) names a disk, not a file.
func isDisk(device string) bool {
	return strings.Contains(device, "=") || strings.HasPrefix(device, "/dev/")
}

// findSwaps lists the UUIDs of the instance's other disks that are swap now.
func (r *restore) findSwaps(ctx context.Context) {
	for _, d := range r.Request.Disks {
		if d.Index == r.Request.IODisk {
			continue
		}
		if s, ok := sibling(ctx, d.Path); ok && s.Type == "swap" {
			r.swapIDs = append(r.swapIDs, s.UUID)
		}
	}
}

// adopt gives the unmounted filesystem the UUID and label, and its partition the
// id, by which the guest's files name them.
func (r *restore) adopt(ctx context.Context) error {
	if r.renamed {
		if err := r.layout.Write(r.disk.File()); err != nil {
			return err
		}
	}
	if err := r.attachPart(ctx, r.root, false); err != nil {
		return err
	}
	if r.uuid != "" && r.uuid != r.rootUUID {
		if err := filesystem.Adopt(ctx, r.fsysDev, r.spec.Type, r.uuid); err != nil {
			return err
		}
	}
	if r.label != "" {
		return filesystem.SetLabel(ctx, r.fsysDev, r.spec.Type, r.label)
	}
	return nil
}

// uuidInTheEnd is the UUID that the filesystem will have.
func (r *restore) uuidInTheEnd() string { return cmp.Or(r.uuid, r.rootUUID) }
