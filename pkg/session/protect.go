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

// ProtectNode is for work on what a guest has written: from then on every mount
// of the node is read-only for this run and its tools, and /dev has no disk in
// it but those that are made there later. What is open already stays so. Should
// a tool be led out of the guest's tree, it finds nothing that it could change.
//
// It does nothing outside namespaces of our own.
func (s *Session) ProtectNode(ctx context.Context) error {
	if !s.Private {
		return nil
	}
	if err := s.smallDev(); err != nil {
		return fmt.Errorf("make a /dev without disks: %w", err)
	}
	err := setReadOnly("/", true)
	if errors.Is(err, unix.ENOSYS) {
		zerolog.Ctx(ctx).Warn().Msg("this kernel is older than 5.12: the node's own tree stays writable for the tools of this run")
		return nil
	}
	for _, dir := range []string{"/dev", paths.RunDir} {
		if err == nil {
			err = setReadOnly(dir, false)
		}
	}
	if err != nil {
		return fmt.Errorf("make the node's tree read-only: %w", err)
	}
	return nil
}

// setReadOnly changes a mount, and all below it (mount_setattr(2)).
func setReadOnly(dir string, on bool) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if !on {
		attr = unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	}
	return unix.MountSetattr(-1, dir, unix.AT_RECURSIVE, &attr)
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
