package blockdev

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestOnlyWhatKeepsADiskIsLeftOver(t *testing.T) {
	sys := t.TempDir()
	for path, text := range map[string]string{
		"loop0/loop/backing_file": "/dev/drbd0\n", "loop0/loop/autoclear": "0\n",
		"loop1/loop/backing_file": "/dev/drbd1\n", "loop1/loop/autoclear": "1\n", // as ours
		"loop2/loop/backing_file": "/srv/disk (deleted)\n", "loop2/loop/autoclear": "0\n",
		"loop3/loop/backing_file": "/var/lib/snapd/snaps/core.snap\n", "loop3/loop/autoclear": "0\n",
		"loop4/loop/backing_file": "/dev/shm/disk\n", "loop4/loop/autoclear": "0\n",
		"loop5/size":              "0\n",
		"loop6/loop/backing_file": "/dev/dm-0\n", "loop6/loop/autoclear": "0\n",
		"dm-0/dm/uuid": "LVM-abc\n", "dm-0/dm/name": "vg-disk", "dm-0/slaves/sda/size": "1",
		"dm-1/dm/uuid": "part1-LVM-abc\n", "dm-1/dm/name": "vg-disk1", "dm-1/slaves/dm-0/size": "1",
		"dm-2/dm/uuid": "part1-devnode_147:0_Wh5pYvM\n", "dm-2/dm/name": "drbd0p1", "dm-2/slaves/drbd0/size": "1",
		"dm-3/dm/uuid": "part1-mpath-3600\n", "dm-3/dm/name": "mpatha1", "dm-3/slaves/dm-9/size": "1",
	} {
		path = filepath.Join(sys, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := []Leftover{
		{"/dev/mapper/vg-disk1", "/dev/mapper/vg-disk", "kpartx -d /dev/mapper/vg-disk"},
		{"/dev/mapper/drbd0p1", "/dev/drbd0", "kpartx -d /dev/drbd0"},
		{"/dev/loop0", "/dev/drbd0", "losetup -d /dev/loop0"},
		{"/dev/loop2", "/srv/disk (deleted)", "losetup -d /dev/loop2"},
		{"/dev/loop6", "/dev/mapper/vg-disk", "losetup -d /dev/loop6"},
	}
	if got := leftovers(sys); !slices.Equal(got, want) {
		t.Errorf("%q, not\n%q", got, want)
	}
}
