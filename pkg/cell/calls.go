package cell

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbidden are the system calls that no tool in a cell needs and that reach beyond
// it, or into rarely used parts of the kernel: they fail with EPERM.
var forbidden = []uintptr{
	// other mounts, roots and namespaces
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
	// other processes
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	// networks; the sockets of the kernel's own services are in no namespace
	unix.SYS_SOCKET, unix.SYS_IO_URING_SETUP,
	// the kernel itself
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_FANOTIFY_INIT,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_QUOTACTL, unix.SYS_SYSLOG, unix.SYS_ACCT,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_ADJTIMEX, unix.SYS_CLOCK_ADJTIME, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
}

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
func filterCalls() error {
	arch, ok := arches[runtime.GOARCH]
	if !ok {
		return nil
	}
	action := uint32(unix.SECCOMP_RET_ERRNO)
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action))); errno != 0 {
		return nil // a kernel before 4.14, or without them
	}
	program := callFilter(arch)
	f := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&f)))
	if errno != 0 {
		return fmt.Errorf("forbid system calls: %w", errno)
	}
	return nil
}

// callFilter is the program of seccomp(2). Calls of another architecture, x32's
// among them, would have other numbers: none of them is allowed.
func callFilter(arch uint32) []unix.SockFilter {
	const x32 = 0x40000000
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	jump := func(how uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | how | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	deny := answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))

	flags := uint32(dataArgs) // of clone; the lower half of the argument
	if runtime.GOARCH == "s390x" {
		flags = dataArgs + 8 + 4
	}
	program := []unix.SockFilter{
		load(dataArch), jump(unix.BPF_JEQ, arch, 1, 0), deny,
		load(dataNumber), jump(unix.BPF_JGE, x32, 0, 1), deny,
		// clone3's flags can't be seen: the C library goes on with clone.
		jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), answer(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)),
	}
	for _, number := range forbidden {
		program = append(program, jump(unix.BPF_JEQ, uint32(number), 0, 1), deny)
	}
	return append(program,
		jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 3), load(flags), jump(unix.BPF_JSET, newNamespaces, 0, 1), deny,
		answer(unix.SECCOMP_RET_ALLOW))
}
