package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/paths"
)

// plainDevices are the nodes of the small /dev: what tools open besides disks.
var plainDevices = []string{"null", "zero", "full", "random", "urandom", "tty", "loop-control", "btrfs-control"}

// ProtectNode is for work on what a guest has written: from then on this run and
// its tools see the node's tree through read-only mounts, and a /dev that has no
// disk in it but those that are made there later. Should a tool be led out of the
// guest's tree, it finds nothing that it could change. What is open already, the
// disk above all, can still be written to.
//
// It does nothing outside namespaces of our own.
func (s *Session) ProtectNode(ctx context.Context) error {
	if !s.Private {
		return nil
	}
	err := readOnlyTree()
	if errors.Is(err, unix.ENOSYS) {
		zerolog.Ctx(ctx).Warn().Msg("this kernel is older than 5.12: the node's own tree stays writable for the tools of this run")
		err = nil
	}
	if err != nil {
		return fmt.Errorf("make the node's tree read-only: %w", err)
	}
	if err := s.smallDev(); err != nil {
		return fmt.Errorf("make a /dev without disks: %w", err)
	}
	return nil
}

// readOnlyTree puts a copy of all mounts over /, makes the copies read-only, but
// for RunDir, and moves there (open_tree(2), mount_setattr(2)). The mounts
// themselves can't be made read-only while the disk's file is open on one.
func readOnlyTree() error {
	const cloned = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/", cloned)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	all := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &all); err != nil {
		return err
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	if err := unix.Fchdir(tree); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	own := unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	return unix.MountSetattr(unix.AT_FDCWD, paths.RunDir, 0, &own)
}

// smallDev covers /dev with a folder of the plain devices.
func (s *Session) smallDev() error {
	dir := filepath.Join(s.WorkDir, "dev")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0755,size=1m"); err != nil {
		return err
	}
	for _, name := range plainDevices {
		var st unix.Stat_t
		if unix.Stat("/dev/"+name, &st) != nil {
			continue // a kernel without btrfs, most likely
		}
		if err := unix.Mknod(filepath.Join(dir, name), st.Mode, int(st.Rdev)); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return unix.Mount(dir, "/dev", "", unix.MS_MOVE, "")
}

// CanProtectNode reports whether the kernel has what ProtectNode needs to make the
// node's tree read-only: mount_setattr(2), Linux 5.12.
func CanProtectNode() bool {
	// Of no file at all: a kernel that knows the call says so.
	return !errors.Is(unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}), unix.ENOSYS)
}
