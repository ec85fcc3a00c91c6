package cell

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reviewed is the highest number of a system call (linux/unistd.h, asm-generic from 403
// on for all architectures: removexattrat) that forbidden was written for. Newer ones
// don't exist for a tool: open_tree_attr(2), the first of them, gives a mount other flags.
const reviewed = 466

// forbidden are the system calls that no tool in a cell needs and that reach beyond
// it, take what all of the node shares, or lead into rarely used parts of the kernel.
// They fail with EPERM.
var forbidden = []uintptr{
	// other mounts, roots and namespaces
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_STATMOUNT, unix.SYS_LISTMOUNT,
	// other processes
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_MRELEASE,
	unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_KCMP,
	// networks; the sockets of the kernel's own services are in no namespace
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_IO_URING_SETUP,
	// memory that is no process's (447 is memfd_secret), and what root has only so many of
	unix.SYS_MEMFD_CREATE, 447, unix.SYS_SHMGET, unix.SYS_SEMGET, unix.SYS_MSGGET, unix.SYS_MQ_OPEN,
	unix.SYS_IO_SETUP, unix.SYS_INOTIFY_INIT1, unix.SYS_FANOTIFY_INIT,
	// the kernel itself
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_LSM_GET_SELF_ATTR, unix.SYS_LSM_SET_SELF_ATTR, unix.SYS_LSM_LIST_MODULES,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SYSLOG, unix.SYS_ACCT,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_ADJTIMEX, unix.SYS_CLOCK_ADJTIME, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
}

// older are the same, where an architecture has them: setrlimit, inotify_init,
// kexec_file_load, and socketcall and ipc, which stand for all sockets and all of System V's
// IPC.
var older = map[string][]uintptr{
	"amd64": {160, 253, 320}, "386": {75, 291, 102, 117}, "arm64": {164, 294}, "arm": {75, 316, 401}, "ppc64le": {75, 275, 382, 102, 117},
	"riscv64": {164, 294}, "s390x": {75, 284, 381, 102, 117}, "loong64": {164, 294},
}

// ioctl(2) with a request that a tool's row doesn't have fails with ENOTTY, as on what
// knows no such request. With CAP_SYS_ADMIN others freeze or end a filesystem, read all
// of it, or open its files by their numbers: also the node's, of which a cell has the
// libraries. Without, they move a loop device's window.
var (
	// ioctlsOfAll ask whether a descriptor is a terminal, and how wide.
	ioctlsOfAll = []uint32{unix.TCGETS, unix.TIOCGWINSZ}
	// loopStatus asks a loop device what it is over: LOOP_GET_STATUS, LOOP_GET_STATUS64.
	loopStatus = []uint32{0x4C03, 0x4C05}
	// Of block devices (linux/fs.h, linux/blkzoned.h) all but these are allowed where block is
	// set: they change what the kernel thinks of the whole device.
	blockType   = uint32(0x12)
	neverBlocks = []uint32{unix.BLKROSET, unix.BLKRRPART, unix.BLKPG, unix.BLKRASET, unix.BLKFRASET, unix.BLKSECTSET}
)

// newNamespaces are clone(2)'s flags for namespaces.
const newNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
	unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME

// arches are the kernel's names (linux/audit.h) of the architectures whose numbers
// of system calls this program is built with.
var arches = map[string]uint32{
	"amd64": unix.AUDIT_ARCH_X86_64, "386": unix.AUDIT_ARCH_I386, "arm64": unix.AUDIT_ARCH_AARCH64, "arm": unix.AUDIT_ARCH_ARM,
	"ppc64le": unix.AUDIT_ARCH_PPC64LE, "riscv64": unix.AUDIT_ARCH_RISCV64, "s390x": unix.AUDIT_ARCH_S390X, "loong64": unix.AUDIT_ARCH_LOONGARCH64,
}

// Offsets in struct seccomp_data (linux/seccomp.h), in bytes.
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
)

// filterCalls forbids the calls to the calling thread and all that it starts. A
// kernel without seccomp filters is no error: the namespaces hold without.
func filterCalls(n needs, network bool) error {
	arch, ok := arches[runtime.GOARCH]
	if !ok {
		return nil
	}
	action := uint32(unix.SECCOMP_RET_ERRNO)
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action))); errno != 0 {
		return nil // a kernel before 4.14, or without them
	}
	program := callFilter(arch, n, network)
	f := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&f)))
	if errno != 0 {
		return fmt.Errorf("forbid system calls: %w", errno)
	}
	return nil
}

// The two ways in which data goes in a request of ioctl(2), its highest bits
// (asm-generic/ioctl.h; powerpc has its own).
const (
	ToKernel   = 1
	FromKernel = 2
)

// Request makes the number of a request: its direction, type, number, and the size of
// its data in bytes.
func Request(direction, kind, number, size uint32) uint32 {
	if runtime.GOARCH == "ppc64le" {
		return map[uint32]uint32{ToKernel: 4, FromKernel: 2, ToKernel | FromKernel: 6}[direction]<<29 | size<<16 | kind<<8 | number
	}
	return direction<<30 | size<<16 | kind<<8 | number
}

// The instructions of a filter (linux/filter.h).
func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(how uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | how | unix.BPF_K, K: k, Jt: yes, Jf: no}
}

func calculate(how uint16, k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_ALU | how | unix.BPF_K, K: k}
}

func answer(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }

func fail(e unix.Errno) unix.SockFilter { return answer(unix.SECCOMP_RET_ERRNO | uint32(e)) }

var allow = answer(unix.SECCOMP_RET_ALLOW)

// argument is the offset of the lower half of a call's argument, from 0; its upper
// half is beside it.
func argument(n uint32) uint32 {
	if runtime.GOARCH == "s390x" {
		return dataArgs + 8*n + 4
	}
	return dataArgs + 8*n
}

// callFilter is the program of seccomp(2). Calls of another architecture, x32's
// among them, would have other numbers: none of them is allowed.
func callFilter(arch uint32, n needs, network bool) []unix.SockFilter {
	program := []unix.SockFilter{
		load(dataArch), jump(unix.BPF_JEQ, arch, 1, 0), fail(unix.EPERM),
		load(dataNumber), jump(unix.BPF_JGT, reviewed, 0, 1), fail(unix.ENOSYS),
		// clone3's flags can't be seen: the C library goes on with clone.
		jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), fail(unix.ENOSYS),
	}
	if n.serves { // what it has served is mounted elsewhere, and its unmounting isn't its own
		program = append(program, jump(unix.BPF_JEQ, unix.SYS_UMOUNT2, 0, 1), fail(0))
	}
	for _, number := range slices.Concat(forbidden, older[runtime.GOARCH]) {
		if n.pairs && number == unix.SYS_SOCKETPAIR || n.unnamed && number == unix.SYS_MEMFD_CREATE || network && number == unix.SYS_SOCKET {
			continue
		}
		program = append(program, jump(unix.BPF_JEQ, uint32(number), 0, 1), fail(unix.EPERM))
	}
	flags := argument(0)
	if runtime.GOARCH == "s390x" {
		flags = argument(1)
	}
	half := argument(2) ^ 4 // the other half of the same
	limits := fail(unix.EPERM)
	if n.raises {
		limits = fail(0)
	}
	for _, rule := range []struct {
		call uintptr
		then []unix.SockFilter
	}{
		{unix.SYS_CLONE, []unix.SockFilter{load(flags), jump(unix.BPF_JSET, newNamespaces, 0, 1), fail(unix.EPERM), allow}},
		{unix.SYS_SOCKET, socketFilter()},
		{unix.SYS_IOCTL, ioctlFilter(n)},
		{unix.SYS_FCNTL, []unix.SockFilter{load(argument(1)), jump(unix.BPF_JEQ, unix.F_SETLEASE, 0, 1), fail(unix.EPERM), allow}},
		// It may ask for limits, but set none.
		{unix.SYS_PRLIMIT64, []unix.SockFilter{load(argument(2)), jump(unix.BPF_JEQ, 0, 1, 0), limits, load(half), jump(unix.BPF_JEQ, 0, 1, 0), limits, allow}},
	} {
		program = append(program, jump(unix.BPF_JEQ, uint32(rule.call), 0, uint8(len(rule.then))))
		program = append(program, rule.then...)
	}
	return append(program, allow)
}

// networks are the domains of sockets (socket(2)) by which a disk is reached: addresses
// are looked up with the last, as getaddrinfo(3) does.
var networks = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}

func socketFilter() []unix.SockFilter {
	then := []unix.SockFilter{load(argument(0))}
	for _, domain := range networks {
		then = append(then, jump(unix.BPF_JEQ, domain, 0, 1), allow)
	}
	return append(then, fail(unix.EPERM))
}

func ioctlFilter(n needs) []unix.SockFilter {
	then := []unix.SockFilter{load(argument(1))}
	allowed := slices.Concat(ioctlsOfAll, n.ioctls)
	if n.block {
		allowed = append(allowed, loopStatus...)
	}
	for _, request := range allowed {
		then = append(then, jump(unix.BPF_JEQ, request, 0, 1), allow)
	}
	if n.block {
		for _, request := range neverBlocks {
			then = append(then, jump(unix.BPF_JEQ, request, 0, 1), fail(unix.ENOTTY))
		}
		then = append(then, calculate(unix.BPF_RSH, 8), calculate(unix.BPF_AND, 0xff), jump(unix.BPF_JEQ, blockType, 0, 1), allow)
	}
	return append(then, fail(unix.ENOTTY))
}
