package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what processes have used by their ends: the provider's own and the
// tools that it ran.
type usage struct {
	CPU, OwnCPU         time.Duration
	OwnPeakKiB, PeakKiB int64  // of the largest process
	PeakTool            string // which tool that was
}

// own are the names of a provider's own processes: its scripts, the program by
// its own name, and the program when it starts itself anew.
var own = []string{"create", "import", "export", "rename", "verify", "instance-deboot", "exe"}

func (u *usage) add(r exited) {
	u.CPU += r.cpu
	if slices.Contains(own, r.command) {
		u.OwnCPU += r.cpu
		u.OwnPeakKiB = max(u.OwnPeakKiB, r.peakKiB)
		return
	}
	if r.peakKiB > u.PeakKiB {
		u.PeakKiB, u.PeakTool = r.peakKiB, r.command
	}
}

// sample is one run.
type sample struct {
	Wall    time.Duration
	Written int64 // bytes that reached the disk below
	usage
}

// measure runs op, with nothing left to be written by earlier runs. dir is on the
// filesystem whose disk is looked at.
func (b *bench) measure(dir string, op func() error) (sample, error) {
	unix.Sync()
	before, err := sectorsWritten(dir)
	if err != nil {
		return sample{}, err
	}
	b.accounting.begin()
	start := time.Now()
	err = op()
	s := sample{Wall: time.Since(start)}
	after, diskErr := sectorsWritten(dir)
	if err := errors.Join(err, diskErr); err != nil {
		return sample{}, err
	}
	s.Written = max(after-before, 0) * 512
	s.usage, err = b.accounting.end(os.Getpid())
	return s, err
}

// sectorsWritten returns how many sectors of 512 bytes were written to the disk
// that a folder is on (Documentation/block/stat.rst), -1 where it has none.
func sectorsWritten(dir string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, err
	}
	device := st.Dev
	if unix.Major(device) == 0 { // btrfs has numbers of its own
		node, err := mountSource(dir)
		if err != nil {
			return 0, err
		}
		if unix.Stat(node, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
			return -1, nil
		}
		device = st.Rdev
	}
	raw, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(device), unix.Minor(device)))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 7 {
		return 0, fmt.Errorf("statistics of the disk below %s: %q", dir, raw)
	}
	return strconv.ParseInt(fields[6], 10, 64) // write sectors
}

// mountOf returns the line of /proc/self/mountinfo (proc(5)) for the filesystem
// that a folder is on, as fields.
func mountOf(dir string) ([]string, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var best []string
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		inside := f[4] == "/" || dir == f[4] || strings.HasPrefix(dir, f[4]+"/")
		if inside && (best == nil || len(f[4]) >= len(best[4])) {
			best = f
		}
	}
	return best, nil
}

// mountSource returns the device that a folder's filesystem is on.
func mountSource(dir string) (string, error) {
	f, err := mountOf(dir)
	if err != nil {
		return "", err
	}
	return f[len(f)-2], nil
}

// fsType returns the type of a folder's filesystem.
func fsType(dir string) string {
	f, err := mountOf(dir)
	if err != nil {
		return "an unknown filesystem"
	}
	return f[len(f)-3]
}

// syncFile makes a disk durable, whatever the provider has done for that.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// newDisk makes a sparse file, as Ganeti does for a file disk.
func newDisk(path string, sizeBytes int64) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	os.Remove(path)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(sizeBytes), f.Close())
}

// median returns the middle of a list, which it sorts.
func median[T ~int64](list []T) T {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	if n := len(list); n%2 == 0 {
		return (list[n/2-1] + list[n/2]) / 2
	}
	return list[len(list)/2]
}
