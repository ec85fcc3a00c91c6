package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// mountLinks is where admins find the guests that are mounted in paths.MountDir.
const mountLinks = "/mnt"

// mountPoint is the folder that a guest is mounted on, and the link that leads there.
func mountPoint(name string) (dir, link string) {
	return filepath.Join(paths.MountDir, name), filepath.Join(mountLinks, name)
}

// Mount mounts a guest's filesystems for root, in the node's own namespace, and
// returns the link that leads there, /mnt/GUEST: a plain umount of it frees all. They
// are a guest's: without devices, set-user-ID and programs. Running guests are mounted
// only read-only.
func (f *VM) Mount(ctx context.Context, fsck guestdisk.Fsck, readOnly bool) (link string, err error) {
	m := &mounting{VM: f, fsck: fsck, readOnly: readOnly}
	m.dir, m.link = mountPoint(f.Name)
	err = f.session.Do(ctx, []session.Step{
		{Name: "check that it can be mounted", Detail: f.Name, Run: m.checkState},
		{Name: "make the folder", Detail: m.link, Run: m.makeFolder},
		{Name: "mount the root", Detail: f.Disks["root"].Path, Run: func(ctx context.Context) error { return m.mount(ctx, "root", m.dir) }},
		{Name: "mount /boot", Detail: f.Disks["boot"].Path, When: f.hasBoot, Run: func(ctx context.Context) error { return m.mountBelow(ctx, "boot", "/boot") }},
		{Name: "mount its data disks", Detail: strings.Join(f.dataRoles(), ", "), When: f.hasData, Run: m.mountData},
	})
	m.whole = err == nil
	return m.link, err
}

type mounting struct {
	*VM
	fsck     guestdisk.Fsck
	dir      string
	link     string
	readOnly bool
	whole    bool // else what is mounted is unmounted again
}

func (m *mounting) checkState(ctx context.Context) error {
	if _, err := m.rootDisk(); err != nil {
		return err
	}
	if err := m.mustBeWhole(append(m.dataRoles(), "root", "boot")...); err != nil {
		return err
	}
	if !m.readOnly {
		if err := cmp.Or(m.canAnswer("is mounted with --read-only at most"), m.mustBeOff(", or give --read-only"), m.mustNotBeSaved(ctx)); err != nil {
			return err
		}
	} else if m.Running() {
		tell.Warn(ctx, "the guest %s is %s: what is seen is some moments old, and may look damaged", m.Name, m.State)
	}
	if vol := m.Disks["root"]; !vol.IsFile && !m.Running() {
		tell.Warn(ctx, "libvirt gives each guest device nodes of its own, on which nobody's locks are seen: don't start %s before vm umount %s", m.Name, m.Name)
	}
	return m.mustNotBeMounted()
}

func (m *mounting) makeFolder(context.Context) error {
	if err := session.OwnFolder(paths.MountDir, 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(m.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if at, err := os.Readlink(m.link); err != nil || at != m.dir {
		if st, err := os.Lstat(m.link); err == nil && st.IsDir() { // an empty one goes
			os.Remove(m.link)
		}
		if err := os.Symlink(m.dir, m.link); err != nil {
			return errors.Join(fmt.Errorf("%w: move away what is there", err), os.Remove(m.dir))
		}
	}
	m.session.Defer("unmount "+m.dir, func(context.Context) error {
		if m.whole {
			return nil
		}
		return Umount(m.Name)
	})
	return nil
}

// mountBelow mounts a volume on a folder of the guest's tree, whose links lead where they
// lead in the guest, and never to a folder of the node's.
func (m *mounting) mountBelow(ctx context.Context, role, folder string) error {
	top, err := os.Open(m.dir)
	if err != nil {
		return err
	}
	defer top.Close()
	fd, err := unix.Openat2(int(top.Fd()), folder, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return fmt.Errorf("the guest's %q: %w", folder, err)
	}
	defer unix.Close(fd)
	var at, tree unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &at), unix.Fstat(int(top.Fd()), &tree)); err != nil {
		return err
	}
	if at.Dev == tree.Dev && at.Ino == tree.Ino {
		return fmt.Errorf("the guest's %q leads to its root", folder)
	}
	return m.mount(ctx, role, fmt.Sprintf("/proc/self/fd/%d", fd))
}

// mountData mounts the guest's further disks where its fstab has them, by their UUIDs.
func (m *mounting) mountData(ctx context.Context) error {
	var text []byte
	err := guest.Edit(ctx, m.dir, func(root *guest.Root) (err error) {
		text, err = guest.ReadFstab(root)
		return err
	})
	if err != nil {
		return err
	}
	roles := map[string]string{} // by folder
	for _, role := range m.dataRoles() {
		found, err := filesystem.Probe(ctx, m.Disks[role].Path)
		if err != nil {
			return err
		}
		entries := guest.ParseFstab(text)
		at := slices.IndexFunc(entries, func(e guest.FstabEntry) bool {
			return names(e.Device, found) && filepath.IsAbs(e.Dir) && filepath.Clean(e.Dir) != "/"
		})
		if at < 0 {
			tell.Warn(ctx, "volume %s isn't mounted: the guest's fstab has no folder for its UUID or label", m.Disks[role].Name)
			continue
		}
		roles[filepath.Clean(entries[at].Dir)] = role
	}
	for _, folder := range slices.Sorted(maps.Keys(roles)) { // one may be in another
		if err := m.mountBelow(ctx, roles[folder], folder); err != nil {
			return fmt.Errorf("%w; the root alone is mounted by: instance-debootstrap mount %s FOLDER", err, m.Disks["root"].Path)
		}
	}
	return nil
}

// names tells whether a device field of fstab(5) names a filesystem by its UUID or label.
func names(device string, found filesystem.Info) bool {
	kind, value, _ := strings.Cut(strings.NewReplacer(`"`, "", "'", "").Replace(device), "=")
	return kind == "UUID" && found.UUID != "" && strings.EqualFold(value, found.UUID) || kind == "LABEL" && found.Label != "" && value == found.Label
}

// dataRoles are those of the guest's volumes that are for its own use.
func (f *VM) dataRoles() []string {
	return slices.DeleteFunc(f.Roles(), func(role string) bool { return slices.Contains([]string{"boot", "root", "swap"}, role) })
}

func (f *VM) hasData(context.Context) (bool, string) {
	return session.NeededIf(len(f.dataRoles()) > 0, "it has none")
}

// mount mounts one of the guest's volumes.
func (m *mounting) mount(ctx context.Context, role, dir string) error {
	vol := m.Disks[role]
	if _, err := guestdisk.MountOn(ctx, m.session, vol.Path, m.fsck, dir, m.readOnly, m.Running()); err != nil {
		return fmt.Errorf("volume %s: %w", vol.Name, err)
	}
	return nil
}

// Umount unmounts all that Mount mounted, and what is mounted below it, and
// removes the folder and the link.
func Umount(name string) error {
	dir, link := mountPoint(name)
	points, err := mountsOf(name)
	if err == nil { // one that stays may have the guest's links in it, which lead elsewhere from there on
		err = filesystem.UnmountAll(points)
	}
	if errors.Is(err, unix.EBUSY) {
		if users := session.UsersOf(dir); len(users) > 0 {
			err = fmt.Errorf("%s is used by %s: %w", link, strings.Join(users, ", "), err)
		}
	}
	if err != nil {
		return err
	}
	err = os.Remove(dir)
	if errors.Is(err, os.ErrNotExist) && len(points) == 0 {
		return fmt.Errorf("the guest %s is not mounted on %s", name, link)
	}
	if at, _ := os.Readlink(link); err == nil && at == dir {
		err = os.Remove(link)
	}
	return err
}

// tidyMount removes the folder and the link of a guest that a plain umount has freed.
// The caller has the guest's lock.
func tidyMount(name string) {
	dir, link := mountPoint(name)
	points, err := mountsOf(name)
	if err != nil || len(points) > 0 || os.Remove(dir) != nil {
		return
	}
	if at, _ := os.Readlink(link); at == dir {
		os.Remove(link)
	}
}

// mountsOf lists what is mounted on and below a guest's folder, in the order of
// mounting.
func mountsOf(name string) ([]string, error) {
	dir, _ := mountPoint(name)
	if _, err := os.Stat(paths.MountDir); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	points, err := filesystem.MountsBelow(paths.MountDir)
	return slices.DeleteFunc(points, func(p string) bool { return p != dir && !strings.HasPrefix(p, dir+"/") }), err
}

// mustNotBeMounted refuses a guest whose filesystems are mounted for its admin.
func (f *VM) mustNotBeMounted() error {
	points, err := mountsOf(f.Name)
	if len(points) > 0 {
		_, link := mountPoint(f.Name)
		return fmt.Errorf("the guest %s is mounted already on %s: vm umount %s first", f.Name, link, f.Name)
	}
	return err
}
