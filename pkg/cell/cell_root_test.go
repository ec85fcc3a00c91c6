//go:build root

package cell

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// prober has this program, when it is started as a tool, look around.
const prober = "PROBE_THE_CELL"

func TestMain(m *testing.M) {
	if what := os.Getenv(prober); what != "" {
		probe(what)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// tool makes a copy of this program that is called as a tool.
func tool(t *testing.T, name string) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, self, 0o755))
	return path
}

// run runs a copy of this program as a tool in a cell, and returns what it said.
func run(t *testing.T, name, what string, p Place, prepare func(*exec.Cmd)) string {
	t.Helper()
	var said bytes.Buffer
	cmd := &exec.Cmd{Path: tool(t, name), Args: []string{name}, Env: []string{prober + "=" + what}, Stdout: &said, Stderr: &said}
	if prepare != nil {
		prepare(cmd)
	}
	must(t, Start(cmd, p))
	if err := cmd.Wait(); err != nil {
		fmt.Fprintln(&said, err)
	}
	return said.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func loop(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, 8<<20))
	out, err := exec.Command("losetup", "--show", "-f", path).Output()
	must(t, err)
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "-d", dev).Run() })
	return dev
}

// TestFromItsCellEachToolOfTheTableReachesNothingOfTheNode: its files, its other
// disks, its processes, its network, its descriptors, its kernel.
func TestFromItsCellEachToolOfTheTableReachesNothingOfTheNode(t *testing.T) {
	disk, other := loop(t), loop(t)
	folder, canary := t.TempDir(), filepath.Join(t.TempDir(), "canary")
	must(t, os.WriteFile(canary, []byte("canary"), 0o666))
	must(t, unix.Mount("tmpfs", folder, "tmpfs", 0, "")) // where devices work
	t.Cleanup(func() { unix.Unmount(folder, unix.MNT_DETACH) })
	listener, err := net.Listen("unix", "@"+filepath.Base(folder))
	must(t, err)
	defer listener.Close()
	var st unix.Stat_t
	must(t, unix.Stat(other, &st))
	if len(tools) < 15 {
		t.Fatalf("%d tools", len(tools))
	}
	for name, n := range tools {
		for _, readOnly := range []bool{true, false} {
			caps := n.caps
			if readOnly {
				caps = n.reading
			}
			what := fmt.Sprintf("%s %s %s %d %s %v %v", disk, folder, canary, st.Rdev, other, readOnly, mask(caps))
			leak, err := os.Open(canary) // close-on-exec, as all that Go opens
			must(t, err)
			said := run(t, name, what, Place{Disk: disk, Folder: folder, ReadOnly: readOnly, Network: !n.serves, Sockets: !n.serves}, func(cmd *exec.Cmd) { cmd.Dir = folder })
			leak.Close()
			if said != "looked around\n" {
				t.Errorf("%s, read-only %v:\n%s", name, readOnly, said)
			}
			if b, err := os.ReadFile(canary); err != nil || string(b) != "canary" {
				t.Fatalf("%s changed the node: %q, %v", name, b, err)
			}
		}
	}
}

// mask is what of these capabilities this process may hand on.
func mask(caps []int) (m uint64) {
	for _, c := range caps {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == nil && has == 1 {
			m |= 1 << c
		}
	}
	return m
}

// probe tries what a tool that was led astray would, and says what worked.
func probe(what string) {
	switch what {
	case "eat":
		for held := [][]byte{}; ; fmt.Fprint(io.Discard, len(held)) {
			held = append(held, make([]byte, 64<<20))
		}
	case "sleep":
		time.Sleep(time.Hour)
	case "network":
		for _, domain := range []int{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET, unix.AF_VSOCK, unix.AF_ALG, unix.AF_KEY} {
			if fd, err := unix.Socket(domain, unix.SOCK_DGRAM, 0); err == nil {
				fmt.Print(domain, " ")
				unix.Close(fd)
			} else if err != unix.EPERM {
				fmt.Print(domain, ":", err, " ")
			}
		}
		_, err := net.Dial("unix", os.Args[1])
		b, readErr := os.ReadFile(os.Args[2])
		fmt.Print(err, " ", string(b), readErr, " ", os.WriteFile(os.Args[2], nil, 0o600) != nil)
		return
	case "disk":
		b, err := os.ReadFile(os.Args[1])
		fmt.Printf("%d %v", len(b), err)
		return
	}
	var disk, folder, canary, other string
	var rdev int
	var readOnly bool
	var caps uint64
	fmt.Sscan(what, &disk, &folder, &canary, &rdev, &other, &readOnly, &caps)
	found := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	refused := func(what string, err error) {
		if err == nil {
			found("could: %s", what)
		}
	}
	probeFiles(found, disk, folder, canary, other)
	probeWrites(refused, disk, folder, readOnly)
	probeDevices(refused, folder, rdev)
	probeProcesses(found)
	probeKernel(refused, folder)
	probeRequests(refused, found, disk, folder)
	probeRights(found, caps)
	found("looked around")
}

func probeFiles(found func(string, ...any), disk, folder, canary, other string) {
	known := []string{"/lib", "/lib32", "/lib64", "/libx32", "/usr", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/local", "/usr/local/lib",
		"/etc", "/etc/ld.so.cache", "/etc/mtab", "/proc", "/proc/mounts", "/proc/self", "/proc/self/mounts", "/dev", "/dev/null", "/dev/urandom",
		"/usr/bin", "/usr/sbin", "/usr/bin/xfs_db", "/usr/sbin/xfs_db", "/bin", "/sbin", "/bin/xfs_db", "/sbin/xfs_db", disk, folder, filepath.Dir(folder), filepath.Dir(filepath.Dir(folder))}
	filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		switch {
		case path == "/" || strings.HasPrefix(folder, path+"/") || strings.HasPrefix(disk, path+"/"):
		case path == "/dev/fuse" && tools[os.Args[0]].serves:
		case path == "/lib" || strings.HasPrefix(path, "/usr/lib"), strings.HasPrefix(path, "/usr/local/lib"), path == folder:
			if d.IsDir() {
				return fs.SkipDir
			}
		case strings.HasPrefix(path, os.Getenv("TMPDIR")) && os.Getenv("TMPDIR") != "", filepath.Base(path) == os.Args[0]:
		case !slices.Contains(known, path) && !strings.HasPrefix(os.Args[0], filepath.Base(path)) && !isAbove(path):
			found("sees %s", path)
		}
		return nil
	})
	for _, path := range []string{canary, "../../../../../../.." + canary, other, "/etc/passwd", "/proc/1/root", "/proc/self/exe", "/sys/block", "/root", "/home", "/var"} {
		if _, err := os.Lstat(path); err == nil {
			found("sees %s", path)
		}
	}
	for fd := 3; fd < 1024; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && (st.Mode&unix.S_IFMT == unix.S_IFREG || st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Mode&unix.S_IFMT == unix.S_IFBLK) {
			found("has descriptor %d: %o", fd, st.Mode)
		}
	}
}

// isAbove reports whether the path is a folder above this program.
func isAbove(path string) bool {
	for _, dir := range []string{"/tmp", "/var", "/run"} {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			st, err := os.Lstat(path)
			return err == nil && st.IsDir()
		}
	}
	return false
}

func probeWrites(refused func(string, error), disk, folder string, readOnly bool) {
	for _, dir := range []string{"/", "/dev", "/etc", "/usr", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/proc", filepath.Dir(folder)} {
		refused("write to "+dir, os.WriteFile(dir+"/led-astray", nil, 0o600))
	}
	if readOnly {
		refused("write to the folder", os.WriteFile(folder+"/led-astray", nil, 0o600))
		f, err := os.OpenFile(disk, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.Write(make([]byte, 512))
		}
		refused("write to the disk", err)
	}
}

func probeDevices(refused func(string, error), folder string, rdev int) {
	for _, dir := range []string{"/", "/dev", folder} {
		node := dir + "/node"
		if unix.Mknod(node, unix.S_IFBLK|0o666, rdev) == nil {
			f, err := os.Open(node)
			refused("open another disk by a node in "+dir, err)
			f.Close()
			os.Remove(node)
		}
	}
	script := folder + "/script"
	if os.WriteFile(script, []byte("#!/nothing\n"), 0o755) == nil {
		if err := exec.Command(script).Run(); !errors.Is(err, unix.EACCES) {
			refused("start a program of the guest's", nil)
		}
		os.Remove(script)
	}
}

func probeProcesses(found func(string, ...any)) {
	if os.Getpid() != 1 || os.Getppid() != 0 {
		found("is process %d of %d", os.Getpid(), os.Getppid())
	}
	for pid := 2; pid < 40000; pid++ {
		if syscall.Kill(pid, 0) == nil && unix.Tgkill(1, pid, 0) != nil { // no thread of this one
			found("sees process %d", pid)
		}
	}
}

func probeKernel(refused func(string, error), folder string) {
	for name, domain := range map[string]int{
		"unix": unix.AF_UNIX, "inet": unix.AF_INET, "inet6": unix.AF_INET6, "netlink": unix.AF_NETLINK, "packet": unix.AF_PACKET, "vsock": unix.AF_VSOCK, "alg": unix.AF_ALG,
	} {
		for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_RAW, unix.SOCK_SEQPACKET} {
			_, err := unix.Socket(domain, kind, 0)
			refused("make a socket of "+name, err)
		}
	}
	refused("mount", unix.Mount("tmpfs", folder, "tmpfs", 0, ""))
	refused("remount", unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	if err := unix.Unmount(folder, unix.MNT_DETACH); err == nil { // the storage daemon is told so
		var st, up unix.Stat_t
		if unix.Stat(folder, &st) != nil || unix.Stat(folder+"/..", &up) != nil || st.Dev == up.Dev {
			refused("unmount", err)
		}
	}
	refused("chroot", unix.Chroot(folder))
	refused("change the root", unix.PivotRoot(folder, folder))
	for name, flag := range map[string]int{"user": unix.CLONE_NEWUSER, "mount": unix.CLONE_NEWNS, "network": unix.CLONE_NEWNET} {
		refused("make a "+name+" namespace", unix.Unshare(flag))
		child := exec.Command("/nothing")
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: uintptr(flag)}
		if err := child.Run(); !errors.Is(err, unix.EPERM) {
			refused("clone into a "+name+" namespace", nil)
		}
	}
	_, _, handle := unix.NameToHandleAt(unix.AT_FDCWD, folder, 0)
	refused("name a file by its handle", handle)
	_, err := unix.OpenTree(unix.AT_FDCWD, folder, unix.OPEN_TREE_CLONE)
	refused("clone a mount", err)
	refused("trace", unix.PtraceAttach(1))
	_, err = unix.PidfdOpen(1, 0)
	refused("open a process", err)
	refused("set the host's name", unix.Sethostname([]byte("x")))
	refused("set the clock", unix.Settimeofday(&unix.Timeval{}))
	_, err = unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	refused("use keys", err)
}

// probeRequests tries what a red team got through an earlier cell.
func probeRequests(refused func(string, error), found func(string, ...any), disk, folder string) {
	call := func(name string, number uintptr, args ...uintptr) {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != unix.EPERM && errno != unix.ENOSYS {
			found("%s: %v", name, errno)
		}
	}
	for number := uintptr(reviewed + 1); number < 520; number++ { // open_tree_attr is the first
		call("a call that nobody has looked at", number)
	}
	here := func(path string) uintptr {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			found("%s: %v", path, err)
		}
		return uintptr(fd)
	}
	var zeros [4096]byte
	at := uintptr(unsafe.Pointer(&zeros))
	for _, path := range []string{"/usr/lib", folder} {
		for name, request := range map[string]uintptr{
			"FIFREEZE": 0xc0045877, "FITHAW": 0xc0045878, "FS_IOC_SHUTDOWN": 0x8004587d, "FITRIM": 0xc0185879,
			"XFS_IOC_BULKSTAT": 0x8040587f, "XFS_IOC_OPEN_BY_HANDLE": 0x8038586b, "BTRFS_IOC_TREE_SEARCH": 0xd0009411, "BTRFS_IOC_SNAP_CREATE": 0x50009401, "BTRFS_IOC_ADD_DEV": 0x5000940a,
		} {
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, here(path), request, at); errno != unix.ENOTTY {
				found("%s of %s: %v", name, path, errno)
			}
		}
	}
	for name, request := range map[string]uintptr{"LOOP_SET_STATUS64": 0x4c04, "LOOP_CHANGE_FD": 0x4c06, "LOOP_CLR_FD": 0x4c01, "BLKRRPART": 0x125f, "BLKROSET": 0x125d, "BLKPG": 0x1269} {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, here(disk), request, at); errno != unix.ENOTTY {
			found("%s: %v", name, errno)
		}
	}
	if group, err := unix.Getpgid(0); err != nil || group != 1 {
		found("is in the process group %d, which is the caller's", group)
	}
	_, err := unix.MemfdCreate("x", 0)
	if !tools[os.Args[0]].unnamed {
		refused("take memory that is no process's", err)
	} else if err != nil {
		found("has no file in memory: %v", err)
	}
	_, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if !tools[os.Args[0]].pairs {
		refused("make a pair of sockets", err)
	}
	_, err = unix.FcntlInt(here("/etc/ld.so.cache"), unix.F_SETLEASE, unix.F_RDLCK)
	refused("take a lease of a file of the node's", err)
	var before, after unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &before)
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 7, Max: 7}, nil); tools[os.Args[0]].raises && err != nil {
		found("isn't told that its limits are changed: %v", err)
	} else if !tools[os.Args[0]].raises {
		refused("change its limits", err)
	}
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &after); after != before {
		found("has changed its limits")
	}
	call("io_setup", unix.SYS_IO_SETUP, 1, at)
}

func probeRights(found func(string, ...any), caps uint64) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		found("capabilities: %v", err)
	}
	for name, has := range map[string]uint64{
		"permitted":   uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32,
		"effective":   uint64(data[0].Effective) | uint64(data[1].Effective)<<32,
		"inheritable": uint64(data[0].Inheritable) | uint64(data[1].Inheritable)<<32,
	} {
		if has&^caps != 0 || name == "permitted" && has != caps {
			found("has capabilities %s %x, want %x", name, has, caps)
		}
	}
	if value, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || value != 1 {
		found("may get new privileges")
	}
	limited := func() bool {
		var memory, seconds, core, files unix.Rlimit
		unix.Getrlimit(unix.RLIMIT_FSIZE, &files)
		if tools[os.Args[0]].unnamed && files.Max >= 4<<30 {
			return false
		}
		unix.Getrlimit(unix.RLIMIT_AS, &memory)
		unix.Getrlimit(unix.RLIMIT_CPU, &seconds)
		unix.Getrlimit(unix.RLIMIT_CORE, &core)
		endless := tools[os.Args[0]].passes
		return memory.Max < 4<<30 && (seconds.Max < 3600) != endless && core.Max == noCore
	}
	for range 200 { // they come after the start
		if limited() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	found("has no limits")
}

// TestTheStorageDaemonMayHaveTheNetwork, by plain sockets, and what it is shown.
func TestTheStorageDaemonMayHaveTheNetwork(t *testing.T) {
	socket, config := filepath.Join(t.TempDir(), "socket"), filepath.Join(t.TempDir(), "config")
	listener, err := net.Listen("unix", socket)
	must(t, err)
	defer listener.Close()
	must(t, os.WriteFile(config, []byte("config"), 0o600))
	place := Place{Network: true, Sockets: true, Shown: map[string]string{socket: socket, "/etc/a/b": config}}
	said := run(t, "qemu-storage-daemon", "network", place, func(cmd *exec.Cmd) { cmd.Args = append(cmd.Args, socket, "/etc/a/b") })
	if want := fmt.Sprint(unix.AF_UNIX, " ", unix.AF_INET, " ", unix.AF_INET6, " ", unix.AF_NETLINK, " <nil> config<nil> true"); said != want {
		t.Errorf("%s, want %s", said, want)
	}
	if said := run(t, "tar", "network", place, func(cmd *exec.Cmd) { cmd.Args = append(cmd.Args, socket, "/etc/a/b") }); strings.Contains(said, "<nil> config") || said[0] != 'd' {
		t.Errorf("tar: %s", said)
	}
}

func TestAToolThatTakesTooMuchMemoryEnds(t *testing.T) {
	if said := run(t, "gzip", "eat", Place{}, nil); !strings.Contains(said, "out of memory") {
		t.Errorf("%.300s", said)
	}
}

func TestACellLeavesNothing(t *testing.T) {
	mounts := func() string {
		b, err := os.ReadFile("/proc/self/mountinfo")
		must(t, err)
		return string(b)
	}
	before := mounts()
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	cmd := &exec.Cmd{Path: tool(t, "tar"), Args: []string{"tar"}, Env: []string{prober + "=sleep"}}
	must(t, Start(cmd, Place{Folder: dir}))
	must(t, cmd.Process.Kill())
	cmd.Wait()
	must(t, unix.Unmount(dir, 0))
	if now := mounts(); now != before {
		t.Errorf("mounts before\n%s\nand after\n%s", before, now)
	}
	for range 100 {
		tasks, err := os.ReadDir("/proc/self/task")
		must(t, err)
		if len(tasks) < 40 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("threads stay")
}

func TestAnImageFileIsADiskOfItsOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(path, bytes.Repeat([]byte("x"), 1000), 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	node := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
	for _, disk := range []string{path, node} {
		said := run(t, "blkid", "disk", Place{Disk: disk, ReadOnly: true}, func(cmd *exec.Cmd) { cmd.Args = append(cmd.Args, disk) })
		if said != "1000 <nil>" {
			t.Errorf("%s: %s", disk, said)
		}
	}
	// Another file of that name is not the one that is open.
	must(t, os.Remove(path))
	must(t, os.WriteFile(path, []byte("y"), 0o600))
	err = Start(&exec.Cmd{Path: tool(t, "blkid"), Args: []string{"blkid"}}, Place{Disk: node})
	if err == nil || !strings.Contains(err.Error(), "disk "+node+": ") {
		t.Errorf("the wrong file: %v", err)
	}
}

func TestWhatHasNoRowIsNotStarted(t *testing.T) {
	if err := Start(&exec.Cmd{Path: "/bin/true"}, Place{}); err == nil || !strings.Contains(err.Error(), "no row") {
		t.Error(err)
	}
}
