//go:build root

package settings

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnotherDiskIsMappedAndUnmapped(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root")
	}
	h := newHook(t, "")
	disk := filepath.Join(h.dir, "disk1")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 64<<20); err != nil {
		t.Fatal(err)
	}
	h.env = append(h.env, "PARTITION_STYLE=msdos", "BLOCKDEV=/dev/null", "FSYSDEV=/dev/null", "DISK_1_PATH="+disk)
	out, err := h.run(`set -e; . common.sh
format_disk0 "$DISK_1_PATH"
part=$(map_disk0 "$DISK_1_PATH")
CLEANUP+=("unmap_disk0 $DISK_1_PATH")
mke2fs -q -t ext4 -U 11111111-2222-3333-4444-555555555555 "$part"
echo "$($VOL_ID "$part") $($VOL_TYPE "$part") $(blockdev --getsize64 "$part")"`)
	if err != nil || out != "11111111-2222-3333-4444-555555555555 ext4 66060288\n" {
		t.Errorf("%q, %v", out, err)
	}
	if left, _ := exec.Command("losetup", "--associated", disk).Output(); strings.TrimSpace(string(left)) != "" {
		t.Errorf("left attached: %s", left)
	}
	out, err = h.run(`set -e; . common.sh; truncate -s 0 "$DISK_1_PATH"; truncate -s 16M "$DISK_1_PATH"; map_disk0 "$DISK_1_PATH"`)
	if err == nil {
		t.Errorf("a disk without a table is mapped: %q", out)
	}
	if left, _ := exec.Command("losetup", "--associated", disk).Output(); strings.TrimSpace(string(left)) != "" {
		t.Errorf("left attached: %s", left)
	}
}
