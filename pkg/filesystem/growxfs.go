package filesystem

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/tell"
)

// XFS_IOC_FSGEOMETRY_V1 and XFS_IOC_FSGROWFSDATA of xfs_fs.h: a struct xfs_fsop_geom_v1 and
// a struct xfs_growfs_data.
var (
	xfsGeometry = uintptr(cell.Request(cell.FromKernel, 'X', 100, 112))
	xfsGrowData = uintptr(cell.Request(cell.ToKernel, 'X', 110, 16))
)

// growXFS grows it mounted. xfs_growfs(8) asks the kernel for nothing where the log has it
// grown already, so that the superblock's copies are written in any case.
func growXFS(ctx context.Context, device, dir string) error {
	grow := command.Cmd{Args: []string{"xfs_growfs", "-d", dir}, In: &cell.Place{Disk: device, Folder: dir}, Quiet: true}
	return onXFS(ctx, device, dir, func() error { return command.Run(ctx, grow) })
}

// RenewCopies has the kernel write the copies of an unmounted xfs's superblock. A power cut
// may have come between them and the superblock: the kernel needs none, but xfs_repair(8)
// takes the size from most of them. dir is an empty folder.
func RenewCopies(ctx context.Context, device, dir string) error {
	return onXFS(ctx, device, dir, func() error { return nil })
}

// onXFS does something to a filesystem while it is mounted, and then has the copies written.
func onXFS(ctx context.Context, device, dir string, do func() error) error {
	return whileMounted(ctx, device, dir, XFS, func() error {
		if err := do(); err != nil {
			return err
		}
		return writeXFSCopies(dir)
	})
}

// writeXFSCopies grows a mounted xfs to the size that it has.
func writeXFSCopies(dir string) error {
	top, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer top.Close()
	var geometry struct {
		_          [7]uint32
		imaxpct    uint32
		datablocks uint64
		_          [72]byte
	}
	var size struct {
		newblocks uint64
		imaxpct   uint32
		_         uint32
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, top.Fd(), xfsGeometry, uintptr(unsafe.Pointer(&geometry))); errno != 0 {
		return fmt.Errorf("ask the xfs for its size: %w", errno)
	}
	size.newblocks, size.imaxpct = geometry.datablocks, geometry.imaxpct
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, top.Fd(), xfsGrowData, uintptr(unsafe.Pointer(&size))); errno != 0 {
		return fmt.Errorf("write the xfs's superblocks: %w", errno)
	}
	return nil
}

// maxXFSGroups bounds how many copies are looked at; a filesystem that has grown by 1024
// has some thousands.
const maxXFSGroups = 1 << 14

// HasStaleCopies tells whether a copy of an unmounted xfs's superblock says another size
// than the superblock.
func HasStaleCopies(ctx context.Context, device string) (bool, error) {
	first, err := xfsFields(ctx, device, "sb 0", "print agcount dblocks")
	if err != nil {
		return false, err
	}
	if len(first) != 2 || first[0] < 1 {
		return false, fmt.Errorf("its xfs claims %v groups and blocks", first)
	}
	if first[0] > maxXFSGroups {
		tell.Info(ctx, "the %d copies of the superblock of its xfs are not looked at", first[0])
		return false, nil
	}
	var commands []string
	for n := int64(1); n < first[0]; n++ {
		commands = append(commands, fmt.Sprintf("sb %d", n), "print dblocks")
	}
	copies, err := xfsFields(ctx, device, commands...)
	for _, blocks := range copies {
		if blocks != first[1] {
			return true, err
		}
	}
	return len(copies) != len(commands)/2, err
}

// xfsFields are the numbers that xfs_db(8) prints, as NAME = NUMBER.
func xfsFields(ctx context.Context, device string, commands ...string) (numbers []int64, err error) {
	args := []string{"xfs_db", "-r"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	if len(commands) == 0 {
		return nil, nil
	}
	out, err := look(ctx, device, args...)
	for line := range strings.Lines(out) {
		if _, value, found := strings.Cut(strings.TrimSpace(line), " = "); found {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				n = -1 // "null"
			}
			numbers = append(numbers, n)
		}
	}
	return numbers, err
}
