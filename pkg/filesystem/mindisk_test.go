package filesystem

import (
	"testing"
	"time"
)

// TestMinDiskBytesEndsWhateverItIsTold: the numbers come from a backup's manifest.
func TestMinDiskBytesEndsWhateverItIsTold(t *testing.T) {
	for _, fstype := range []Type{Ext2, Ext3, Ext4, XFS, Btrfs} {
		for _, c := range []struct{ contentBytes, inodes int64 }{
			{1 << 60, 1 << 60}, {0, 1 << 60}, {1 << 60, 0}, {1 << 50, 1 << 36}, {1 << 40, 1 << 33}, {0, 1 << 32}, {1 << 45, 0}, {0, 0},
		} {
			start := time.Now()
			size := MinDiskBytes(fstype, "trixie", c.contentBytes, c.inodes)
			if took := time.Since(start); size < c.contentBytes || size%(1<<20) != 0 || took > 3*time.Second {
				t.Errorf("%s for %d bytes and %d inodes: %d after %v", fstype, c.contentBytes, c.inodes, size, took)
			}
		}
	}
}
