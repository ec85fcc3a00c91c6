package debootstrap

import (
	"context"
	"fmt"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/session"
)

// Rename changes the host name inside the guest (gnt-instance rename, and after
// every import). The guest has had the disk: nothing on it is trusted.
func Rename(ctx context.Context, s *session.Session, j *Job) error {
	j.begin(s)
	return s.Do(ctx, j.renameSteps())
}

func (j *Job) renameSteps() []session.Step {
	disk := j.Request.BlockDev
	return []session.Step{
		{Name: "claim the disk", Detail: disk, Run: j.claimRoot},
		{Name: "find the root filesystem", Detail: disk, Run: j.findRoot},
		{Name: "mount it", Detail: disk, Run: j.mountGuest},
		{Name: "change the host name", Detail: j.Request.OldInstanceName + " to " + j.Request.InstanceName, Run: j.renameGuest},
		{Name: "unmount, sync and let go of the disk", Detail: disk, Run: j.letGo},
	}
}

func (j *Job) claimRoot(context.Context) (err error) {
	j.disk, err = j.claim(j.Request.BlockDev)
	return err
}

// findRoot maps the disk when its layout is one that create makes: a filesystem
// on all of it, or on its first partition. No other table is shown to the
// kernel, and of this one nothing but our own reading counts.
func (j *Job) findRoot(ctx context.Context) error {
	layout, err := partition.Read(j.disk.File(), j.disk.SizeBytes)
	if err != nil {
		return fmt.Errorf("disk %s: %w", j.disk.Path, err)
	}
	if len(layout.Partitions) > 1 {
		return fmt.Errorf("disk %s has %d partitions: not a layout of ours, rename it from inside", j.disk.Path, len(layout.Partitions))
	}
	partitioned := len(layout.Partitions) == 1
	if j.loop, err = j.attach(ctx, j.disk.File(), partitioned); err != nil {
		return err
	}
	j.fsysDev = j.loop.Path
	if partitioned {
		start, sectors := layout.Root()
		if j.fsysDev, err = j.loop.AddPartition(layout.Partitions[0].Number, start, sectors); err != nil {
			return err
		}
	}
	j.loop.Unlock()
	j.session.Defer("sync "+j.fsysDev, func(context.Context) error { return syncDevice(j.fsysDev) })
	return nil
}

// mountGuest mounts what a guest has written: its type from our own probe, one
// of those that we make, after what its own boot would check; without devices,
// set-user-ID and programs.
func (j *Job) mountGuest(ctx context.Context) error {
	found, err := filesystem.Probe(ctx, j.fsysDev)
	if err != nil {
		return err
	}
	t, err := filesystem.ParseType(found.Type)
	if err != nil {
		return fmt.Errorf("disk %s holds %s, and only ext2, ext3, ext4, xfs and btrfs are mounted", j.disk.Path, found)
	}
	if err := filesystem.Repair(ctx, j.fsysDev, t); err != nil {
		return err
	}
	j.target, err = j.mount(ctx, "target", func(dir string) error {
		return filesystem.MountWith(ctx, j.fsysDev, dir, t, filesystem.MountOptions{Hostile: true})
	})
	return err
}

func (j *Job) renameGuest(context.Context) error {
	return j.inGuest(func(root *guest.Root) error {
		return guest.Rename(root, j.Request.OldInstanceName, j.Request.InstanceName)
	})
}
