//go:build root

package filesystem

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func made(t *testing.T, kind Type) string {
	t.Helper()
	dev := loop(t, 400*miB)
	if _, err := Make(t.Context(), Spec{Type: kind, Device: dev, Suite: "trixie"}); err != nil {
		t.Fatal(err)
	}
	return dev
}

func mountFlags(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Flags & (unix.ST_RDONLY | unix.ST_NODEV | unix.ST_NOSUID | unix.ST_NOEXEC | unix.ST_NOATIME)
}

func TestAFreshRootAllowsDevicesAndProgramsAHostileOneDoesNot(t *testing.T) {
	for _, kind := range Types() {
		dev := made(t, kind)
		dir := mountTemp(t, dev, kind)
		if got := mountFlags(t, dir); got != unix.ST_NOATIME {
			t.Errorf("%s: flags %#x", kind, got)
		}
		if err := Unmount(dir); err != nil {
			t.Fatal(err)
		}
		if err := MountWith(t.Context(), dev, dir, kind, MountOptions{ReadOnly: true, Untrusted: true}); err != nil {
			t.Fatal(err)
		}
		if got := mountFlags(t, dir); got != unix.ST_NOATIME|unix.ST_RDONLY|unix.ST_NODEV|unix.ST_NOSUID|unix.ST_NOEXEC {
			t.Errorf("%s: hostile flags %#x", kind, got)
		}
		if err := Unmount(dir); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTwoCopiesOfOneXFSCanBeMounted(t *testing.T) {
	a, b := made(t, XFS), loop(t, 400*miB)
	must(t, "dd", "if="+a, "of="+b, "bs=1M", "status=none", "conv=sparse,fsync")
	mountTemp(t, a, XFS)
	mountTemp(t, b, XFS)
}

func TestAMountThatFailsSaysWhy(t *testing.T) {
	dev := loop(t, 64*miB)
	if err := Mount(t.Context(), dev, t.TempDir(), Ext4); err == nil || !strings.Contains(err.Error(), dev) || !strings.Contains(err.Error(), "dmesg") {
		t.Errorf("a blank disk: %v", err)
	}
	if err := Mount(t.Context(), dev, t.TempDir(), "nofs"); err == nil || !strings.Contains(err.Error(), "modprobe nofs") {
		t.Errorf("an unknown type: %v", err)
	}
	if err := Mount(t.Context(), "/dev/no-such-disk", t.TempDir(), Ext4); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a missing disk: %v", err)
	}
}

func TestUnmountWaitsForABusyMount(t *testing.T) {
	dir := mountTemp(t, made(t, Ext4), Ext4)
	f, err := os.Create(filepath.Join(dir, "a name with blanks"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unmount(dir, 50*time.Millisecond); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), dir) {
		t.Errorf("while a file is open: %v", err)
	}
	time.AfterFunc(200*time.Millisecond, func() { f.Close() })
	if err := Unmount(dir); err != nil {
		t.Errorf("after it was closed: %v", err)
	}
	if err := Unmount(dir); err == nil || !strings.Contains(err.Error(), "nothing is mounted") {
		t.Errorf("a second time: %v", err)
	}
}

func TestAfterUnmountTheDeviceIsFree(t *testing.T) {
	for _, kind := range Types() {
		dev := made(t, kind)
		dir := mountTemp(t, dev, kind)
		if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Unmount(dir); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(dev, os.O_RDWR|unix.O_EXCL, 0)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		f.Close()
	}
}

func TestAFilesystemThatSomebodyHasMountedElsewhereIsNotSaidToBeFree(t *testing.T) {
	dev := made(t, Ext4)
	elsewhere, top := mountTemp(t, dev, Ext4), t.TempDir()
	dirs := []string{filepath.Join(top, "a"), filepath.Join(top, "b")}
	for _, dir := range dirs {
		if err := errors.Join(os.Mkdir(dir, 0o755), Mount(t.Context(), dev, dir, Ext4)); err != nil {
			t.Fatal(err)
		}
	}
	if err := UnmountAll(dirs); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("%v", err)
	}
	if points, err := MountsOf(dev); err != nil || len(points) != 1 || points[0] != elsewhere {
		t.Errorf("it is mounted on %q, %v", points, err)
	}
	if err := UnmountAll([]string{elsewhere}); err != nil {
		t.Error(err)
	}
}

func TestUnmountReportsThatTheFilesystemLivesOnElsewhere(t *testing.T) {
	dev := made(t, Ext4)
	elsewhere := mountTemp(t, dev, Ext4)
	dir := filepath.Join(t.TempDir(), "a dir")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Mount(t.Context(), dev, dir, Ext4); err != nil {
		t.Fatal(err)
	}
	if err := unmount(dir, 50*time.Millisecond); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), dev) || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("%v", err)
	}
	if _, err := MountSource(dir); err == nil {
		t.Error("it is still mounted")
	}
	if _, err := MountSource(elsewhere); err != nil {
		t.Error(err)
	}
}

func TestUnmountOfATmpfsHasNoDeviceToWaitFor(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := Unmount(dir); err != nil {
		t.Error(err)
	}
}
