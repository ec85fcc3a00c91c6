//go:build root

package blockdev

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestALoopDeviceWhoseFileTookTheLastOfItsFilesystemIsNotSyncedWell(t *testing.T) {
	dir := t.TempDir()
	tool(t, "", "mount", "-t", "tmpfs", "-o", "size=3m", "full", dir)
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	path := filepath.Join(dir, "disk")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 8<<20)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kib  int64
		full bool
	}{{1024, false}, {1856, true}, {1024, false}} { // the last one takes no more than before
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Attach(t.Context(), f, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.file.WriteAt(bytes.Repeat([]byte{1}, int(c.kib)<<10), 0); err != nil {
			t.Fatal(err)
		}
		err = l.Sync()
		if c.full && (!errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), path)) || !c.full && err != nil {
			t.Errorf("%d KiB of 3 MiB: %v", c.kib, err)
		}
		if err := errors.Join(l.Detach(t.Context()), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// Of ext4's free space a part is kept back, and btrfs has some for other things than data.
func TestAFilesystemIsFullThoughItCallsSomethingFree(t *testing.T) {
	for _, mkfs := range []string{"mkfs.ext4", "mkfs.btrfs"} {
		image, dir := newDisk(t, 256<<20), t.TempDir()
		tool(t, "", mkfs, "-q", image)
		tool(t, "", "mount", "-o", "loop", image, dir)
		t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
		path, fill := filepath.Join(dir, "disk"), filepath.Join(dir, "fill")
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 8<<20)); err != nil {
			t.Fatal(err)
		}
		writeByLoop := func(at int64) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			l, err := Attach(t.Context(), f, false)
			if err != nil {
				t.Fatal(err)
			}
			// In pieces, of which some may fit.
			if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
				t.Fatal(err)
			}
			direct, err := OpenDirect(l.file, os.O_WRONLY) // so that it is one request
			if err != nil {
				t.Fatal(err)
			}
			_, err = direct.WriteAt(alignedBytes(512<<10), at)
			err = errors.Join(err, direct.Close(), l.Sync())
			if err := errors.Join(l.Detach(t.Context()), f.Close()); err != nil {
				t.Fatal(err)
			}
			return err
		}
		if err := writeByLoop(4096); err != nil {
			t.Errorf("%s: %v", mkfs, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Blocks > 1<<10+64 {
			t.Errorf("%s: a file with half a MiB has %d blocks, %v", mkfs, st.Blocks, err)
		}
		exec.Command("dd", "if=/dev/zero", "of="+fill, "bs=64k").Run() // all that there is
		tool(t, "", "truncate", "-s", "-256K", fill)
		if err := writeByLoop(4<<20 + 4096); err == nil {
			t.Errorf("%s: 512 KiB where 256 are left: %v", mkfs, err)
		}
	}
}

// TestWhatIsWrittenAnewElsewhereNeedsRoom: btrfs and, of what a file shares with a copy, xfs take
// room for it, and the file has no more blocks than before.
func TestWhatIsWrittenAnewElsewhereNeedsRoom(t *testing.T) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, mkfs := range []string{"mkfs.btrfs", "mkfs.xfs"} {
		image, dir := newDisk(t, 320<<20), t.TempDir()
		tool(t, "", mkfs, "-q", image)
		tool(t, "", "mount", "-o", "loop", image, dir)
		t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
		path, fill := filepath.Join(dir, "disk"), filepath.Join(dir, "fill")
		check(os.WriteFile(path+"-copy", bytes.Repeat([]byte{1}, 8<<20), 0o600))
		tool(t, "", "cp", "--reflink=always", path+"-copy", path)
		exec.Command("dd", "if=/dev/zero", "of="+fill, "bs=64k").Run() // all that there is
		tool(t, "", "truncate", "-s", "-1700K", fill)
		tool(t, "", "sync", "-f", dir)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		check(err)
		l, err := Attach(t.Context(), f, false)
		check(err)
		direct, err := OpenDirect(l.file, os.O_WRONLY)
		check(err)
		want, got := alignedBytes(512<<10), make([]byte, 512<<10)
		for at := int64(4096); ; at += 512 << 10 { // until one is lost, or is said to be
			_, err := direct.WriteAt(want, at)
			_, readErr := f.ReadAt(got, at)
			check(readErr)
			if lost := !bytes.Equal(got, want); lost || err != nil {
				if err := errors.Join(err, l.Sync()); err == nil {
					t.Errorf("%s: what was written at %d is not there, and nothing says so", mkfs, at)
				}
				break
			}
		}
		check(errors.Join(direct.Close(), l.Detach(t.Context()), f.Close()))
	}
}
