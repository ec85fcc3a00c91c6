//go:build root

package guestdisk

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/partition"
)

// TestUdevIsKeptFromWhatTheNodesLVMWouldActivate: systemd-udevd reads no device that
// somebody has locked, and tells LVM and md of the others.
func TestUdevIsKeptFromWhatTheNodesLVMWouldActivate(t *testing.T) {
	for what, c := range map[string]struct {
		make   string // $0 is a loop device
		isSeen bool
	}{
		"nothing":             {"true", true},
		"ext4":                {"mke2fs -q -t ext4 $0", true},
		"swap":                {"mkswap $0", true},
		"a physical volume":   {"pvcreate -q -y $0", false},
		"more than one thing": {"mkfs.xfs -q $0 && mke2fs -q -F -t ext4 /dev/shm/$$ 8M && dd if=/dev/shm/$$ of=$0 bs=1k skip=1 seek=1 count=1 conv=notrunc; rm /dev/shm/$$", false},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk")
			if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 321<<20)); err != nil {
				t.Fatal(err)
			}
			script := "set -e; l=$(losetup --show -f -o 1M " + path + "); trap 'losetup -d $l' EXIT; sh -ec '" + c.make + "' $l"
			if out, err := exec.Command("bash", "-c", script).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			disk, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer disk.Close()
			part, err := attach(context.Background(), disk, partition.Partition{StartSector: 2048, Sectors: 320 << 11}, "", true)
			if err != nil {
				t.Fatal(err)
			}
			udevd, err := os.Open(part.Device)
			if err != nil {
				t.Fatal(err)
			}
			err = unix.Flock(int(udevd.Fd()), unix.LOCK_SH|unix.LOCK_NB)
			udevd.Close()
			if isSeen := err == nil; isSeen != c.isSeen {
				t.Errorf("udev may read it: %v", isSeen)
			}
			if err := part.loop.Detach(context.Background()); err != nil {
				t.Error(err)
			}
			if out, _ := exec.Command("losetup", "-j", path).CombinedOutput(); strings.TrimSpace(string(out)) != "" {
				t.Errorf("left: %s", out)
			}
		})
	}
}
