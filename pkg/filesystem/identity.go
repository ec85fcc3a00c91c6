package filesystem

import (
	"context"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/command"
)

// Adopt gives an unmounted filesystem this UUID, unless it has it. A btrfs is
// made and filled under another and adopts it last: kernels before 6.7 can't
// tell two by one UUID apart while either is mounted.
func Adopt(ctx context.Context, device string, t Type, uuid string) error {
	found, err := Probe(ctx, device)
	if err != nil {
		return err
	}
	if strings.EqualFold(found.UUID, uuid) {
		return nil
	}
	args := []string{"tune2fs", "-U", uuid, device}
	switch t {
	case XFS:
		args = []string{"xfs_admin", "-U", uuid, device}
	case Btrfs:
		args = []string{"btrfstune", "-f", "-U", uuid, device}
	}
	if err := command.Run(ctx, command.Cmd{Args: args, In: writing(device), Quiet: true}); err != nil {
		return fmt.Errorf("give %s the UUID %s: %w", device, uuid, err)
	}
	if t == Btrfs {
		forget(device)
	}
	return nil
}

// btrfsForget is BTRFS_IOC_FORGET_DEV of linux/btrfs.h: _IOW(0x94, 5, struct
// btrfs_ioctl_vol_args), a __s64 and a path of 4088 bytes.
const btrfsForget = 1<<30 | 4096<<16 | 0x94<<8 | 5

// forget takes an unmounted device out of the kernel's list of btrfs devices,
// where another with the same UUID would be in its way. Where there is none it
// does nothing.
func forget(device string) {
	f, err := os.OpenFile("/dev/btrfs-control", os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_ = btrfsCall(f, btrfsForget, device)
}

// btrfsCall makes a request of btrfs that has struct btrfs_ioctl_vol_args.
func btrfsCall(f *os.File, request uintptr, name string) unix.Errno {
	var args struct {
		fd   int64
		name [4088]byte
	}
	copy(args.name[:len(args.name)-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&args)))
	return errno
}
