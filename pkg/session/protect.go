package session

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/mounts"
)

// ProtectNode runs a job, and what that starts, with a node that is read-only but for
// target, /dev, and the folders named, each with what is mounted below it. The job must
// start its processes by itself, not in a goroutine of its own: what is read-only is so
// for its thread, in a mount namespace beside this run's (a mount that a file is open
// on for writing can't become read-only, and the disk may be such a file). What the
// job mounts below target, and only that, this run sees too. It keeps root from
// mistakes, not from changing it back.
func (s *Session) ProtectNode(target string, writable []string, job func() error) error {
	if err := unix.Mount("", target, "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share %s with the hooks: %w", target, err)
	}
	err := cell.OnThread(func() error { return apart(target, writable, job) })
	return errors.Join(err, unix.Mount("", target, "", unix.MS_PRIVATE|unix.MS_REC, ""))
}

// apart runs a job in a mount namespace of this thread's own, which ends after it.
func apart(target string, writable []string, job func() error) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("a mount namespace for the hooks: %w", err)
	}
	err := makeReadOnly(target, writable)
	if err == nil {
		err = job()
	}
	// A process that was left in this namespace doesn't keep the guest's filesystem.
	return errors.Join(err,
		unix.Mount("", target, "", unix.MS_PRIVATE|unix.MS_REC, ""),
		unix.Unmount(target, unix.MNT_DETACH))
}

// makeReadOnly makes all mounts read-only but those that stay writable.
func makeReadOnly(target string, writable []string) error {
	list, err := mounts.List("thread-self")
	if err != nil {
		return err
	}
	var changed []string // which were writable
	for _, m := range list {
		dir := m.Point
		if below(dir, target) || below(dir, "/dev") || m.Type == "autofs" { // which mounts something when it is looked at
			continue
		}
		was, err := setReadOnly(dir, true)
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENOTCONN):
			// Hidden below another mount, or another user's: not reached by that path. Or of FUSE, and
			// who served it is gone: nobody can write there.
		case err != nil:
			return fmt.Errorf("make %s read-only: %w", dir, err)
		case !was:
			changed = append(changed, dir)
		}
	}
	for _, dir := range writable {
		if err := openFolder(dir, changed); err != nil {
			return fmt.Errorf("keep %s writable: %w", dir, err)
		}
	}
	return nil
}

// openFolder makes a folder a mount of its own, and writable, and what is mounted
// below it as it was.
func openFolder(dir string, changed []string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	for _, mount := range append([]string{dir}, changed...) {
		if below(mount, dir) {
			if _, err := setReadOnly(mount, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// setReadOnly changes this namespace's mount at dir, which keeps its other flags, and
// tells whether it was read-only.
func setReadOnly(dir string, readOnly bool) (was bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, err
	}
	was = st.Flags&unix.ST_RDONLY != 0
	if was == readOnly {
		return was, nil
	}
	// These have the same bits in statfs(2) and mount(2).
	flags := uintptr(st.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME)
	if st.Flags&unix.ST_RELATIME != 0 {
		flags |= unix.MS_RELATIME
	}
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	return was, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "")
}

// below tells whether a path is the folder or in it.
func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
