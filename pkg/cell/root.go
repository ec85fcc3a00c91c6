package cell

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// base is where a cell's root is made: a folder that every node has and in which
// nothing lies that a tool is given. It is covered in the thread's own mount
// namespace only.
const base = "/sys"

// searchPath is where programs that a tool starts are looked for.
var searchPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// libraries are the folders, or links, in which ld.so(8) finds what programs of the
// distribution need, and its own list of them.
var libraries = []string{"/lib", "/lib32", "/lib64", "/libx32", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/etc/ld.so.cache"}

// plainDevices are the device nodes that a cell has: major, minor.
var plainDevices = map[string]uint64{"null": unix.Mkdev(1, 3), "urandom": unix.Mkdev(1, 9)}

// fuseDevice is opened before it is asked whether one may mount; alone it leads nowhere.
var fuseDevice = unix.Mkdev(10, 229)

const sealed = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// makeRoot makes the cell's root and moves the thread there; the node's tree is
// gone from its mount namespace after that.
func makeRoot(program string, n needs, p Place) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", base, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0755,size=1m"); err != nil {
		return fmt.Errorf("mount its root: %w", err)
	}
	if err := furnish(program, n, p); err != nil {
		return err
	}
	var err error = unix.EBUSY
	for try := 0; errors.Is(err, unix.EBUSY) && try < 1000; try++ {
		// A process that another thread is just starting has what was written here open,
		// until it is another program.
		time.Sleep(time.Duration(min(try, 5)) * time.Millisecond)
		err = unix.Mount("", base, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NOEXEC, "")
	}
	if err != nil {
		return fmt.Errorf("make its root read-only: %w", err)
	}
	return moveTo(base)
}

// furnish puts into the root what the tool may reach.
func furnish(program string, n needs, p Place) error {
	const readOnly = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV
	if err := show(program, readOnly); err != nil {
		return err
	}
	shown := append([]string{interpreter(program)}, libraries...)
	for _, dir := range searchPath {
		for _, name := range n.with {
			shown = append(shown, filepath.Join(dir, name))
		}
	}
	if strings.HasPrefix(program, "/usr/local/") {
		shown = append(shown, "/usr/local/lib")
	}
	for _, path := range shown {
		if err := show(path, readOnly); path != "" && err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for name, number := range plainDevices {
		if err := node("/dev/"+name, unix.S_IFCHR|0o666, number); err != nil {
			return err
		}
	}
	if n.serves {
		if err := node("/dev/fuse", unix.S_IFCHR|0o600, fuseDevice); err != nil {
			return err
		}
	}
	if err := showFolder(p); err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(p.Shown)) { // they may be in the folder, and in each other
		if err := bind(p.Shown[path], path, readOnly); err != nil {
			return err
		}
	}
	for path, content := range p.Files {
		if err := write(path, content); err != nil {
			return err
		}
	}
	return showDisk(p)
}

func write(path, content string) error {
	if err := os.MkdirAll(filepath.Dir(base+path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(base+path, []byte(content), 0o644)
}

// mountsOf is the part of the node's list of mounts (proc_pid_mounts(5)) that is
// about one disk: mkfs and its like refuse one that is mounted.
func mountsOf(disk unix.Stat_t) (lines string, err error) {
	list, err := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(list)) {
		source, _, _ := strings.Cut(line, " ")
		var st unix.Stat_t
		if strings.HasPrefix(source, "/") && unix.Stat(source, &st) == nil && st.Mode&unix.S_IFMT == disk.Mode&unix.S_IFMT && st.Rdev == disk.Rdev && st.Rdev != 0 {
			lines += line
		}
	}
	return lines, err
}

// interpreter is the program that a script names in its first line (execve(2)); ""
// is none.
func interpreter(program string) string {
	f, err := os.Open(program)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 256)
	count, _ := f.Read(head)
	line, _, _ := strings.Cut(string(head[:count]), "\n")
	fields := strings.Fields(strings.TrimPrefix(line, "#!"))
	if !strings.HasPrefix(line, "#!") || len(fields) == 0 {
		return ""
	}
	return fields[0]
}

func showFolder(p Place) error {
	if p.Folder == "" {
		return nil
	}
	if p.ReadOnly {
		return show(p.Folder, sealed|unix.MS_RDONLY)
	}
	return show(p.Folder, sealed)
}

// showDisk makes a node of the block device's number, which can't have become
// another, or shows the image file that the path leads to. Its owner is root, and
// no tool that gets a disk read-only may override modes.
func showDisk(p Place) error {
	var st, shown unix.Stat_t
	if p.Disk == "" {
		return nil
	}
	if err := unix.Stat(p.Disk, &st); err != nil {
		return fmt.Errorf("disk %s: %w", p.Disk, err)
	}
	mounts, err := mountsOf(st)
	if err != nil {
		return err
	}
	for _, list := range []string{"/proc/mounts", "/proc/self/mounts", "/etc/mtab"} {
		if err := write(list, mounts); err != nil {
			return err
		}
	}
	mode, flags := uint32(0o600), uintptr(sealed)
	if p.ReadOnly {
		mode, flags = 0o400, sealed|unix.MS_RDONLY
	}
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		return node(p.Disk, unix.S_IFBLK|mode, st.Rdev)
	}
	// A descriptor's file belongs to the mount namespace it was opened in: it is
	// found by its name, and has to be the same file.
	err = unix.Stat(p.real, &shown)
	if err == nil && p.real != p.Disk && (shown.Dev != st.Dev || shown.Ino != st.Ino) {
		err = errors.New("another file has its name")
	}
	if err == nil {
		err = bind(p.real, p.Disk, flags)
	}
	if err == nil {
		err = unix.Stat(base+p.Disk, &shown)
	}
	if err == nil && (shown.Dev != st.Dev || shown.Ino != st.Ino) {
		err = errors.New("it became another file")
	}
	if err != nil {
		return fmt.Errorf("disk %s: %w", p.Disk, err)
	}
	return nil
}

// realPath follows links, those of /proc too: of a file that has no name any longer
// what it had, with " (deleted)" behind it.
func realPath(path string) string {
	if to, err := os.Readlink(path); err == nil && strings.HasPrefix(path, "/proc/") {
		return to
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// show has a file or folder of the node in the root, at the same path. A link in
// one of the folders above it is a folder there; a link to a folder stays one.
func show(path string, flags uintptr) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	to, err := os.Readlink(path)
	if target, serr := os.Stat(path); err == nil && serr == nil && target.IsDir() {
		return symlink(to, path)
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		return bind(realPath(path), path, flags)
	}
	return bind(path, path, flags)
}

func symlink(to, path string) error {
	if err := os.MkdirAll(filepath.Dir(base+path), 0o755); err != nil {
		return err
	}
	return os.Symlink(to, base+path)
}

// bind shows from, a file or folder of the node, at path in the root.
func bind(from, path string, flags uintptr) error {
	if filepath.Clean(path) != path {
		return fmt.Errorf("show %s: not a plain path", path)
	}
	st, err := os.Stat(from)
	if err != nil {
		return err
	}
	at := base + path
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	if st.IsDir() {
		err = os.Mkdir(at, 0o755)
	} else {
		err = os.WriteFile(at, nil, 0o600)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := unix.Mount(from, at, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show %s: %w", path, err)
	}
	if err := unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
		return fmt.Errorf("seal %s: %w", path, err)
	}
	return nil
}

func node(path string, mode uint32, number uint64) error {
	if err := os.MkdirAll(filepath.Dir(base+path), 0o755); err != nil {
		return err
	}
	if err := unix.Mknod(base+path, mode, int(number)); err != nil {
		return fmt.Errorf("make the node %s: %w", path, err)
	}
	return unix.Chmod(base+path, mode&0o777)
}

// moveTo makes dir, a mount, the root, and the old one unreachable. Where the
// process's root is no mount (after chroot(2)) it can't be exchanged: the new one is
// put over it instead, and the tool has no way to look below (no CAP_SYS_CHROOT, no
// mount(2)).
func moveTo(dir string) error {
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	err := unix.PivotRoot(".", ".")
	if errors.Is(err, unix.EINVAL) {
		if err = unix.Mount(".", "/", "", unix.MS_MOVE, ""); err == nil {
			err = unix.Chroot(".")
		}
	} else if err == nil {
		err = unix.Unmount(".", unix.MNT_DETACH)
	}
	if err != nil {
		return fmt.Errorf("move to its root: %w", err)
	}
	return unix.Chdir("/")
}

// network is a network namespace without a device that is up, for all cells of
// this process: to make one takes longer than all else of a cell.
var network struct {
	sync.Mutex
	ns *os.File
}

// leaveNetwork moves the calling thread there.
func leaveNetwork() error {
	network.Lock()
	defer network.Unlock()
	if network.ns != nil {
		return unix.Setns(int(network.ns.Fd()), unix.CLONE_NEWNET)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	network.ns = ns
	return nil
}
