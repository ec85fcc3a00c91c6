// Package guest reads and writes the files of a guest system's tree: its names,
// fstab, network, console, root password and machine identity.
//
// The tree is not trusted. Everything goes through a Root, whose paths are
// resolved by the kernel as the guest itself would see them (openat2(2) with
// RESOLVE_IN_ROOT): a link to /etc/shadow, or to ../../../etc/shadow, means the
// guest's. Go's own os.Root is no help here: it refuses every absolute link, and
// guests are full of them.
package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/pattern"
)

// Bounds on what is taken from a guest.
const (
	maxLinks   = 40        // symbolic links in a row, as the kernel counts them
	maxEntries = 10_000    // names in one folder
	maxPaths   = 200_000   // paths that are looked up through one Root
	maxRead    = 512 << 20 // bytes that are read through one Root
)

// Root is a handle on the top folder of a guest's tree. Its paths are the
// guest's own, "/etc/hostname"; links in them are followed inside the tree only,
// never into another filesystem mounted over it, and never to a process's files
// (/proc/N/fd). Content is read from and written to regular files only: a
// device node, FIFO or socket is never opened. Errors of a missing file satisfy
// errors.Is(err, fs.ErrNotExist). Safe for use by several goroutines.
//
// All that is done through one Root has a bound, 200,000 paths and 512 MiB, and ends
// with its context: so has every loop over what a guest brings.
type Root struct {
	fd          int
	grafts      []graft
	ctx         context.Context
	paths, read atomic.Int64
}

// OpenRoot opens the tree whose top folder is dir, for as long as ctx isn't done. It
// needs Linux 5.6.
func OpenRoot(ctx context.Context, dir string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open guest tree %s: %w", dir, err)
	}
	r := &Root{fd: fd, ctx: ctx}
	probe, err := r.open("/", unix.O_PATH)
	if errors.Is(err, unix.ENOSYS) {
		err = errors.New("this node's kernel is too old: Linux 5.6 or newer is needed")
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open guest tree %s: %w", dir, err)
	}
	unix.Close(probe)
	return r, nil
}

// graft is a folder that has a filesystem of its own, which is mounted elsewhere.
type graft struct {
	folder string
	fd     int
}

// Graft has the paths of a folder lead to another one, in which its filesystem is mounted. No
// link leads from the one filesystem to the other.
func (r *Root) Graft(folder, dir string) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s of the guest: %w", folder, err)
	}
	r.grafts = append(r.grafts, graft{folder, fd})
	return nil
}

// at returns the folder from which a path is looked up, and the path from there.
func (r *Root) at(name string) (fd int, path string) {
	name = "/" + strings.TrimLeft(name, "/")
	folder, fd := "", r.fd
	for _, g := range r.grafts {
		if len(g.folder) > len(folder) && strings.HasPrefix(name+"/", g.folder+"/") {
			folder, fd = g.folder, g.fd
		}
	}
	if path = name[len(folder):]; path == "" {
		path = "/"
	}
	return fd, path
}

// Edit opens the tree below a folder for reading and writing its files.
func Edit(ctx context.Context, dir string, edit func(*Root) error) error {
	root, err := OpenRoot(ctx, dir)
	if err != nil {
		return err
	}
	return errors.Join(edit(root), root.Close())
}

// Close releases the handle, which otherwise keeps the tree from being unmounted.
func (r *Root) Close() error {
	if r.fd < 0 {
		return nil
	}
	err := unix.Close(r.fd)
	r.fd = -1
	for _, g := range r.grafts {
		err = errors.Join(err, unix.Close(g.fd))
	}
	r.grafts = nil
	return err
}

// open resolves a path inside the tree. The caller sees to it that the flags
// can't open anything but folders and regular files: O_PATH opens nothing, and
// O_DIRECTORY is checked before the open.
func (r *Root) open(name string, flags uint64) (int, error) {
	if r.ctx.Err() != nil {
		return -1, context.Cause(r.ctx)
	}
	if r.paths.Add(1) > maxPaths {
		return -1, fmt.Errorf("more than %d paths of the guest were to be looked up", maxPaths)
	}
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	from, name := r.at(name)
	for try := 0; ; try++ {
		fd, err := unix.Openat2(from, name, &how)
		// EAGAIN: something was renamed while ".." was resolved (openat2(2)).
		if (err == unix.EAGAIN || err == unix.EINTR) && try < 1000 {
			continue
		}
		return fd, err
	}
}

// parent opens the folder that holds the path's last component, with O_PATH.
func (r *Root) parent(name string) (dir int, base string, err error) {
	trimmed := strings.TrimRight(name, "/")
	cut := strings.LastIndexByte(trimmed, '/') + 1
	base = trimmed[cut:]
	if base == "" || base == "." || base == ".." {
		return -1, "", fmt.Errorf("not the name of a file: %w", unix.EINVAL)
	}
	dir, err = r.open("/"+trimmed[:cut], unix.O_PATH|unix.O_DIRECTORY)
	return dir, base, err
}

// fail names the operation and the guest's file in an error.
func fail(op, name string, err error) error {
	if errors.Is(err, unix.EXDEV) {
		err = fmt.Errorf("it leads into another filesystem, mounted over the tree: %w", err)
	}
	return fmt.Errorf("%s %s in the guest: %w", op, pattern.Plain(name), err)
}

// kind says what an inode is, for error messages.
func kind(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "a regular file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFBLK, unix.S_IFCHR:
		return "a device node"
	}
	return "of an unknown kind"
}

// openRegular opens a regular file for reading. It is reached with O_PATH, looked
// at, and only then opened, through /proc/self/fd: no second lookup of the name,
// so what was looked at is what is opened.
func (r *Root) openRegular(name string) (*os.File, error) {
	fd, err := r.open(name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("it is %s, not a regular file", kind(st.Mode))
	}
	opened, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(opened), name), nil
}

// ReadFile returns a regular file's content; links to it are followed. A file of
// more than limit bytes is an error.
func (r *Root) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := r.openRegular(name)
	if err != nil {
		return nil, fail("read", name, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fail("read", name, err)
	}
	tooLarge := func(n int64) error {
		return fail("read", name, fmt.Errorf("it has %d bytes, more than the %d allowed", n, limit))
	}
	if st.Size() > limit {
		return nil, tooLarge(st.Size())
	}
	if r.read.Add(st.Size()) > maxRead {
		return nil, fail("read", name, fmt.Errorf("more than %d MiB of the guest's files were to be read", maxRead>>20))
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fail("read", name, err)
	}
	if int64(len(data)) > limit {
		return nil, tooLarge(int64(len(data)))
	}
	return data, nil
}

// Stat describes what a path leads to, links followed.
func (r *Root) Stat(name string) (fs.FileInfo, error) { return r.stat("stat", name, 0) }

// Lstat describes a path's last component itself, be it a link.
func (r *Root) Lstat(name string) (fs.FileInfo, error) {
	return r.stat("lstat", name, unix.O_NOFOLLOW)
}

func (r *Root) stat(op, name string, flags uint64) (fs.FileInfo, error) {
	fd, err := r.open(name, unix.O_PATH|flags)
	if err != nil {
		return nil, fail(op, name, err)
	}
	f := os.NewFile(uintptr(fd), path.Base(name))
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fail(op, name, err)
	}
	return st, nil
}

// Exists tells whether a path leads to something; a dangling link doesn't.
func (r *Root) Exists(name string) bool {
	_, err := r.Stat(name)
	return err == nil
}

// anyOf returns the first of the paths that leads to something, or "".
func (r *Root) anyOf(names ...string) string {
	for _, name := range names {
		if r.Exists(name) {
			return name
		}
	}
	return ""
}

// Readlink returns the target of a symbolic link; EINVAL when it isn't one.
func (r *Root) Readlink(name string) (string, error) {
	fd, err := r.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return "", fail("readlink", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", fail("readlink", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", fail("readlink", name, fmt.Errorf("it is %s: %w", kind(st.Mode), unix.EINVAL))
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", fail("readlink", name, err)
	}
	return string(buf[:n]), nil
}

// ReadDir returns the sorted names in a folder, at most 10,000 of them.
func (r *Root) ReadDir(name string) ([]string, error) {
	fd, err := r.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fail("read folder", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := f.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fail("read folder", name, err)
	}
	if len(names) > maxEntries {
		return nil, fail("read folder", name, fmt.Errorf("it has more than %d entries", maxEntries))
	}
	slices.Sort(names)
	return names, nil
}

// Glob returns the sorted names in a folder that match a pattern of path.Match.
// A missing folder has none.
func (r *Root) Glob(dir, glob string) ([]string, error) {
	names, err := r.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := path.Match(glob, ""); err != nil {
		return nil, fail("match "+glob, dir, err)
	}
	return slices.DeleteFunc(names, func(n string) bool {
		ok, _ := path.Match(glob, n)
		return !ok
	}), nil
}
