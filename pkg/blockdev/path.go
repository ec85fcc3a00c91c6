package blockdev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/pattern"
)

// maxLinks is how many symbolic links a path may lead through, as the kernel counts
// them (path_resolution(7)).
const maxLinks = 40

// descriptor is a path of a process's descriptor (proc_pid_fd(5)).
var descriptor = pattern.New(`^/proc/(self|[0-9]+)/fd/[0-9]+$`)

// find leads to what a path names, and opens no device (O_PATH). A link that belongs
// to neither root nor who runs this is an error: its owner could have it lead to
// somebody else's disk, now or between a check and an opening. It is the rule of
// fs.protected_symlinks (proc_sys_fs(5)), for every folder.
func find(path string) (*os.File, error) {
	if descriptor().MatchString(path) { // an open file, which may have no name
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), path), nil
	}
	from := "."
	if strings.HasPrefix(path, "/") {
		from = "/"
	}
	at, err := openFolder(from)
	if err != nil {
		return nil, err
	}
	links := 0
	for left := strings.Split(path, "/"); len(left) > 0; {
		name := left[0]
		left = left[1:]
		if name == "" || name == "." {
			continue
		}
		next, to, err := step(at, name)
		if to == "" {
			at.Close()
			if err != nil {
				return nil, err
			}
			at = next
			continue
		}
		if links++; links > maxLinks {
			at.Close()
			return nil, unix.ELOOP
		}
		left = slices.Concat(strings.Split(to, "/"), left)
		if strings.HasPrefix(to, "/") {
			at.Close()
			if at, err = openFolder("/"); err != nil {
				return nil, err
			}
		}
	}
	return at, nil
}

func openFolder(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// step opens a name in a folder, or says where a link leads.
func step(at *os.File, name string) (next *os.File, to string, err error) {
	fd, err := unix.Openat(int(at.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", err
	}
	next = os.NewFile(uintptr(fd), name)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		next.Close()
		return nil, "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return next, "", nil
	}
	defer next.Close()
	if int(st.Uid) != 0 && int(st.Uid) != os.Geteuid() {
		return nil, "", fmt.Errorf("%s on the way to it is a link that user %d may change: name the disk without it", name, st.Uid)
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", target)
	if err == nil && n == 0 {
		err = errors.New("a link that leads nowhere")
	}
	if err != nil {
		return nil, "", err
	}
	return nil, string(target[:n]), nil
}

// open opens what was found, and nothing else that may have its path by now.
func (d *Disk) open(mode int) (*os.File, error) {
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", d.found.Fd()), mode|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: d.Path, Err: err}
	}
	return os.NewFile(uintptr(fd), d.Path), nil
}
