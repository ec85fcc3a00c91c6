package filesystem

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatTheKernelCanMountIsBuiltInOrAModule(t *testing.T) {
	dir := t.TempDir()
	list := filepath.Join(dir, "filesystems")
	for name, text := range map[string]string{
		"filesystems":     "nodev\tsysfs\nnodev\ttmpfs\n\text4\n",
		"modules.dep":     "kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz\nkernel/drivers/net/notbtrfs.ko:\n",
		"modules.builtin": "kernel/fs/ext4/ext4.ko\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for kind, want := range map[Type]bool{Ext2: true, Ext3: true, Ext4: true, XFS: true, Btrfs: false} {
		err := kernelHas(kind, list, dir, "6.1.0")
		if (err == nil) != want {
			t.Errorf("%s: %v", kind, err)
		}
		if err != nil && !strings.Contains(err.Error(), "btrfs") {
			t.Errorf("%v doesn't name the type", err)
		}
	}
	if err := kernelHas(XFS, list, filepath.Join(dir, "no-modules"), "6.1.0"); err == nil {
		t.Error("a kernel without modules has xfs")
	}
	if err := kernelHas(XFS, filepath.Join(dir, "gone"), filepath.Join(dir, "no-modules"), "6.1.0"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without /proc: %v", err)
	}
}
