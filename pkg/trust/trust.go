// Package trust says who could change a file that this program runs as root, or
// puts into guests. The rule is the same for settings, hooks and the cache.
package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Refused says that others could change what is used as root.
type Refused struct{ why []string }

func (e *Refused) Error() string { return strings.Join(e.why, "; ") }

// maxLinks is how many symbolic links a path may lead through, as the kernel counts
// them.
const maxLinks = 40

// Check looks at what a path leads to, at every folder above it, and at the links in
// it. What everybody can write to is an error, a *Refused. What a group can write to,
// or what belongs to a user who is neither root nor who runs this, is a warning; with
// strict it is an error too. A folder with the sticky bit (/tmp) keeps others from
// replacing what is in it, so it is not held against what is below it. A path that
// doesn't exist is an error that wraps fs.ErrNotExist.
func Check(path string, strict bool) (warnings []string, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	w := walk{strict: strict, at: "/"}
	return w.to(path)
}

// CheckIn is Check for a name in a folder that has been checked.
func CheckIn(dir, name string, strict bool) (warnings []string, err error) {
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	w := walk{strict: strict, at: dir, inside: true}
	return w.to(name)
}

// walk is on its way along a path.
type walk struct {
	strict, inside    bool
	at                string // the folder reached, without links
	warnings, refused []string
}

func (w *walk) to(path string) ([]string, error) {
	rest := names(path)
	if !w.inside {
		if err := w.visit("/", len(rest) == 0); err != nil {
			return nil, err
		}
	}
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			w.at = filepath.Dir(w.at)
			continue
		}
		next := filepath.Join(w.at, name)
		target, err := os.Readlink(next)
		if err != nil { // not a link, or not there
			w.at = next
			if err := w.visit(next, len(rest) == 0); err != nil {
				return nil, err
			}
			continue
		}
		if links++; links > maxLinks {
			return nil, &fs.PathError{Op: "look at", Path: path, Err: syscall.ELOOP}
		}
		st, err := os.Lstat(next)
		if err != nil {
			return nil, err
		}
		w.owner(next, st)
		if filepath.IsAbs(target) {
			w.at = "/"
		}
		rest = append(names(target), rest...)
	}
	if len(w.refused) > 0 {
		return w.warnings, &Refused{w.refused}
	}
	return w.warnings, nil
}

// names are a path's components.
func names(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// visit looks at a file or folder; last says that it is the one that is meant.
func (w *walk) visit(path string, last bool) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	w.owner(path, st)
	const remedy = "see what it holds, then chmod go-w"
	switch mode := st.Mode(); {
	case mode.Type()&^os.ModeDir != 0: // no remedy for /dev/null may be a chmod of it
		w.refused = append(w.refused, path+" is a device, a FIFO or a socket: name a file")
	case !last && mode&os.ModeSticky != 0:
	case mode&0o002 != 0:
		w.refused = append(w.refused, fmt.Sprintf("%s can be written by everybody, who could become root by it: %s %s", path, remedy, path))
	case mode&0o020 != 0:
		w.found("%s can be written by its group, which could become root by it: %s %s", path, remedy, path)
	}
	return nil
}

func (w *walk) owner(path string, st fs.FileInfo) {
	if uid := int(st.Sys().(*syscall.Stat_t).Uid); uid != 0 && uid != os.Getuid() {
		w.found("%s belongs to user %d, who could become root by it: see what it holds, then chown -h root %s", path, uid, path)
	}
}

// found is a fault that only strictness refuses.
func (w *walk) found(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if w.strict {
		w.refused = append(w.refused, text)
	} else {
		w.warnings = append(w.warnings, text)
	}
}

// IsRefused reports whether an error is one of what others could change.
func IsRefused(err error) bool {
	var refused *Refused
	return errors.As(err, &refused)
}
