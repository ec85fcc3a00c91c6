package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/transport"
)

// The steps that rename, export, import and grow share: they work on a disk that a
// guest has written, or is to be given what some guest wrote. Nothing on it is
// trusted.

// claimForReading opens the disk of an export until the end of the run: for
// writing, where that can be done, since a journal may need it.
func (j *Job) claimForReading(path string) error {
	d, err := blockdev.OpenAny(path, paths.LockDir, j.session.HostProc)
	if err != nil {
		return err
	}
	j.disk = d
	j.session.Defer("release "+path, func(context.Context) error { return d.Close() })
	return nil
}

// attachPart puts a loop device over the partition. No table on the disk is ever
// shown to the kernel.
func (j *Job) attachPart(ctx context.Context, p partition.Partition, readOnly bool) error {
	const sector = partition.SectorSize
	l, err := blockdev.AttachWindow(ctx, j.disk.File(), p.StartSector*sector, p.Sectors*sector, readOnly)
	if err != nil {
		return err
	}
	l.Unlock()
	j.loop, j.fsysDev = l, l.Path
	j.session.Defer("detach "+l.Path, func(ctx context.Context) error {
		if readOnly {
			return l.Detach(ctx)
		}
		return errors.Join(l.Sync(), l.Detach(ctx))
	})
	return nil
}

// checkInFull is GUEST_FSCK=full, before the node's kernel mounts what a guest wrote.
func checkInFull(ctx context.Context, s *settings.Settings, device string, t filesystem.Type, readOnly bool) error {
	if s.GuestFsck != "full" {
		return nil
	}
	if err := filesystem.CheckInFull(ctx, device, t, readOnly); err != nil {
		return fmt.Errorf("GUEST_FSCK=full: it isn't mounted: %w", err)
	}
	return nil
}

// mountHostile mounts the attached filesystem, without devices, set-user-ID and
// programs, until the end of the run.
func (j *Job) mountHostile(ctx context.Context, t filesystem.Type, readOnly bool) error {
	if err := checkInFull(ctx, j.Settings, j.fsysDev, t, readOnly); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(j.session.WorkDir, "guest-")
	if err != nil {
		return err
	}
	j.session.Defer("remove "+dir, func(context.Context) error { return os.Remove(dir) })
	o := filesystem.MountOptions{Hostile: true, ReadOnly: readOnly}
	if err := filesystem.MountWith(ctx, j.fsysDev, dir, t, o); err != nil {
		return err
	}
	top, err := os.Open(dir)
	if err != nil {
		return errors.Join(err, filesystem.Unmount(dir))
	}
	j.target = dir
	j.session.Defer("unmount "+dir, func(context.Context) error {
		j.target = ""
		if readOnly {
			return errors.Join(top.Close(), filesystem.Unmount(dir))
		}
		return errors.Join(syncTree(top), filesystem.Unmount(dir))
	})
	return nil
}

// undoTo releases what was attached and mounted since the mark.
func (j *Job) undoTo(ctx context.Context, mark int) error {
	return j.session.UnwindTo(context.WithoutCancel(ctx), mark)
}

// rootOf returns the partition that holds the disk's filesystem, when the disk's
// layout is one that we can take apart, and else why it isn't.
func (j *Job) rootOf() (layout partition.Layout, root partition.Partition, why string) {
	layout, err := partition.Read(j.disk.File(), j.disk.SizeBytes)
	if err != nil {
		return layout, root, err.Error()
	}
	root, ok, why := layout.Ours()
	if ok {
		why = ""
	}
	return layout, root, why
}

// claimRoot opens the disk for rename.
func (j *Job) claimRoot(context.Context) (err error) {
	j.disk, err = j.claim(j.Request.BlockDev)
	return err
}

// findRoot attaches the root filesystem.
func (j *Job) findRoot(ctx context.Context) error {
	_, root, why := j.rootOf()
	if why != "" {
		return fmt.Errorf("disk %s: not a layout of ours (%s): rename the guest from inside", j.disk.Path, why)
	}
	return j.attachPart(ctx, root, false)
}

// mountGuest mounts the attached filesystem for writing: its type from our own
// probe, one of those that we make, after what its own boot would check.
func (j *Job) mountGuest(ctx context.Context) error {
	t, err := j.probeType(ctx)
	if err != nil {
		return err
	}
	if err := filesystem.Repair(ctx, j.fsysDev, t); err != nil {
		return err
	}
	return j.mountHostile(ctx, t, false)
}

// fillDevice makes the attached filesystem, which has been checked, as large as
// its partition.
func (j *Job) fillDevice(ctx context.Context, t filesystem.Type) error {
	dir, err := os.MkdirTemp(j.session.WorkDir, "grow-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	return filesystem.Grow(ctx, j.fsysDev, t, dir)
}

// probeType returns the type of the attached filesystem.
func (j *Job) probeType(ctx context.Context) (filesystem.Type, error) {
	found, err := filesystem.Probe(ctx, j.fsysDev)
	if err != nil {
		return "", err
	}
	t, err := filesystem.ParseType(found.Type)
	if err != nil {
		return "", fmt.Errorf("disk %s holds %s, and only ext2, ext3, ext4, xfs and btrfs are mounted", j.disk.Path, found)
	}
	return t, nil
}

func warn(ctx context.Context, format string, args ...any) {
	zerolog.Ctx(ctx).Warn().Msgf(format, args...)
}

func info(ctx context.Context, format string, args ...any) {
	zerolog.Ctx(ctx).Info().Msgf(format, args...)
}

// orLoss takes the word of who moved a tree: what it lost of the files' attributes ends
// the run, or is one warning, as the settings say. what is the tree, for the message.
func (j *Job) orLoss(ctx context.Context, what string, err error) error {
	loss, ok := err.(*transport.LossError) //nolint:errorlint // one that is a part of another failure doesn't count
	switch {
	case !ok:
		return err
	case j.Settings.MetadataLoss == "warn":
		warn(ctx, "%s is incomplete: %v", what, loss)
		return nil
	}
	return fmt.Errorf("%s would be incomplete: %w: METADATA_LOSS=warn goes on all the same", what, loss)
}

// firstError returns the first of the errors that isn't nil, which the others
// follow from.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// unless is whether a step is needed, and why it isn't.
func unless(needed bool, whyNot string) (bool, string) {
	if needed {
		whyNot = ""
	}
	return needed, whyNot
}
