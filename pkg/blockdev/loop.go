package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers from linux/loop.h and linux/major.h.
const (
	loopCtlAdd         = 0x4C80
	loopCtlGetFree     = 0x4C82
	loopClrFd          = 0x4C01
	loopFlagsReadOnly  = 1
	loopFlagsAutoclear = 4
	loopFlagsPartscan  = 8
	loopMajor          = 7
)

// Loop is a loop device over a whole disk. Its sectors are 512 bytes, as the
// guest sees them, whatever the disk's are. It clears itself when its last
// user is gone, so a killed run leaves none.
type Loop struct {
	Path string // /dev/loopN

	number   int
	file     *os.File // open, and flocked at first: see Unlock
	unlocked bool
	over     string   // as sysfs has it
	back     *os.File // what it is over
	had      int64    // what a file took when the device came over it, in blocks
	unlimit  func()   // gives the device back its largest request
	parts    []string // our partitions' nodes
	made     []string // the nodes that we made ourselves
}

// Attach puts a loop device over an open file or device. With partitions the
// kernel scans the table, where it has a parser for it, and AddPartition works;
// without, it never looks for one.
// LOOP_CTL_GET_FREE only proposes a number: who comes second gets EBUSY and
// asks again.
func Attach(ctx context.Context, back *os.File, partitions bool) (*Loop, error) {
	cfg := unix.LoopConfig{Size: 512}
	cfg.Info.Flags = loopFlagsAutoclear
	if partitions {
		cfg.Info.Flags |= loopFlagsPartscan
	}
	return attach(ctx, back, cfg)
}

// AttachWindow puts a loop device over a part of a disk, in bytes, for disks that
// a guest has written: the kernel never looks for a table on it. Read-only, it
// refuses every write.
func AttachWindow(ctx context.Context, back *os.File, startByte, sizeBytes int64, readOnly bool) (*Loop, error) {
	cfg := unix.LoopConfig{Size: 512}
	cfg.Info.Flags = loopFlagsAutoclear
	cfg.Info.Offset, cfg.Info.Sizelimit = uint64(startByte), uint64(sizeBytes)
	if readOnly {
		cfg.Info.Flags |= loopFlagsReadOnly
	}
	return attach(ctx, back, cfg)
}

// lockedTries are how often a free device is tried that another has locked, most likely for a
// moment, before those after it are.
const lockedTries = 20

func attach(ctx context.Context, back *os.File, cfg unix.LoopConfig) (*Loop, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("loop device: %w (is the loop module loaded?)", err)
	}
	defer control.Close()
	l := &Loop{}
	for try := 0; ; try++ {
		n, err := unix.IoctlRetInt(int(control.Fd()), loopCtlGetFree)
		if err != nil {
			return nil, fmt.Errorf("loop device: find a free one: %w", err)
		}
		if try >= lockedTries { // whoever has locked that keeps it, and it is found again and again
			n += try - lockedTries + 1
			_ = unix.IoctlSetInt(int(control.Fd()), loopCtlAdd, n) // or it is there
		}
		if err = l.configure(n, back, cfg); err == nil {
			return l, nil
		}
		busy := errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO)
		if !busy || try == 200 || ctx.Err() != nil {
			return nil, fmt.Errorf("loop device: attach %s to loop%d: %w", back.Name(), n, err)
		}
		time.Sleep(time.Duration(try%10+1) * time.Millisecond)
	}
}

func (l *Loop) configure(n int, back *os.File, cfg unix.LoopConfig) error {
	path := "/dev/loop" + strconv.Itoa(n)
	// The kernel makes the device read-only by itself when this is.
	mode := os.O_RDWR
	if cfg.Info.Flags&loopFlagsReadOnly != 0 {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(path, mode, 0)
	if errors.Is(err, unix.ENOENT) { // /dev isn't devtmpfs: make the node
		if err = unix.Mknod(path, unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(n)))); err == nil {
			f, err = os.OpenFile(path, mode, 0)
		}
	}
	if err != nil {
		return err
	}
	// The lock comes first, so that udev never probes what we are about to write.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return unix.EBUSY
	}
	cfg.Fd = uint32(back.Fd())
	copy(cfg.Info.File_name[:], back.Name())
	if err := unix.IoctlLoopConfigure(int(f.Fd()), &cfg); err != nil {
		f.Close()
		return err
	}
	if mode == os.O_RDWR {
		if err := errors.Join(clearReadOnly(f), l.limitRequests(n, back)); err != nil {
			f.Close()
			return err
		}
	}
	l.Path, l.number, l.file, l.back = path, n, f, back
	l.over = l.isOver()
	l.had = blocksOf(back)
	return nil
}

// blocksOf is what a file takes, in the units of stat(2); a device takes none.
func blocksOf(f *os.File) int64 {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0
	}
	return st.Blocks
}

// clearReadOnly makes a device writable that somebody has made read-only while it was over
// another file (blockdev --setro): the kernel keeps that, and all writes would fail with
// EPERM.
func clearReadOnly(f *os.File) error {
	is, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET)
	if err == nil && is != 0 {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, 0)
	}
	if err != nil {
		err = fmt.Errorf("make %s writable: %w", f.Name(), err)
	}
	return err
}

// isServed tells whether a file is on FUSE.
func isServed(f *os.File) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &fs) == nil && fs.Type == unix.FUSE_SUPER_MAGIC
}

// fuseKiB is what FUSE passes on in one piece, of pages that need not begin with a request's.
const fuseKiB = 512

// limitRequests keeps requests for a file on FUSE so small that they aren't cut into pieces: of
// those the kernel takes the first one's success for that of all, as where a file's filesystem
// is full (see hadRoom). The kernel keeps the limit, so it is taken back in the end.
func (l *Loop) limitRequests(n int, back *os.File) error {
	if !isServed(back) {
		return nil
	}
	path := fmt.Sprintf("/sys/block/loop%d/queue/max_sectors_kb", n)
	text, err := os.ReadFile(path)
	if had, _ := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && had > fuseKiB {
		err = os.WriteFile(path, []byte(strconv.Itoa(fuseKiB)), 0)
		l.unlimit = func() { _ = os.WriteFile(path, text, 0) }
	}
	return err
}

// AddPartition makes partition number of the disk reachable and returns its
// node, /dev/loopNpM. Start and length are in 512-byte sectors. Where the
// kernel has scanned the table itself, its idea of the partition must agree.
func (l *Loop) AddPartition(number int, startSector, sectors int64) (string, error) {
	name := fmt.Sprintf("loop%dp%d", l.number, number)
	part := unix.BlkpgPartition{Start: startSector * 512, Length: sectors * 512, Pno: int32(number)}
	arg := unix.BlkpgIoctlArg{Op: unix.BLKPG_ADD_PARTITION, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, l.file.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 && errno != unix.EBUSY {
		return "", fmt.Errorf("partition %s: %w", name, errno)
	}
	if err := l.checkGeometry(name, startSector, sectors); err != nil {
		return "", err
	}
	node, made, err := partitionNode(name)
	if made {
		l.made = append(l.made, node)
	}
	if err == nil {
		l.parts = append(l.parts, node)
	}
	return node, err
}

// Unlock gives up the lock that keeps systemd-udevd away, once table and
// filesystems are made: while it is held udev's queue, and so every "udevadm
// settle" of the node, waits. A device that is never unlocked is one that udev never reads.
func (l *Loop) Unlock() {
	unix.Flock(int(l.file.Fd()), unix.LOCK_UN)
	l.unlocked = true
}

// checkGeometry compares sysfs' start and size (512-byte sectors) of a
// partition with ours, right before it is used.
func (l *Loop) checkGeometry(name string, startSector, sectors int64) error {
	dir := fmt.Sprintf("/sys/block/loop%d/%s/", l.number, name)
	for file, want := range map[string]int64{"start": startSector, "size": sectors} {
		b, err := os.ReadFile(dir + file)
		if err != nil {
			return fmt.Errorf("partition %s: %w", name, err)
		}
		if got := strings.TrimSpace(string(b)); got != strconv.FormatInt(want, 10) {
			return fmt.Errorf("partition %s: the kernel says %s %s, not %d", name, file, got, want)
		}
	}
	return nil
}

// partitionNode returns the device node of a partition, made by mknod where
// neither devtmpfs nor udev makes it.
func partitionNode(name string) (node string, made bool, err error) {
	b, err := os.ReadFile("/sys/class/block/" + name + "/dev")
	if err != nil {
		return "", false, err
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(b), "%d:%d", &major, &minor); err != nil {
		return "", false, fmt.Errorf("partition %s: device number %q: %w", name, b, err)
	}
	path, want := "/dev/"+name, unix.Mkdev(major, minor)
	for range 50 { // devtmpfs is synchronous; a static /dev never gets one
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err == nil {
			if st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == want {
				return path, made, nil
			}
			os.Remove(path) // of an earlier device
		}
		err := unix.Mknod(path, unix.S_IFBLK|0o660, int(want))
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return "", false, fmt.Errorf("node %s: %w", path, err)
		}
		made = err == nil
	}
	return "", false, fmt.Errorf("node %s does not become device %s", path, strings.TrimSpace(string(b)))
}

// Sync writes out what the loop device holds, and fails where not all of it may have been taken.
func (l *Loop) Sync() error { return errors.Join(l.file.Sync(), l.hadRoom()) }

// leastRoomBytes is what must be left where a file lies: as much as a loop device's largest request.
const leastRoomBytes = 1280 << 10

// hadRoom fails where the file has taken the last of its filesystem's space: of a request that
// only begins to fit, a loop device writes the beginning, and the kernel tells nobody that it
// didn't write the rest (lo_complete_rq in drivers/block/loop.c, of Linux 6.18 at least).
func (l *Loop) hadRoom() error {
	if blocksOf(l.back) == l.had && isInPlace(l.back) || hasRoom(l.back) {
		return nil
	}
	return fmt.Errorf("the filesystem of %s is full, and the kernel doesn't tell whether all was written: make room there, and run this again: %w", l.back.Name(), unix.ENOSPC)
}

// isInPlace tells whether what a file has is written over where it lies: btrfs takes room for it
// anew, as does xfs for what the file shares with a copy (ioctl_ficlonerange(2)), and the file
// takes no more after that.
func isInPlace(f *os.File) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &fs) != nil || fs.Type != unix.BTRFS_SUPER_MAGIC && fs.Type != unix.XFS_SUPER_MAGIC && fs.Type != unix.BCACHEFS_SUPER_MAGIC
}

// hasRoom tells whether a file could take more, by taking it for a moment behind the file's
// end. What a filesystem calls free has what it keeps for itself (ext4) and what is for other
// things than data (btrfs), and knows of no quota; it is only asked where nothing can be taken
// like that.
func hasRoom(f *os.File) bool {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return true
	}
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, st.Size, leastRoomBytes)
	if err == nil || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return errors.Join(err, unix.Ftruncate(int(f.Fd()), st.Size)) == nil
	}
	return unix.Fstatfs(int(f.Fd()), &fs) != nil || fs.Blocks == 0 || fs.Bfree*uint64(fs.Bsize) >= leastRoomBytes
}

// Leave closes the device here: it lasts as long as it is mounted.
func (l *Loop) Leave() error { return l.file.Close() }

// Detach clears the device and waits until it is really gone, since Ganeti
// demotes a DRBD device or removes a snapshot right after the script ends and
// fails if anything still holds it. systemd-udevd gets the chance to finish, unless it was
// never let in.
func (l *Loop) Detach(ctx context.Context) error {
	if l.file == nil {
		return nil
	}
	if l.unlocked {
		settleUdev(ctx, 2*time.Second)
	}
	if l.unlimit != nil { // while the device is ours
		l.unlimit()
	}
	if err := unix.IoctlSetInt(int(l.file.Fd()), loopClrFd, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("%s: detach: %w", l.Path, err)
	}
	l.file.Close()
	l.file = nil
	deadline := time.Now().Add(10 * time.Second)
	for l.attached() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: still held by another program 10 s after it was detached: see which (fuser -v %[1]s)", l.Path)
		}
		time.Sleep(2 * time.Millisecond)
	}
	for _, node := range l.made {
		os.Remove(node)
	}
	return nil
}

// attached reports whether the device is still over our disk. It isn't asked itself, since
// that may be over somebody else's by now: see loopStatus.
func (l *Loop) attached() bool { return l.over != "" && l.isOver() == l.over }

func (l *Loop) isOver() string {
	return LoopOver(l.Path)
}
