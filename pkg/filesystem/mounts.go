package filesystem

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/mounts"
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
	list, err := mounts.List("self")
	for _, m := range list {
		if m.Source == device {
			points = append(points, m.Point)
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
	id, _, _ = strings.Cut(id, "\n")
	list, err := mounts.List("self")
	for _, m := range list {
		if m.ID == strings.TrimSpace(id) {
			return m.Source, nil
		}
	}
	return "", errors.Join(err, fmt.Errorf("%s is in no mount of this namespace", folder.Name()))
}

// MountsBelow returns the mount points below target, in the kernel's order: a
// mount comes after those that it is mounted in or on.
func MountsBelow(target string) (points []string, err error) {
	abs, err := filepath.Abs(target)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return nil, fmt.Errorf("mounts below %s: %w", target, err)
	}
	list, err := mounts.List("self")
	for _, m := range list {
		if strings.HasPrefix(m.Point, strings.TrimRight(abs, "/")+"/") {
			points = append(points, m.Point)
		}
	}
	return points, err
}
