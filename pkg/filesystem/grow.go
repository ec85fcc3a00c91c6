package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
)

// Grow makes an unmounted filesystem as large as its device. ext* must have been
// checked in full (RepairForeign). dir is an empty folder.
//
// xfs and btrfs grow while they are mounted, as a guest's filesystem is, and
// their logs keep them whole whatever happens meanwhile. So do ext3 and ext4
// where the kernel lets this process (CAP_SYS_RESOURCE); else, and for ext2,
// resize2fs(8) changes them in place, which a SIGTERM doesn't interrupt.
func Grow(ctx context.Context, device string, t Type, dir string) error {
	var err error
	switch {
	case t == XFS:
		err = growXFS(ctx, device, dir)
	case t == Btrfs:
		err = growBtrfs(ctx, device, dir)
	default:
		err = growExt(ctx, device, t, dir)
	}
	if err != nil {
		return fmt.Errorf("grow the %s on %s: %w", t, device, err)
	}
	return nil
}

func growExt(ctx context.Context, device string, t Type, dir string) error {
	resize := command.Cmd{Args: []string{"resize2fs", device}, Quiet: true}
	if t != Ext2 && hasSysResource() {
		err := whileMounted(ctx, device, dir, t, func() error {
			mounted := resize
			mounted.In = &cell.Place{Disk: device, Folder: dir}
			return command.Run(ctx, mounted)
		})
		if err == nil || ctx.Err() != nil {
			return err
		}
		zerolog.Ctx(ctx).Info().Msgf("the kernel does not grow the mounted %s: %v; it is done unmounted", t, err)
	}
	resize.In, resize.Group = writing(device), true
	return command.Run(context.WithoutCancel(ctx), resize)
}

// whileMounted does something to a filesystem of a guest's while it is mounted on dir.
func whileMounted(ctx context.Context, device, dir string, t Type, do func() error) error {
	if err := MountWith(ctx, device, dir, t, MountOptions{Untrusted: true}); err != nil {
		return err
	}
	return errors.Join(do(), Unmount(dir))
}

// btrfsResize is BTRFS_IOC_RESIZE of linux/btrfs.h, of a struct btrfs_ioctl_vol_args.
var btrfsResize = uintptr(cell.Request(cell.ToKernel, 0x94, 3, 4096))

// growBtrfs asks the kernel itself: btrfs(8) reads trees of the mounted filesystem for
// it, which takes a right to read all of any btrfs that it can see.
func growBtrfs(ctx context.Context, device, dir string) error {
	return whileMounted(ctx, device, dir, Btrfs, func() error {
		top, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer top.Close()
		if errno := btrfsCall(top, btrfsResize, "max"); errno != 0 {
			return errno
		}
		return nil
	})
}

// hasSysResource reports whether the process has CAP_SYS_RESOURCE, without which
// ext4 refuses to be resized while it is mounted (capabilities(7)).
func hasSysResource() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
