package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/tell"
)

// dataDisk is a disk of the instance that DATA_DISKS has the guest mount.
type dataDisk struct {
	want     settings.DataDisk
	path     string
	readOnly bool // for the guest

	disk *blockdev.Disk
	uuid string // of its filesystem; "" when that is still to be made
}

func (d *dataDisk) fstype() filesystem.Type { return filesystem.Type(d.want.Filesystem) }

func (d *dataDisk) String() string { return fmt.Sprintf("data disk %s (%s)", d.want.Name, d.path) }

// dataDisks pairs DATA_DISKS with the disks that the instance has beside its
// root. One that it lacks is none of them: the setting may be the whole cluster's.
func (o *Order) dataDisks() (found []*dataDisk, missing []string) {
	for _, want := range o.Settings.DataDisks {
		named := o.Request.Named(want.Name)
		for _, d := range named {
			found = append(found, &dataDisk{want: want, path: d.Path, readOnly: d.ReadOnly()})
		}
		if len(named) == 0 {
			missing = append(missing, want.Name)
		}
	}
	return found, missing
}

// IsDataDisk tells whether DATA_DISKS names the disk.
func (o *Order) IsDataDisk(name string) bool {
	return slices.ContainsFunc(o.Settings.DataDisks, func(want settings.DataDisk) bool { return want.Name == name })
}

// claimData opens the data disks, and refuses what holds anything else than the
// filesystem that was asked for.
func claimData(ctx context.Context, s *session.Session, o *Order) (claimed []*dataDisk, err error) {
	found, missing := o.dataDisks()
	for _, name := range missing {
		tell.Info(ctx, "DATA_DISKS names %s, and no disk beside the root is called so (%s): it is left out", name, diskNames(o.Request))
	}
	for _, d := range found {
		if err := d.claim(ctx, s, o, claimed); err != nil {
			return nil, err
		}
		claimed = append(claimed, d)
	}
	return claimed, nil
}

// claim opens a data disk, after those that are claimed already.
func (d *dataDisk) claim(ctx context.Context, s *session.Session, o *Order, claimed []*dataDisk) error {
	if err := d.checkPath(o, claimed); err != nil {
		return err
	}
	open := blockdev.Open
	if d.readOnly {
		open = blockdev.OpenReadOnly
	}
	var err error
	if d.disk, err = claimBy(s, open, d.path); err != nil {
		return err
	}
	return d.check(ctx, o, claimed, d.disk.Node(), d.disk.SizeBytes)
}

// checkPath refuses a disk that can't be a data disk, whatever it holds.
func (d *dataDisk) checkPath(o *Order, others []*dataDisk) error {
	if use := usedAs(o, others, d.path); use != "" {
		return fmt.Errorf("%v is %s already: check DATA_DISKS, swapdev and the disks' names", d, use)
	}
	return nil
}

// check looks what is on a disk of that size, in bytes, which is read at node, and
// refuses all but the filesystem that was asked for and room for it.
func (d *dataDisk) check(ctx context.Context, o *Order, others []*dataDisk, node string, sizeBytes int64) (err error) {
	if d.uuid, err = d.look(ctx, node); err != nil {
		return fmt.Errorf("%v: %w", d, err)
	}
	for _, other := range others {
		if d.uuid != "" && strings.EqualFold(other.uuid, d.uuid) {
			return fmt.Errorf("%v is a copy of %v, with the same UUID %s: give one of them another", d, other, d.uuid)
		}
	}
	if d.uuid != "" {
		return nil
	}
	if least := filesystem.MinDiskBytes(d.fstype(), o.Settings.Suite, 0, 0); sizeBytes < least {
		return fmt.Errorf("%v is too small: it has %d MiB, and %s needs %d MiB", d, sizeBytes>>20, d.fstype(), least>>20)
	}
	return filesystem.Check(d.fstype(), o.Settings.Suite)
}

// how says what becomes of a filesystem that is there.
func (d *dataDisk) how() string {
	if d.readOnly {
		return "taken as it is, and mounted read-only"
	}
	return "taken as it is"
}

// usedAs says what a disk is in this run already, "" is nothing.
func usedAs(o *Order, claimed []*dataDisk, path string) string {
	key, err := blockdev.Key(path)
	if err != nil {
		return "" // which fails when it is claimed
	}
	is := func(other string) bool {
		k, err := blockdev.Key(other)
		return err == nil && k == key
	}
	if is(o.Request.BlockDev) {
		return "the root disk"
	}
	for _, swap := range o.swapPaths() {
		if is(swap) {
			return "to become swap"
		}
	}
	for _, d := range claimed {
		if is(d.path) {
			return d.String()
		}
	}
	return ""
}

// look returns the UUID of the filesystem that was asked for, and "" for a blank
// disk that the guest can write to. All else is an error. The filesystem itself is the guest's to check and
// to mount: what is on it was written by one.
func (d *dataDisk) look(ctx context.Context, device string) (uuid string, err error) {
	found, err := filesystem.Probe(ctx, device)
	if err != nil {
		return "", err
	}
	if found.Type == d.want.Filesystem && found.PTType == "" && found.UUID != "" {
		return found.UUID, nil
	}
	_, what, err := filesystem.IsBlankOrSwap(ctx, device)
	if err == nil && d.readOnly {
		return "", fmt.Errorf("it is read-only (DISK_n_ACCESS=ro) and holds %s: a disk that the guest can't write to is never formatted, but only mounted with the %s that it has; "+
			"make it writable (gnt-instance modify --disk N:modify,mode=rw)", what, d.fstype())
	}
	if err != nil || what == "blank" {
		return "", err
	}
	if t, err := filesystem.ParseType(found.Type); err == nil && t != d.fstype() {
		return "", fmt.Errorf("it holds %s, not %s: DATA_DISKS=%s=%s:%s takes it as it is", what, d.fstype(), d.want.Name, d.want.Folder, t)
	}
	return "", fmt.Errorf("it holds %s, and only a blank disk is formatted; if that may go, run mkfs.%s on it once", what, d.fstype())
}

func diskNames(r *osapi.Request) string {
	var names []string
	for _, d := range r.Disks {
		if d.Index != r.Root && d.Name != "" {
			names = append(names, d.Name)
		}
	}
	if len(names) == 0 {
		return "none has a name"
	}
	return "there is " + strings.Join(names, ", ")
}

func (o *Order) hasData(context.Context) (bool, string) {
	found, missing := o.dataDisks()
	switch {
	case len(found) > 0:
		return true, ""
	case len(missing) > 0:
		return false, "the instance has no disk named " + strings.Join(missing, " or ")
	}
	return false, "DATA_DISKS is not set"
}

func (o *Order) describeData() string {
	var texts []string
	found, _ := o.dataDisks()
	for _, d := range found {
		texts = append(texts, fmt.Sprintf("%s on %s", d.want.Name, d.want.Folder))
	}
	return strings.Join(texts, ", ")
}

// dataAsItIs says what is known of each data disk.
func (o *Order) dataAsItIs(ctx context.Context) (string, error) {
	var texts []string
	var errs []error
	var others []*dataDisk
	found, missing := o.dataDisks()
	for _, d := range found {
		err := d.checkPath(o, others)
		var size int64
		if err == nil && !o.Fresh {
			size, err = lookAt(d.path, !d.readOnly)
		}
		if err == nil && !o.Fresh {
			err = d.check(ctx, o, others, d.path, size)
		}
		switch {
		case err != nil:
			errs = append(errs, err)
		case d.uuid == "":
			texts = append(texts, fmt.Sprintf("%v: blank, gets %s", d, d.fstype()))
		default:
			texts = append(texts, fmt.Sprintf("%v: %s with UUID %s, %s", d, d.fstype(), d.uuid, d.how()))
		}
		others = append(others, d)
	}
	for _, name := range missing {
		texts = append(texts, "no disk is named "+name)
	}
	return strings.Join(texts, "; "), errors.Join(errs...)
}

// makeData makes the filesystems of the data disks that are blank.
func makeData(ctx context.Context, s *session.Session, o *Order, data []*dataDisk) error {
	for _, d := range data {
		if d.uuid != "" {
			tell.Info(ctx, "%v: its %s with UUID %s is %s", d, d.fstype(), d.uuid, d.how())
			continue
		}
		l, err := attachDisk(ctx, s, d.disk, false)
		if err != nil {
			return err
		}
		spec := filesystem.Spec{Type: d.fstype(), Device: l.Path, Suite: o.Settings.Suite}
		if d.uuid, err = filesystem.Make(ctx, spec); err != nil {
			err = fmt.Errorf("%v: %w", d, err)
			if blank := filesystem.BlankAgain(l.Path); blank != nil {
				err = errors.Join(err, fmt.Errorf("it was blank, and holds what is begun of a filesystem now: %w", blank))
			}
			return err
		}
		l.Unlock()
		tell.Info(ctx, "%v: blank until now, has %s with UUID %s", d, d.fstype(), d.uuid)
	}
	return nil
}

// dataMounts is what the guest's fstab is told of the data disks.
func dataMounts(data []*dataDisk) (mounts []guest.Mount) {
	for _, d := range data {
		options, pass := filesystem.DataFstabOptions(d.fstype(), d.readOnly)
		mounts = append(mounts, guest.Mount{UUID: d.uuid, Folder: d.want.Folder, Filesystem: d.want.Filesystem, Options: options, Pass: pass})
	}
	return mounts
}
