package guest

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// IsPlain tells whether a path leads, without any link, to a folder or a regular file. One that
// doesn't exist is false without an error; one that leads by a link, or to anything else, is an
// error.
func (r *Root) IsPlain(name string) (there bool, err error) {
	at := ""
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		at += "/" + part
		var st unix.Stat_t
		fd, err := r.open(at, unix.O_PATH|unix.O_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		if err == nil {
			err = unix.Fstat(fd, &st)
			unix.Close(fd)
		}
		if err != nil {
			return false, fail("look at", at, err)
		}
		if mode := st.Mode & unix.S_IFMT; mode != unix.S_IFDIR && (mode != unix.S_IFREG || at != "/"+strings.Trim(name, "/")) {
			return false, fail("look at", at, fmt.Errorf("it is %s", kind(st.Mode)))
		}
	}
	return true, nil
}

// MoveInto moves what has one path to another, which no link may be on the way to; what is
// there takes its place. Folders above that are missing are made, root's.
func (r *Root) MoveInto(from, to string) error {
	there, err := r.IsPlain(to)
	if err != nil {
		return err
	}
	if !there {
		if err := r.MkdirAll(to[:strings.LastIndexByte(to, '/')+1], 0o755); err != nil {
			return err
		}
	}
	fromDir, fromBase, err := r.parent(from)
	if err != nil {
		return fail("move", from, err)
	}
	defer unix.Close(fromDir)
	return r.inFolder("replace", to, func(dir int, base string) error {
		how := uint(unix.RENAME_NOREPLACE)
		if there {
			how = unix.RENAME_EXCHANGE
		}
		return unix.Renameat2(fromDir, fromBase, dir, base, how)
	})
}
