package filesystem

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

// UnmountBelow unmounts everything mounted below target, the latest mount first,
// but not target itself. What stays busy for half a second is detached: it goes
// away with its last user.
func UnmountBelow(target string) error {
	const patient, most = 10, 13
	for try := 1; ; try++ {
		points, err := MountsBelow(target)
		if err != nil || len(points) == 0 {
			return err
		}
		flags := unix.UMOUNT_NOFOLLOW
		if try > patient {
			flags |= unix.MNT_DETACH
		}
		var faults []error
		for _, point := range slices.Backward(points) {
			if err := unix.Unmount(point, flags); err != nil {
				faults = append(faults, fmt.Errorf("unmount %s: %w", point, err))
			}
		}
		if try == most {
			return errors.Join(faults...)
		}
		if len(faults) > 0 {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// MountsOf returns where a device is mounted, in the kernel's order.
func MountsOf(device string) (points []string, err error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(info)) {
		before, after, _ := strings.Cut(line, " - ") // proc_pid_mountinfo(5): type and source follow
		fields, source := strings.Fields(before), strings.Fields(after)
		if len(fields) > 4 && len(source) > 1 && source[1] == device {
			points = append(points, unescapeOctal(fields[4]))
		}
	}
	return points, err
}

// SourceOf returns what the mount is of that an open folder is in.
func SourceOf(folder *os.File) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", folder.Fd()))
	if err != nil {
		return "", err
	}
	_, id, _ := strings.Cut(string(text), "mnt_id:") // proc_pid_fdinfo(5)
	fields := strings.Fields(id)
	info, err := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(info)) {
		before, after, _ := strings.Cut(line, " - ")
		mount, source := strings.Fields(before), strings.Fields(after)
		if len(fields) > 0 && len(mount) > 0 && mount[0] == fields[0] && len(source) > 1 {
			return source[1], nil
		}
	}
	return "", errors.Join(err, fmt.Errorf("%s is in no mount of this namespace", folder.Name()))
}

// MountsBelow returns the mount points below target, in the kernel's order: a
// mount comes after those that it is mounted in or on.
func MountsBelow(target string) ([]string, error) {
	abs, err := filepath.Abs(target)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return nil, fmt.Errorf("mounts below %s: %w", target, err)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var points []string
	for line := range strings.SplitSeq(string(info), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 5 { // proc_pid_mountinfo(5): the fifth field is the mount point
			continue
		}
		if point := unescapeOctal(fields[4]); strings.HasPrefix(point, strings.TrimRight(abs, "/")+"/") {
			points = append(points, point)
		}
	}
	return points, nil
}

// unescapeOctal turns mountinfo's \040 (space), \011, \012 and \134 into the bytes.
func unescapeOctal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
