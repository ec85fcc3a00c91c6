package blockdev

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// openInHypervisor looks for a QEMU process that has the disk open, through
// the node's /proc; a guest whose image locking is off shows here only.
func (d *Disk) openInHypervisor(proc *os.Root) string {
	return d.openBy(proc, func(program string) bool {
		return strings.HasPrefix(program, "qemu") || strings.HasPrefix(program, "kvm")
	})
}

// openBy looks through the node's /proc (nil: the current one) for a program of these
// names that has the disk open; "" is none.
func (d *Disk) openBy(proc *os.Root, looksAt func(program string) bool) string {
	if proc == nil {
		var err error
		if proc, err = os.OpenRoot("/proc"); err != nil {
			return ""
		}
		defer proc.Close()
	}
	dir, err := proc.Open(".")
	if err != nil {
		return ""
	}
	defer dir.Close()
	real := ""
	if d.IsFile {
		if real, err = filepath.EvalSymlinks(d.Path); err != nil {
			return ""
		}
	}
	names, _ := dir.Readdirnames(-1)
	for _, pid := range names {
		if pid[0] < '0' || pid[0] > '9' {
			continue
		}
		program := programOf(dir, pid)
		if program == "" || !looksAt(program) {
			continue
		}
		if d.openIn(dir, pid, real) {
			return fmt.Sprintf("open in %s (process %s)", program, pid)
		}
	}
	return ""
}

// programOf reads the name of a process's program from its exe link
// (proc_pid_exe(5)), which QEMU's -name process= doesn't change; "" is none, as of
// kernel threads. Nodes have many processes: more than one call for each would
// cost more than all else that claims a disk.
func programOf(proc *os.File, pid string) string {
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(int(proc.Fd()), pid+"/exe", b[:])
	if err != nil {
		return ""
	}
	name := string(b[bytes.LastIndexByte(b[:n], '/')+1 : n])
	return strings.TrimSuffix(name, " (deleted)") // the package was upgraded under it
}

// openIn reports whether the process has the disk open. Only names of descriptors that lead
// to /dev are followed to what they are, since others may be on a server that hangs; a
// file is compared by its name.
func (d *Disk) openIn(proc *os.File, pid, real string) bool {
	for _, fd := range descriptors(proc, pid) {
		var b [unix.PathMax]byte
		n, err := unix.Readlinkat(int(proc.Fd()), fd, b[:])
		if err != nil {
			continue
		}
		to := string(b[:n])
		if d.IsFile {
			if to == real {
				return true
			}
			continue
		}
		var st unix.Stat_t
		if strings.HasPrefix(to, "/dev/") && unix.Fstatat(int(proc.Fd()), fd, &st, 0) == nil && d.same(&st) {
			return true
		}
	}
	return false
}

// descriptors lists a process's, as paths below its proc.
func descriptors(proc *os.File, pid string) (paths []string) {
	fd, err := unix.Openat(int(proc.Fd()), pid+"/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	dir := os.NewFile(uintptr(fd), pid)
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		paths = append(paths, pid+"/fd/"+name)
	}
	return paths
}
