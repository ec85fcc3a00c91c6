// Package cell starts the tools that read what a guest or a backup has brought,
// such that what a hostile filesystem or stream makes of them stays there.
//
// A tool in a cell sees a root of its own, read-only, with its program, the
// node's libraries, and the disk and the folder that it works on; no process but
// its own children, no socket, no /proc and no descriptor that it wasn't given. It
// has the capabilities that its row of the table names and can get no others, may
// not make a system call that mounts, traces, loads or connects, and ends when it
// takes more memory or processor time than such a disk can ask for.
//
// It is the same cell in every namespace that the program itself runs in. It costs
// some 0.4 ms: a thread of this process leaves the node's namespaces, starts the
// tool and waits for its end (unshare(2), pivot_root(2), seccomp(2)).
package cell

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Place is what a tool can reach besides its program and its descriptors.
// Everything has the same path in the cell as outside.
type Place struct {
	Disk     string            // a block device or an image file; "" is none
	Folder   string            // a folder, without what is mounted below it; "" is none
	ReadOnly bool              // neither can be changed
	Files    map[string]string // small files by their paths, with their content
	Shown    map[string]string // files and folders of the node, by their paths in the cell, which can't be changed
	Network  bool              // it reaches its disk by the node's network
	Sockets  bool              // it reaches its disk by a socket: that network's, or one that is shown
	real     string            // where Disk leads
	Bytes    int64             // how much there is to work on, where it is not a disk
}

type needs struct {
	caps    []int    // capabilities(7); the others are gone for good
	reading []int    // the same, where nothing can be changed
	with    []string // other programs that it starts
	// memoryShare is by which part of Bytes its memory may be more than baseMemory.
	memoryShare int64
	// passes is for what hands on a stream of any length, as fast as that comes: it has
	// no limit of time.
	passes bool
	block  bool     // it may make requests of the disk (ioctl(2)), of those that calls.go has
	ioctls []uint32 // requests of other kinds
	pairs  bool     // it may make pairs of sockets, which have no name
	// unnamed is for what keeps files without a name in memory (memfd_create(2)), each no larger
	// than its memory may be.
	unnamed bool
	// raises is for what wants its limits raised first, and ends with an exit status like that
	// of a finding where it isn't told that they are. They stay.
	raises bool
	// fileBytes is how large a file it may write, where it is given one; 0 is no limit.
	fileBytes uint64
	// serves is for what serves a disk by FUSE for as long as the run lasts: the file that
	// it is given may grow. Only that may be given the network.
	serves bool
}

// asSuper are for tools that give files back their owners, modes, devices and
// attributes; trusted.* and security.* ask for CAP_SYS_ADMIN (xattr(7)).
var asSuper = []int{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_LINUX_IMMUTABLE,
	unix.CAP_MKNOD, unix.CAP_SETFCAP, unix.CAP_SYS_ADMIN,
}

// Requests of ioctl(2) that a row has beside those of block devices.
var (
	// EXT4_IOC_RESIZE_FS, EXT4_IOC_GROUP_EXTEND, EXT4_IOC_GROUP_ADD (fs/ext4/ext4.h)
	growsExt = []uint32{Request(ToKernel, 'f', 16, 8), Request(ToKernel, 'f', 7, 8), Request(ToKernel, 'f', 8, 40)}
	// XFS_IOC_FSGEOMETRY and its two older forms, XFS_IOC_FSCOUNTS, XFS_IOC_FSGROWFSDATA (xfs_fs.h)
	growsXFS = []uint32{Request(FromKernel, 'X', 126, 256), Request(FromKernel, 'X', 124, 112), Request(FromKernel, 'X', 100, 112), Request(FromKernel, 'X', 113, 32), Request(ToKernel, 'X', 110, 16)}
	// FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_GETVERSION, FS_IOC_SETVERSION (linux/fs.h)
	fileFlags = []uint32{Request(FromKernel, 'f', 1, 8), Request(ToKernel, 'f', 2, 8), Request(FromKernel, 'v', 1, 8), Request(ToKernel, 'v', 2, 8)}
)

// onDisk is for what works on an unmounted filesystem. e2fsck and xfs_repair keep
// maps of all blocks and inodes.
var onDisk = needs{memoryShare: 256, block: true}

// tools are all that are started in a cell, and only there: whatever their bytes
// are, none is trusted with them.
var tools = map[string]needs{
	"blkid": onDisk, "wipefs": onDisk, "mkswap": onDisk,
	"e2fsck": onDisk, "dumpe2fs": onDisk, "mke2fs": onDisk, "tune2fs": onDisk, "e2label": onDisk, "debugfs": onDisk,
	"mkfs.xfs": {memoryShare: 256, block: true, caps: []int{unix.CAP_SYS_ADMIN}}, // sets the device's block size (BLKBSZSET)
	"xfs_db":   onDisk,
	// It keeps B+trees in such files since 6.10, and crashes without them. It has RLIMIT_FSIZE
	// raised (repair/init.c).
	"xfs_repair": {memoryShare: 256, block: true, unnamed: true, raises: true},
	"xfs_admin":  {memoryShare: 256, block: true, with: []string{"xfs_db"}},
	"mkfs.btrfs": onDisk, "btrfstune": onDisk, "btrfs": onDisk,
	"dump": {memoryShare: 256, block: true, pairs: true}, // its processes talk by them
	// While it is mounted ext4 asks for the first to be resized, xfs for the second.
	"resize2fs":  {memoryShare: 256, block: true, caps: []int{unix.CAP_SYS_RESOURCE}, ioctls: growsExt},
	"xfs_growfs": {memoryShare: 256, block: true, caps: []int{unix.CAP_SYS_ADMIN}, ioctls: growsXFS},
	// These remember each file with several names, and each folder.
	"tar":     {memoryShare: 4, passes: true, caps: asSuper, reading: []int{unix.CAP_DAC_READ_SEARCH, unix.CAP_SYS_ADMIN}},
	"restore": {memoryShare: 4, caps: asSuper, ioctls: fileFlags},
	"find":    {memoryShare: 4, reading: []int{unix.CAP_DAC_READ_SEARCH}},
	"sort":    {memoryShare: 16},
	"gzip":    {passes: true}, "zstd": {passes: true}, "xz": {passes: true}, "bzip2": {passes: true}, "lz4": {passes: true},
	"grub-mkimage": {fileBytes: 1 << 20},
	// Its image may belong to the user that guests run as, and a keyring to Ceph's.
	"qemu-storage-daemon": {passes: true, block: true, pairs: true, serves: true, caps: []int{unix.CAP_DAC_OVERRIDE}, reading: []int{unix.CAP_DAC_READ_SEARCH}},
}

// Holds reports whether a tool is started in a cell only.
func Holds(tool string) bool {
	_, ok := tools[filepath.Base(tool)]
	return ok
}

// Tools are the tools of the table, sorted.
func Tools() []string { return slices.Sorted(maps.Keys(tools)) }

// Start starts cmd, a tool of the table whose Path is absolute, in a cell. What
// it may reach is looked up now: a disk that has become another since the path was
// given is an error, never a tool on the wrong disk.
func Start(cmd *exec.Cmd, p Place) error {
	name := filepath.Base(cmd.Path)
	n, ok := tools[name]
	if !ok {
		return fmt.Errorf("%s has no row in the table of cells", name)
	}
	// Go finds out at the first process that it starts what the kernel has (pidfds): that
	// must not be in a cell.
	firstProcess()
	p.real = realPath(p.Disk) // while this is still the namespace that it was opened in
	// kill(2) of its process group would reach the caller's, through all namespaces.
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setpgid = true, false
	// It ends with us, also in the node's own namespaces: with the thread that has started
	// it (PR_SET_PDEATHSIG(2const)), which therefore stays.
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	err := onThread(func() error {
		if err := enter(cmd.Path, n, p); err != nil {
			return fmt.Errorf("make a cell for %s: %w (root with CAP_SYS_ADMIN is needed)", name, err)
		}
		return cmd.Start()
	}, func() { waitFor(cmd.Process.Pid) })
	if err != nil {
		return err
	}
	limit(cmd.Process.Pid, n, p)
	return nil
}

var firstProcess = sync.OnceFunc(func() { _, _ = os.FindProcess(os.Getpid()) })

// OnThread runs f on a thread that ends after it, whatever f has made of it: of its
// namespaces, its working folder. The process's first thread can't end.
func OnThread(f func() error) error { return onThread(f, func() {}) }

// onThread is OnThread, with what the thread does before its end when f has succeeded and
// the caller goes on.
func onThread(f func() error, last func()) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			err := onThread(f, last) // on another, since this one is locked
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err := f()
		done <- err
		if err == nil {
			last()
		}
	}()
	return <-done
}

// waitFor returns when a child has ended, which is the caller's to reap.
func waitFor(pid int) {
	for errors.Is(unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
}

// enter makes the calling thread one whose children are in the cell.
func enter(program string, n needs, p Place) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS); err != nil {
		return err
	}
	if !(n.serves && p.Network) {
		if err := leaveNetwork(); err != nil {
			return fmt.Errorf("leave the node's network: %w", err)
		}
	}
	if err := makeRoot(program, n, p); err != nil {
		return err
	}
	caps := n.caps
	if p.ReadOnly {
		caps = n.reading
	}
	if n.serves && p.Sockets { // which may be another user's, and to connect is to write
		caps = n.caps
	}
	// Bounded, a child that root executes gets no others (capabilities(7),
	// "Transformation of capabilities during execve").
	for c := 0; unix.Prctl(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0) == nil; c++ {
		if slices.Contains(caps, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return filterCalls(n, n.serves && p.Sockets)
}
