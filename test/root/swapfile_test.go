//go:build root

package root

import (
	"os"
	"strings"
	"testing"
)

// swapsOn fails unless the guest's kernel would take its swap file: this node's does.
func (l *lab) swapsOn(sizeMiB int64) {
	l.Helper()
	l.change(func(tree string) {
		file := tree + "/swapfile"
		st, err := os.Stat(file)
		if err != nil || st.Size() != sizeMiB<<20 || st.Mode() != 0o600 {
			l.Fatalf("%+v, %v", st, err)
		}
		l.tool("swapon", file)
		l.tool("swapoff", file)
		has(l.T, l.tool("cat", tree+"/etc/fstab"), "\n/swapfile ")
	})
}

// A swap file with holes is none, so every way of a backup has to keep its blocks.
func TestASwapFileIsOneAfterCreateAndEachWayOfABackup(t *testing.T) {
	for _, c := range []struct{ fstype, style, format string }{
		{"ext4", "msdos", "tar"}, {"ext4", "none", "image"}, {"ext3", "none", "dump"}, {"xfs", "msdos", "tar"}, {"xfs", "none", "image"},
	} {
		t.Run(c.fstype+"/"+c.format, func(t *testing.T) {
			l := newMoveLab(t, sourceMiB)
			l.env["OSP_SWAP_FILE_SIZE"] = "64"
			l.guest(c.style, c.fstype)
			delete(l.env, "OLD_INSTANCE_NAME")
			l.swapsOn(64)
			l.env["EXPORT_FORMAT"] = c.format
			stream := l.export(0, l.disk)
			l.target(700)
			l.importFile(stream)
			l.swapsOn(64)
			l.checkFilesystem(c.fstype)
		})
	}
}

func TestASwapFileThatCannotBeIsRefusedBeforeTheDiskIsTouched(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.env["OSP_SWAP_FILE_SIZE"] = "4096"
	l.fails("with the swap file of SWAP_FILE_SIZE=4096")
	l.untouched()
	l.env["OSP_SWAP_FILE_SIZE"], l.env["OSP_FILESYSTEM"] = "64", "btrfs"
	l.fails("SWAP_FILE_SIZE: a swap file on btrfs")
	l.untouched()
	if log, exit := l.run("verify", "parameters"); exit != 1 || !strings.Contains(log, "SWAP_FILE_SIZE: a swap file on btrfs") {
		t.Errorf("verify: exit status %d\n%s", exit, log)
	}
}

func TestAnInstanceWithASwapDiskGetsNoSwapFileAndTheCacheHasNone(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.env["OSP_SWAP_FILE_SIZE"] = "64"
	l.create()
	l.swapsOn(64)
	l.env["DISK_COUNT"], l.env["DISK_1_PATH"], l.env["DISK_1_ACCESS"], l.env["DISK_1_NAME"] = "2", l.blankDisk("swap", 64), "w", "swap"
	l.env["INSTANCE_REINSTALL"] = "1"
	l.create()
	l.mounted(func(tree string) {
		if _, err := os.Lstat(tree + "/swapfile"); !os.IsNotExist(err) {
			t.Error(err)
		}
		if fstab := l.tool("cat", tree+"/etc/fstab"); strings.Contains(fstab, "/swapfile") || strings.Count(fstab, " swap ") != 2 {
			t.Error(fstab)
		}
	})
}
