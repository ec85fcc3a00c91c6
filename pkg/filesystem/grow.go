package filesystem

import (
	"context"
	"errors"
	"fmt"

	"instance-debootstrap/pkg/command"
)

// Grow makes an unmounted filesystem as large as its device. ext* is checked in
// full for it; xfs and btrfs grow only while they are mounted, on dir, an empty
// folder, as a guest's filesystem is.
func Grow(ctx context.Context, device string, t Type, dir string) error {
	var err error
	switch t {
	case XFS, Btrfs:
		err = growMounted(ctx, device, t, dir)
	default:
		if err = RepairForeign(ctx, device, t); err == nil {
			err = command.Run(ctx, command.Cmd{Args: []string{"resize2fs", device}, Quiet: true})
		}
	}
	if err != nil {
		return fmt.Errorf("grow the %s on %s: %w", t, device, err)
	}
	return nil
}

func growMounted(ctx context.Context, device string, t Type, dir string) error {
	if err := MountWith(ctx, device, dir, t, MountOptions{Hostile: true}); err != nil {
		return err
	}
	args := []string{"xfs_growfs", "-d", dir}
	if t == Btrfs {
		args = []string{"btrfs", "filesystem", "resize", "max", dir}
	}
	err := command.Run(ctx, command.Cmd{Args: args, Quiet: true})
	return errors.Join(err, Unmount(dir))
}
