package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/cell"
)

// What one file of a tree may take, so that whoever reads the tar can hold it.
const (
	// MaxPath is the longest path in a tar, in bytes. A path is as long as a guest's
	// user likes to nest folders, and each of a tar's members has all of its own; see
	// Shortcuts for how long they may be.
	MaxPath = 24 << 10
	// maxAttributes is how much the extended attributes of one file may take. Of
	// values of 64 KiB, the kernel's most, that is 480.
	maxAttributes = 30 << 20
	// longestName is what GNU tar is given as a path at once: the kernel takes 4096 bytes
	// (PATH_MAX, with its end), and for attributes tar puts "/proc/self/fd/N/" before it.
	longestName = 4096 - 64
	// longestList is what the kernel gives as a list of attributes (XATTR_LIST_MAX).
	longestList = 64 << 10
	// longestValue is the most that one attribute has (XATTR_SIZE_MAX).
	longestValue = 64 << 10
)

// Found is what Survey found in a tree.
type Found struct {
	Unfit    string // why the tree can't be a tar; "" is none
	Deep     bool   // it has paths that are longer than the kernel takes at once
	ACLs     int    // files and folders with POSIX ACLs
	FirstACL string // the name of one of these
}

// Survey walks the tree below dir, which nobody changes, on its one filesystem. The
// memory that it takes grows with the depth of the tree only. It ends at what is
// Unfit: the rest isn't looked at then.
func Survey(ctx context.Context, dir string) (Found, error) {
	s := &survey{ctx: ctx, list: make([]byte, longestList), entries: make([]byte, 32<<10)}
	err := cell.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil { // the working folder is the thread's own now
			return err
		}
		return s.walk(dir)
	})
	if errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EIO) {
		return Found{}, fmt.Errorf("look through its files: %w: the filesystem is damaged: have its guest check it", err)
	}
	if err != nil && !errors.Is(err, errUnfit) {
		return Found{}, fmt.Errorf("look through %s: %w", dir, err)
	}
	return s.Found, nil
}

// errUnfit ends a walk early.
var errUnfit = errors.New("unfit")

type survey struct {
	Found
	ctx     context.Context
	list    []byte
	entries []byte
	name    []byte // of the folder where the walk is, from the top: "./a/b"
	above   []place
	held    int64 // bytes of the attributes of the folders where the walk is
}

// place is where the walk goes on in a folder further up.
type place struct {
	offset  int64 // the folder's next entry
	nameLen int
	held    int64 // bytes of the attributes of the one below, where the walk went
}

func (s *survey) walk(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { unix.Close(fd) }()
	s.name = append(s.name, '.')
	if err := unix.Fchdir(fd); err != nil {
		return err
	}
	if _, err := s.look(".", len(s.name), true); err != nil {
		return err
	}
	for {
		down, err := s.folder(fd)
		if err != nil {
			return err
		}
		next := "."
		switch {
		case down != "":
			next = down
		case len(s.above) == 0:
			return nil
		default:
			next = ".."
		}
		child, err := unix.Openat(fd, next, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		unix.Close(fd)
		fd = child
		if err := unix.Fchdir(fd); err != nil {
			return err
		}
		if next == ".." {
			back := s.above[len(s.above)-1]
			s.above, s.name, s.held = s.above[:len(s.above)-1], s.name[:back.nameLen], s.held-back.held
			if _, err := unix.Seek(fd, back.offset, unix.SEEK_SET); err != nil {
				return err
			}
		}
	}
}

// folder looks at entries from where the folder is read, up to one that is a folder
// itself, which it names, and notes where to go on after that; "" is the end.
func (s *survey) folder(fd int) (down string, err error) {
	for {
		if err := context.Cause(s.ctx); err != nil {
			return "", err
		}
		n, err := unix.Getdents(fd, s.entries)
		if err != nil || n == 0 {
			return "", err
		}
		for e := range entriesIn(s.entries[:n]) {
			name, kind := e.name, e.kind
			if kind == unix.DT_UNKNOWN {
				var st unix.Stat_t
				if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
					return "", err
				}
				kind = byte(st.Mode & unix.S_IFMT >> 12)
			}
			attributes, err := s.look(name, len(s.name)+1+len(name), kind == unix.DT_DIR)
			if err != nil {
				return "", err
			}
			if kind == unix.DT_DIR {
				if s.held += attributes; s.held > maxHeld {
					return "", s.unfit(name, fmt.Sprintf("it and the folders above it have attributes of more than %d MiB", maxHeld>>20))
				}
				s.above = append(s.above, place{e.next, len(s.name), attributes})
				s.name = append(append(s.name, '/'), name...)
				return name, nil
			}
		}
	}
}

// dirEntry is one of a folder's.
type dirEntry struct {
	name string
	kind byte  // unix.DT_*
	next int64 // where the folder is read on after it
}

// entriesIn are those that getdents64(2) has read, which are linux_dirent64's: inode, offset of
// the next, length, type, name.
func entriesIn(raw []byte) iter.Seq[dirEntry] {
	return func(yield func(dirEntry) bool) {
		for len(raw) > 0 {
			e := raw[:binary.NativeEndian.Uint16(raw[16:])]
			raw = raw[len(e):]
			name, _, _ := bytes.Cut(e[19:], []byte{0})
			if string(name) == "." || string(name) == ".." {
				continue
			}
			if !yield(dirEntry{string(name), e[18], int64(binary.NativeEndian.Uint64(e[8:]))}) {
				return
			}
		}
	}
}

// look is told of everything, with the length of its path; the working folder is
// the one that it is in. Of a folder it returns how many bytes its attributes take.
func (s *survey) look(name string, pathLen int, isFolder bool) (attributes int64, err error) {
	s.Deep = s.Deep || pathLen+1 >= longestName // a folder's has a slash at its end
	if pathLen+1 > MaxPath {
		return 0, s.unfit(name, fmt.Sprintf("its path is longer than %d bytes", MaxPath))
	}
	n, err := unix.Llistxattr(name, s.list)
	switch {
	case errors.Is(err, unix.ENOTSUP):
		return 0, nil
	case errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ERANGE):
		return 0, s.unfit(name, "it has more extended attributes than the kernel can list")
	case err != nil:
		return 0, fmt.Errorf("list the extended attributes of %.200q: %w", s.pathOf(name), err)
	case n == 0:
		return 0, nil
	}
	list := s.list[:n]
	if bytes.Contains(list, []byte("system.posix_acl_")) {
		if s.ACLs++; s.ACLs == 1 {
			s.FirstACL = s.pathOf(name)
		}
	}
	if !isFolder && bytes.Count(list, []byte{0})*longestValue < maxAttributes {
		return 0, nil
	}
	total := 0
	for attribute := range bytes.SplitSeq(bytes.TrimRight(list, "\x00"), []byte{0}) {
		size, err := unix.Lgetxattr(name, string(attribute), nil)
		if err != nil {
			return 0, fmt.Errorf("the size of attribute %.200q of %.200q: %w", attribute, s.pathOf(name), err)
		}
		const around = 32 // what else a record of pax has
		if total += size + len(attribute) + around; total > maxAttributes {
			return 0, s.unfit(name, fmt.Sprintf("its extended attributes have more than %d MiB", maxAttributes>>20))
		}
	}
	return int64(total), nil
}

func (s *survey) unfit(name, why string) error {
	path := s.pathOf(name)
	s.Unfit = fmt.Sprintf("%.200q: %s", path, why)
	return errUnfit
}

func (s *survey) pathOf(name string) string {
	if name == "." {
		return string(s.name)
	}
	return string(s.name) + "/" + name
}
