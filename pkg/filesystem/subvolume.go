package filesystem

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
)

// Requests of linux/btrfs.h: BTRFS_IOC_SUBVOL_CREATE of a struct btrfs_ioctl_vol_args,
// BTRFS_IOC_INO_LOOKUP, and BTRFS_IOC_DEFAULT_SUBVOL of a subvolume's id.
var (
	btrfsCreate  = uintptr(cell.Request(cell.ToKernel, 0x94, 14, 4096))
	btrfsLookup  = uintptr(cell.Request(cell.ToKernel|cell.FromKernel, 0x94, 18, 4096))
	btrfsDefault = uintptr(cell.Request(cell.ToKernel, 0x94, 19, 8))
)

// MakeSubvolumes makes subvolumes at the top of a fresh btrfs, which it mounts on dir. The
// first becomes the default one: it is what a mount that names none shows.
func MakeSubvolumes(ctx context.Context, device, dir string, names []string) error {
	err := whileMounted(ctx, device, dir, Btrfs, func() error {
		top, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer top.Close()
		for _, name := range names {
			if errno := btrfsCall(top, btrfsCreate, name); errno != 0 {
				return fmt.Errorf("%s: %w", name, errno)
			}
			if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil { // whatever the umask
				return err
			}
		}
		return makeDefault(top, filepath.Join(dir, names[0]))
	})
	if err != nil {
		return fmt.Errorf("make subvolumes on %s: %w", device, err)
	}
	return nil
}

// makeDefault makes a subvolume the default one of the btrfs whose top is open.
func makeDefault(top *os.File, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lookup := struct {
		id, inode uint64
		name      [4080]byte
	}{inode: 256} // BTRFS_FIRST_FREE_OBJECTID, a subvolume's own
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), btrfsLookup, uintptr(unsafe.Pointer(&lookup))); errno != 0 {
		return fmt.Errorf("look for the id of %s: %w", path, errno)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, top.Fd(), btrfsDefault, uintptr(unsafe.Pointer(&lookup.id))); errno != 0 {
		return fmt.Errorf("make %s the default: %w", path, errno)
	}
	return nil
}

var rootReference = pattern.New(`^\s*root backref key dirid \d+ sequence \d+ name (.*)$`)

// Subvolumes lists the names of the subvolumes of a btrfs besides its top one, without the
// folders that they are in, on a device that nobody writes to: its tree of roots refers to them.
func Subvolumes(ctx context.Context, device string) (names []string, err error) {
	lines := &command.LineWriter{Emit: func(line string) {
		if strings.Contains(line, " ROOT_BACKREF ") {
			names = append(names, "")
		} else if m := rootReference().FindStringSubmatch(line); m != nil && len(names) > 0 {
			names[len(names)-1] = m[1]
		}
	}}
	list := []string{"btrfs", "inspect-internal", "dump-tree", "-t", "root", device}
	if err := command.Run(ctx, command.Cmd{Args: list, In: reading(device), Stdout: lines, Quiet: true}); err != nil {
		return nil, fmt.Errorf("list the subvolumes of %s: %w", device, err)
	}
	lines.Flush()
	return names, nil
}
