package blockdev

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/command"
)

// openInHypervisor looks for a QEMU process that has the disk open, through
// the node's /proc; a guest whose image locking is off shows here only.
func (d *Disk) openInHypervisor(proc *os.Root) string { return d.openBy(proc, isHypervisor) }

func isHypervisor(program string) bool {
	return strings.HasPrefix(program, "qemu") || strings.HasPrefix(program, "kvm")
}

// Hypervisor is a process of QEMU's.
type Hypervisor struct {
	PID, Program string
	Args         []string
}

// maxArgsBytes bounds what is read of a process's arguments: execve(2) takes fewer, but a
// process may say later that they are elsewhere (prctl(2), PR_SET_MM).
const maxArgsBytes = 8 << 20

// Hypervisors lists QEMU's processes in the node's /proc (nil: the current one), for
// disks that no descriptor leads to.
func Hypervisors(proc *os.Root) (list []Hypervisor) {
	eachProcess(proc, isHypervisor, func(dir *os.File, pid, program string) bool {
		fd, err := unix.Openat(int(dir.Fd()), pid+"/cmdline", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return true // it has ended
		}
		f := os.NewFile(uintptr(fd), pid)
		defer f.Close()
		line, _ := io.ReadAll(io.LimitReader(f, maxArgsBytes))
		list = append(list, Hypervisor{PID: pid, Program: program, Args: strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")})
		return true
	})
	return list
}

// openBy looks through the node's /proc (nil: the current one) for a program of these
// names that has the disk open; "" is none.
func (d *Disk) openBy(proc *os.Root, looksAt func(program string) bool) (user string) {
	real := ""
	if d.IsFile {
		var err error
		if real, err = filepath.EvalSymlinks(d.Path); err != nil {
			return ""
		}
	}
	eachProcess(proc, looksAt, func(dir *os.File, pid, program string) bool {
		if d.openIn(dir, pid, real) {
			user = fmt.Sprintf("open in %s (process %s)", program, pid)
		}
		return user == ""
	})
	return user
}

// eachProcess goes through the processes of programs of these names, in the node's /proc
// (nil: the current one), until see returns false.
func eachProcess(proc *os.Root, looksAt func(program string) bool, see func(dir *os.File, pid, program string) bool) {
	if proc == nil {
		var err error
		if proc, err = os.OpenRoot("/proc"); err != nil {
			return
		}
		defer proc.Close()
	}
	dir, err := proc.Open(".")
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, pid := range names {
		if pid[0] < '0' || pid[0] > '9' {
			continue
		}
		if program := programOf(dir, pid); program != "" && looksAt(program) && !see(dir, pid, program) {
			return
		}
	}
}

// programOf reads the name of a process's program from its exe link
// (proc_pid_exe(5)), which QEMU's -name process= doesn't change; "" is none, as of
// kernel threads. What can't be printed is quoted: any user may start one. Nodes have
// many processes: more than one call for each would cost more than all else that claims a
// disk.
func programOf(proc *os.File, pid string) string {
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(int(proc.Fd()), pid+"/exe", b[:])
	if err != nil {
		return ""
	}
	name := string(b[bytes.LastIndexByte(b[:n], '/')+1 : n])
	return command.Printable(strings.TrimSuffix(name, " (deleted)")) // the package was upgraded under it
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
