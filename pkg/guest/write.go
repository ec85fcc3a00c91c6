package guest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// WriteFlag changes how WriteFile treats what is already there.
type WriteFlag uint

const (
	// Reset gives the file root's ownership and the given mode even when an old
	// file had others.
	Reset WriteFlag = 1 << iota
	// Follow writes the file that a link leads to (inside the tree), instead of
	// putting a file in the link's place.
	Follow
	// Durable has the content on the disk before the name leads to it: ext4 may have a file
	// of zeros, or an empty one, after a power cut.
	Durable
)

// WriteFile puts a file with the given content in place, by renaming a temporary
// file of the same folder over it: readers see the old or the new one. An old
// regular file's owner and permissions are kept; a new file is root's, with
// exactly mode's permission bits whatever the umask. A link of that name is
// replaced. Unless it is to be Durable, nothing is synced to disk: the caller syncs the whole
// filesystem.
func (r *Root) WriteFile(name string, data []byte, mode fs.FileMode, flags ...WriteFlag) error {
	var set WriteFlag
	for _, f := range flags {
		set |= f
	}
	if err := r.writeFile(name, data, mode, set); err != nil {
		return fail("write", name, err)
	}
	return nil
}

// Put writes a file, root's, into a folder that may be missing.
func (r *Root) Put(name, text string, mode fs.FileMode, flags ...WriteFlag) error {
	if err := r.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	return r.WriteFile(name, []byte(text), mode, append(flags, Reset)...)
}

func (r *Root) writeFile(name string, data []byte, mode fs.FileMode, set WriteFlag) error {
	if set&Follow != 0 {
		var err error
		if name, err = r.follow(name); err != nil {
			return err
		}
	}
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	old, err := replaceable(dir, base)
	if err != nil {
		return err
	}
	owner := unix.Stat_t{Mode: uint32(mode.Perm())}
	if old.Mode&unix.S_IFMT == unix.S_IFREG && set&Reset == 0 {
		owner = old
	}
	return replaceAt(dir, base, func(tmp string) error { return create(dir, tmp, data, owner, set&Durable != 0) })
}

// replaceable looks at a name that is to be replaced, and refuses what is neither
// a regular file nor a link. The zero Stat_t means that nothing has the name.
func replaceable(dir int, base string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return unix.Stat_t{}, nil
	}
	if err != nil {
		return st, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFLNK:
		return st, nil
	}
	return st, fmt.Errorf("it is %s, not a regular file: remove it", kind(st.Mode))
}

// replaceAt makes something under a temporary name and renames it to base. A
// failure leaves no temporary name behind. Whoever is killed in between leaves it: it is
// the same in each folder, and gone after the next write there, unless a guest has made
// something of that name that isn't a file.
func replaceAt(dir int, base string, build func(tmp string) error) error {
	tmp := ".instance-debootstrap-new"
	if err := unix.Unlinkat(dir, tmp, 0); err != nil && err != unix.ENOENT {
		tmp += rand.Text()
	}
	err := build(tmp)
	if err == nil {
		err = unix.Renameat(dir, tmp, dir, base)
	}
	if err == nil {
		return nil
	}
	if gone := unix.Unlinkat(dir, tmp, 0); gone != nil && gone != unix.ENOENT {
		err = errors.Join(err, fmt.Errorf("remove %s: %w", tmp, gone))
	}
	return err
}

// create writes a new file with the owner and the permission bits of like (set-id
// bits are not taken over).
func create(dir int, name string, data []byte, like unix.Stat_t, durable bool) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(data)
	if err == nil {
		err = unix.Fchown(fd, int(like.Uid), int(like.Gid))
	}
	if err == nil {
		err = unix.Fchmod(fd, like.Mode&0o777)
	}
	if err == nil && durable {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// follow returns the guest's path that a chain of links ends at, which may name
// nothing yet. The result is only ever resolved inside the tree again.
func (r *Root) follow(name string) (string, error) {
	name = strings.TrimRight(name, "/")
	for range maxLinks {
		target, err := r.Readlink(name)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(target, "/") {
			target = name[:strings.LastIndexByte(name, '/')+1] + target
		}
		name = target
	}
	return "", unix.ELOOP
}

// MkdirAll makes a folder and the missing ones above it, root's, with exactly
// mode's permission bits whatever the umask. Existing ones stay as they are.
func (r *Root) MkdirAll(name string, mode fs.FileMode) error {
	at := ""
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			continue
		}
		at += "/" + part
		fd, err := r.open(at, unix.O_PATH|unix.O_DIRECTORY)
		if err == nil {
			unix.Close(fd)
			continue
		}
		if errors.Is(err, unix.ENOENT) {
			err = r.mkdir(at, mode)
		}
		if err != nil {
			return fail("make folder", at, err)
		}
	}
	return nil
}

func (r *Root) mkdir(name string, mode fs.FileMode) error {
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := unix.Mkdirat(dir, base, 0o700); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("it is a link to nothing: %w", err)
		}
		return err
	}
	fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return errors.Join(unix.Fchown(fd, 0, 0), unix.Fchmod(fd, uint32(mode.Perm())))
}

// inFolder does something to a name in the folder that holds it.
func (r *Root) inFolder(op, name string, do func(dir int, base string) error) error {
	dir, base, err := r.parent(name)
	if err == nil {
		defer unix.Close(dir)
		err = do(dir, base)
	}
	if err != nil {
		return fail(op, name, err)
	}
	return nil
}

// Symlink makes a symbolic link, in place of a regular file or link of that name.
// The target is stored as given; it need not exist.
func (r *Root) Symlink(target, name string) error {
	return r.inFolder("link", name, func(dir int, base string) error {
		if _, err := replaceable(dir, base); err != nil {
			return err
		}
		return replaceAt(dir, base, func(tmp string) error { return unix.Symlinkat(target, dir, tmp) })
	})
}

// SetModTime sets the time at which a file was changed.
func (r *Root) SetModTime(name string, t time.Time) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(t.UnixNano())}
	return r.inFolder("set the time of", name, func(dir int, base string) error {
		return unix.UtimesNanoAt(dir, base, times, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Remove removes a file, link or node, never a folder.
func (r *Root) Remove(name string) error {
	return r.inFolder("remove", name, func(dir int, base string) error { return unix.Unlinkat(dir, base, 0) })
}

// removeAll removes those of the files that are there.
func (r *Root) removeAll(names ...string) error {
	var errs []error
	for _, name := range names {
		if err := r.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
