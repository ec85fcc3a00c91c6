// Package blockdev reaches disks: it claims one for this run, maps its
// partitions through a loop device that clears itself, and lets go of it so
// that Ganeti finds it free the moment the script has ended.
package blockdev

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/lock"
	"instance-debootstrap/pkg/mounts"
	"instance-debootstrap/pkg/paths"
)

// Disk is an instance's disk, a block device or a file, claimed for this run:
// our lock is held, and a block device is open exclusively (O_EXCL), which the
// kernel grants to one holder only: mounts, LVM, md and swap are others. QEMU is kept off by its own
// locks.
type Disk struct {
	Path       string
	SizeBytes  int64
	SectorSize int  // logical sector, bytes; 512 for a file
	IsFile     bool // a file disk, not a block device
	ReadOnly   bool // can't be, or isn't to be, opened for writing

	found *os.File // what the path led to (O_PATH)
	file  *os.File // O_RDWR | O_EXCL; backs the loop device
	seen  *os.File // the disk once more: see Sync
	lock  *lock.File
	stat  unix.Stat_t
	proc  *os.Root // the node's /proc; nil is the current one

	looking *lock.File // the lock of who only looks at it
}

// Open claims the disk at path. lockDir is where our own locks are; hostProc
// the node's /proc (nil: the current one). The error says what uses the disk.
func Open(path, lockDir string, hostProc *os.Root) (*Disk, error) {
	d, err := OpenAny(path, lockDir, hostProc)
	if err == nil && d.ReadOnly {
		d.Close()
		return nil, fmt.Errorf("disk %s can't be written to: %w", path, unix.EROFS)
	}
	return d, err
}

// OpenAny is Open for reading: a disk that can't be written to is opened
// read-only.
func OpenAny(path, lockDir string, hostProc *os.Root) (*Disk, error) {
	return open(&Disk{Path: path, SectorSize: 512}, lockDir, hostProc)
}

// OpenReadOnly is Open for a disk that is not to be written to, whether it could be
// or not.
func OpenReadOnly(path, lockDir string, hostProc *os.Root) (*Disk, error) {
	return open(&Disk{Path: path, SectorSize: 512, ReadOnly: true}, lockDir, hostProc)
}

func open(d *Disk, lockDir string, hostProc *os.Root) (*Disk, error) {
	d.proc = hostProc
	err := d.look()
	if err == nil {
		err = d.takeLock(lockDir)
	}
	if err == nil {
		err = d.claim(hostProc)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// look finds out what the path leads to.
func (d *Disk) look() (err error) {
	if d.found, err = find(d.Path); err != nil {
		return fmt.Errorf("disk %s: %w", d.Path, err)
	}
	if err := unix.Fstat(int(d.found.Fd()), &d.stat); err != nil {
		return fmt.Errorf("disk %s: %w", d.Path, err)
	}
	switch d.stat.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
	case unix.S_IFREG:
		d.IsFile = true
	default:
		return fmt.Errorf("disk %s: neither a block device nor a file: name the disk or its image", d.Path)
	}
	return nil
}

func (d *Disk) claim(hostProc *os.Root) error {
	if err := InUse(d.Path, d.usedBy(hostProc)); err != nil {
		return err
	}
	mode := os.O_RDWR
	if d.ReadOnly {
		mode = os.O_RDONLY
	}
	f, err := d.open(mode | unix.O_EXCL)
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		d.ReadOnly = true
		f, err = d.open(os.O_RDONLY | unix.O_EXCL)
	}
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("disk %s is in use: claimed by %s; release it first", d.Path, d.holders())
	}
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	if err := d.measure(f); err != nil {
		return err
	}
	return d.lockAsQEMU(!d.ReadOnly)
}

// measure takes the open disk, and finds out its size and its sectors.
func (d *Disk) measure(f *os.File) error {
	d.file = f
	var err error
	if d.seen, err = os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err != nil {
		return fmt.Errorf("disk %s: %w", d.Path, err)
	}
	var now unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &now); err != nil || !d.same(&now) {
		return fmt.Errorf("disk %s became another disk while it was opened; try again", d.Path)
	}
	if d.IsFile {
		d.SizeBytes = now.Size
		return nil
	}
	if d.SizeBytes, err = deviceSize(f); err != nil {
		return fmt.Errorf("disk %s: read its size: %w", d.Path, err)
	}
	if d.SectorSize, err = unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET); err != nil {
		return fmt.Errorf("disk %s: read its sector size: %w", d.Path, err)
	}
	// A device that is set read-only can be opened for writing all the same.
	readOnly, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET)
	if err != nil {
		return fmt.Errorf("disk %s: ask whether it is read-only: %w", d.Path, err)
	}
	d.ReadOnly = d.ReadOnly || readOnly != 0
	return nil
}

// File is the open disk, for what is written before the loop device exists:
// two page caches over one disk don't see each other.
func (d *Disk) File() *os.File { return d.file }

// Node is a path of the claimed disk for this process and its children: of the
// open descriptor, since what Path leads to can change (Ganeti's are links).
func (d *Disk) Node() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), d.file.Fd()) }

// Lock takes or gives up the lock (flock) on the device that keeps
// systemd-udevd's probes away while its table changes (systemd.io,
// "Locking Block Device Access").
func (d *Disk) Lock(on bool) {
	how := unix.LOCK_EX | unix.LOCK_NB // udevd's own locks are short and shared
	if !on {
		how = unix.LOCK_UN
	}
	for range 50 {
		if unix.Flock(int(d.file.Fd()), how) != unix.EWOULDBLOCK {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Sync makes the disk's content durable, and fails where a write since the claim has
// failed. The kernel tells each open file of that once (fsync(2)), and the one that backs
// the loop device may have been told when a filesystem was unmounted, which says nothing.
// So another is asked.
func (d *Disk) Sync() error {
	return errors.Join(d.file.Sync(), d.seen.Sync())
}

// MakeDurable is Sync of a disk that is to last: what was written to a file that somebody has
// removed meanwhile, or put another in the place of, is gone when it is closed.
func (d *Disk) MakeDurable() error {
	var now unix.Stat_t
	err := cmp.Or(d.Sync(), unix.Fstat(int(d.file.Fd()), &now))
	if err == nil && now.Nlink == 0 && d.stat.Nlink > 0 && d.IsFile {
		err = fmt.Errorf("disk %s was removed, or another file put in its place, while it was written to: find out by whom, and try again", d.Path)
	}
	return err
}

// Close gives up the claim and the lock.
func (d *Disk) Close() error {
	return errors.Join(closeAll(&d.found, &d.file, &d.seen), closeAll(&d.looking, &d.lock))
}

// closeAll closes those of the files that are open.
func closeAll[F interface {
	comparable
	Close() error
}](files ...*F) error {
	var errs []error
	var none F
	for _, f := range files {
		if *f != none {
			errs = append(errs, (*f).Close())
			*f = none
		}
	}
	return errors.Join(errs...)
}

// Key tells whether two paths lead to one disk: its device number, or its
// filesystem and inode. It fails where Open would for what path is.
func Key(path string) (string, error) {
	d := &Disk{Path: path}
	err := d.look()
	defer d.Close()
	return d.key(), err
}

// key names the disk's lock: by device number, or by filesystem and inode.
func (d *Disk) key() string {
	if d.IsFile {
		return fmt.Sprintf("file-%x-%d", d.stat.Dev, d.stat.Ino)
	}
	return fmt.Sprintf("block-%d-%d", unix.Major(d.stat.Rdev), unix.Minor(d.stat.Rdev))
}

func deviceSize(f *os.File) (int64, error) {
	var size uint64
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, errno
	}
	return int64(size), nil
}

// usedBy says what uses the disk, as far as names can be given to it; "" is
// nothing found. A claim by another kernel user shows as EBUSY at open.
func (d *Disk) usedBy(hostProc *os.Root) string {
	for _, check := range []func() string{d.mountedOn, d.swapOn, d.backsLoop, d.lockedByProgram} {
		if why := check(); why != "" {
			return why
		}
	}
	return d.openInHypervisor(hostProc)
}

// mountedOn looks for the device, or one of its partitions, among what is mounted.
func (d *Disk) mountedOn() string {
	if d.IsFile {
		return ""
	}
	numbers := map[string]bool{devNumber(d.stat.Rdev): true}
	parts, _ := filepath.Glob(d.sysfs() + "/*/dev")
	for _, p := range parts {
		if b, err := os.ReadFile(p); err == nil {
			numbers[strings.TrimSpace(string(b))] = true
		}
	}
	list, _ := mounts.List("self")
	for _, m := range list {
		if numbers[m.Device] {
			return "mounted on " + m.Point
		}
	}
	return ""
}

// swapOn looks for the disk in /proc/swaps.
func (d *Disk) swapOn() string {
	b, _ := os.ReadFile("/proc/swaps")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(f[0], &st) == nil && d.same(&st) {
			return "the node's swap"
		}
	}
	return ""
}

// same reports whether st is the disk itself.
func (d *Disk) same(st *unix.Stat_t) bool {
	if d.IsFile {
		return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Dev == d.stat.Dev && st.Ino == d.stat.Ino
	}
	return st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == d.stat.Rdev
}

// backsLoop looks for a loop device over the disk, among those that have a size
// (proc_partitions(5)). The backing file's name can be stale or from another
// namespace, so it is compared by what it is.
func (d *Disk) backsLoop() string {
	b, _ := os.ReadFile("/proc/partitions")
	for line := range strings.Lines(string(b)) {
		column := strings.Fields(line)
		if len(column) < 4 || !strings.HasPrefix(column[3], "loop") {
			continue
		}
		dev := "/dev/" + column[3]
		info := loopStatus(dev)
		if info == nil {
			continue
		}
		if d.IsFile && info.Device == d.stat.Dev && info.Inode == d.stat.Ino || !d.IsFile && info.Rdevice == d.stat.Rdev {
			return dev + " is over it" + mountOf(dev)
		}
	}
	return ""
}

// mountOf says where a device is mounted, as mount(8) of ours leaves it; "" is nowhere.
func mountOf(dev string) string {
	list, _ := mounts.List("self")
	for _, m := range list {
		if m.Source == dev {
			return ", which is mounted on " + m.Point
		}
	}
	return ""
}

// loopStatus says what a loop device is over, nil is nothing. One over a file that a run
// serves isn't asked: the kernel asks who serves it, and waits for what that reads
// of its storage, which may hang (LOOP_GET_STATUS64).
func loopStatus(dev string) *unix.LoopInfo64 {
	backing := LoopOver(dev)
	if strings.HasPrefix(backing, paths.RunDir+"/"+paths.RunPrefix) && strings.Contains(backing, "/"+paths.ServedPrefix) {
		return nil
	}
	f, err := os.Open(dev)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return nil
	}
	return info
}

// holders names the devices stacked on the disk, from sysfs.
func (d *Disk) holders() string {
	names, _ := filepath.Glob(d.sysfs() + "/holders/*")
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	if len(names) == 0 {
		return "another program or kernel user (opened exclusively)"
	}
	return strings.Join(names, ", ")
}

func (d *Disk) sysfs() string { return "/sys/dev/block/" + devNumber(d.stat.Rdev) }

func devNumber(rdev uint64) string {
	return strconv.Itoa(int(unix.Major(rdev))) + ":" + strconv.Itoa(int(unix.Minor(rdev)))
}
