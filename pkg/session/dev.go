package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/mounts"
)

// CoverDev covers /dev until restore is called: /dev/disk has these links only,
// paths and what they lead to, whatever the node has there, and what is made in
// /dev stays here. All else is the node's /dev, nodes that come meanwhile
// included. Unlike a mount on /dev/disk it is part of what a hook's
// "mount --bind /dev" shows in the guest's tree.
//
// It does nothing outside namespaces of our own, and fails where the kernel has
// no overlay filesystem.
func (s *Session) CoverDev(links map[string]string) (restore func() error, err error) {
	if !s.Private {
		return func() error { return nil }, nil
	}
	dir := filepath.Join(s.WorkDir, "dev")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	undo := func() error { return errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.Remove(dir)) }
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID, "mode=0700,size=4m"); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	if err := overDev(dir, links); err != nil {
		return nil, errors.Join(fmt.Errorf("an overlay over /dev: %w", err), undo())
	}
	return func() error { return errors.Join(unix.Unmount("/dev", unix.MNT_DETACH), undo()) }, nil
}

// overDev makes the overlay below dir and moves it over /dev.
func overDev(dir string, links map[string]string) error {
	upper, work, merged := dir+"/upper", dir+"/work", dir+"/merged"
	for _, d := range []string{upper, work, merged, upper + "/disk"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	for path, to := range links {
		path = upper + strings.TrimPrefix(path, "/dev")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(to, path); err != nil {
			return err
		}
	}
	// What the node has in this folder is not merged into it.
	if err := unix.Setxattr(upper+"/disk", "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		return err
	}
	if err := unix.Mount("overlay", merged, "overlay", unix.MS_NOSUID, "lowerdir=/dev,upperdir="+upper+",workdir="+work); err != nil {
		return err
	}
	for _, name := range mountsInDev() {
		if err := unix.Mount("/dev/"+name, merged+"/"+name, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return errors.Join(err, unix.Unmount(merged, unix.MNT_DETACH))
		}
	}
	if err := unix.Mount(merged, "/dev", "", unix.MS_MOVE, ""); err != nil {
		return errors.Join(err, unix.Unmount(merged, unix.MNT_DETACH))
	}
	return nil
}

// mountsInDev lists what is mounted in /dev itself, but for /dev/disk: pts, shm and so on.
func mountsInDev() (names []string) {
	list, _ := mounts.List("self")
	for _, m := range list {
		name, inDev := strings.CutPrefix(m.Point, "/dev/")
		if inDev && name != "disk" && !strings.Contains(name, "/") && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
