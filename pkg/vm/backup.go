package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"instance-debootstrap/pkg/backup"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/network"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/transport"
)

// Backup is what export wrote of a guest's first disk, of which a guest is made.
type Backup struct {
	Path      string
	SizeBytes int64    // of the disk
	Firmwares []string // bios, uefi: what it starts by
}

// ReadBackup reads the beginning of a backup, and refuses one that makes no guest.
func ReadBackup(ctx context.Context, path string) (*Backup, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stream, err := transport.Open(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m := stream.Manifest
	if err := stream.Close(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	b := &Backup{Path: path, SizeBytes: m.Disk.SizeBytes}
	if strings.HasPrefix(m.BootLoader, "grub-bios") {
		b.Firmwares = append(b.Firmwares, "bios")
	}
	if strings.HasSuffix(m.BootLoader, "efi") {
		b.Firmwares = append(b.Firmwares, "uefi")
	}
	switch {
	case stream.Kind != transport.Ours:
		return nil, fmt.Errorf("%s is %s: only a backup that export wrote says how large a disk it needs (a volume that was saved comes back by virsh vol-upload, see Backups in docs/vm.md; under Ganeti, import takes it)", path, stream.Kind)
	case m.Role != "root":
		return nil, fmt.Errorf("%s is the backup of a disk of the role %s: a guest is made of that of its first disk", path, m.Role)
	case len(b.Firmwares) == 0 || m.Disk.Style != string(partition.StyleMSDOS) && m.Disk.Style != string(partition.StyleGPT):
		return nil, fmt.Errorf("%s is the backup of a disk that doesn't start by itself: a guest is made of one with a partition table and GRUB", path)
	}
	return b, nil
}

// backupSteps is the recipe for a guest that is made of a backup.
func (v *making) backupSteps() []session.Step {
	return []session.Step{
		v.nodeStep(),
		v.volumesStep(),
		{Name: "import the backup", Detail: v.Backup.Path, Run: v.importBackup},
		{Name: "give the guest its own identity", Detail: v.Order.Request.InstanceName, Run: v.settleBackup},
	}
}

// importBackup makes the disk of the backup, with UUIDs of its own.
func (v *making) importBackup(ctx context.Context) error {
	in, err := os.Open(v.Backup.Path)
	if err != nil {
		return err
	}
	set := *v.Order.Settings
	set.ImportUUID = "new"
	return errors.Join(backup.Import(ctx, v.session, v.Order.Request, &set, backup.Beside(ctx, v.Order.Request, backup.ByPath), in, func() {}), in.Close())
}

// settleBackup gives what came from the backup, which is a guest's, its own name, machine
// id and MAC addresses, and the keys that may log in; its ssh server's keys are noted down.
func (v *making) settleBackup(ctx context.Context) error {
	o, mark := v.Order, v.session.Mark()
	d, err := guestdisk.Claim(v.session, o.Request.BlockDev, guestdisk.Fsck(o.Settings.GuestFsck))
	if err != nil {
		return err
	}
	part, err := d.AttachRoot(ctx, "take another backup")
	if err != nil {
		return err
	}
	tree, err := part.MountRepaired(ctx)
	if err != nil {
		return err
	}
	err = guest.Edit(ctx, tree.Dir, func(root *guest.Root) error {
		name, err := root.ReadFile("/etc/hostname", 1<<10)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if old := strings.TrimSpace(string(name)); err == nil && old != "" {
			err = guest.Rename(root, old, o.Request.InstanceName)
		}
		if err == nil {
			err = cmp.Or(v.takesCredentials(root), guest.ResetMachineID(root), v.run.AuthorizeKeys(root))
		}
		if err == nil {
			_, err = guest.RepinNetwork(root, network.BothPins(o.NICs))
		}
		v.run.LookAtHostKeys(ctx, root)
		return err
	})
	return cmp.Or(err, v.session.UndoTo(ctx, mark))
}
