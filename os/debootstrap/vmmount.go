package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
)

// mountFolder is where guests are mounted for their admins.
const mountFolder = "/mnt"

// MountVM mounts a guest's filesystems on /mnt/GUEST, in the node's own namespace:
// a plain umount frees all. They are a guest's: without devices, set-user-ID and
// programs. Running guests are mounted only read-only.
func MountVM(ctx context.Context, s *session.Session, set *settings.Settings, virsh libvirt.Virsh, name string, readOnly bool) (dir string, err error) {
	f, err := openVM(ctx, s, virsh, name)
	if err != nil {
		return "", err
	}
	m := &vmMount{Found: f, session: s, settings: set, dir: filepath.Join(mountFolder, name), readOnly: readOnly}
	err = s.Do(ctx, []session.Step{
		{Name: "see that it may be mounted", Detail: name, Run: m.checkState},
		{Name: "make the folder", Detail: m.dir, Run: m.makeFolder},
		{Name: "mount the root", Detail: f.Disks["root"].Path, Run: m.mountRoot},
		{Name: "mount /boot", Detail: f.Disks["boot"].Path, When: f.hasBoot, Run: m.mountBoot},
	})
	m.whole = err == nil
	return m.dir, err
}

type vmMount struct {
	*Found
	session  *session.Session
	settings *settings.Settings
	dir      string
	readOnly bool
	whole    bool // else what is mounted is unmounted again
}

func (m *vmMount) checkState(ctx context.Context) error {
	if _, err := m.rootDisk(); err != nil {
		return err
	}
	if err := m.mustBeWhole("root", "boot"); err != nil {
		return err
	}
	if !m.readOnly {
		if err := firstError(m.mustBeOff(", or give --read-only"), m.mustNotBeSaved(ctx)); err != nil {
			return err
		}
	} else if m.Running() {
		warn(ctx, "the guest %s is %s: what is seen is some moments old, and may look damaged", m.Name, m.State)
	}
	return m.mustNotBeMounted()
}

func (m *vmMount) makeFolder(context.Context) error {
	if err := os.Mkdir(m.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	m.session.Defer("unmount "+m.dir, func(context.Context) error {
		if m.whole {
			return nil
		}
		return UmountVM(m.Name)
	})
	return nil
}

func (m *vmMount) mountRoot(ctx context.Context) error { return m.mount(ctx, "root", m.dir) }

// mountBoot mounts /boot, which in the guest may be a link to a folder of the node's.
func (m *vmMount) mountBoot(ctx context.Context) error {
	top, err := os.Open(m.dir)
	if err != nil {
		return err
	}
	defer top.Close()
	fd, err := unix.Openat2(int(top.Fd()), "boot", &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return fmt.Errorf("the guest's /boot: %w", err)
	}
	defer unix.Close(fd)
	return m.mount(ctx, "boot", fmt.Sprintf("/proc/self/fd/%d", fd))
}

// mount mounts one of the guest's volumes.
func (m *vmMount) mount(ctx context.Context, role, dir string) error {
	vol := m.Disks[role]
	if err := mountDisk(ctx, m.settings, vol.Path, dir, m.readOnly, m.Running()); err != nil {
		return fmt.Errorf("volume %s: %w", vol.Name, err)
	}
	return nil
}

// UmountVM unmounts all that is mounted on and below /mnt/GUEST, and removes the
// folder.
func UmountVM(name string) error {
	dir := filepath.Join(mountFolder, name)
	points, err := mountsOf(name)
	for _, point := range slices.Backward(points) {
		err = firstError(err, filesystem.Unmount(point))
	}
	if err != nil {
		return err
	}
	err = os.Remove(dir)
	if errors.Is(err, os.ErrNotExist) && len(points) == 0 {
		return fmt.Errorf("the guest %s is not mounted on %s", name, dir)
	}
	return err
}

// mountsOf lists what is mounted on and below /mnt/GUEST, in the order of mounting.
func mountsOf(name string) ([]string, error) {
	dir := filepath.Join(mountFolder, name)
	points, err := bootstrap.MountsBelow(mountFolder)
	return slices.DeleteFunc(points, func(p string) bool { return p != dir && !strings.HasPrefix(p, dir+"/") }), err
}

// mustNotBeMounted refuses a guest whose filesystems are mounted for its admin.
func (f *Found) mustNotBeMounted() error {
	points, err := mountsOf(f.Name)
	if len(points) > 0 {
		return fmt.Errorf("the guest %s is mounted already on %s: vm umount %s first", f.Name, points[0], f.Name)
	}
	return err
}
