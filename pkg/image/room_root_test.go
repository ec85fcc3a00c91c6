//go:build root

package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestADiskWithoutRoomIsToldBeforeDataAreWritten(t *testing.T) {
	path, _ := sealed(t)
	dir := t.TempDir()
	must(t, unix.Mount("small", dir, "tmpfs", 0, "size=4m"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	disk, err := os.Create(dir + "/disk")
	must(t, err)
	defer disk.Close()
	must(t, disk.Truncate(sizeBytes))
	if err := open(t, path).CopyTo(context.Background(), disk, 0); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "no room for the tree's ") {
		t.Errorf("the copy says %v", err)
	}
	got := make([]byte, sizeBytes)
	_, err = disk.ReadAt(got, 0)
	must(t, err)
	if !bytes.Equal(got, make([]byte, sizeBytes)) {
		t.Error("data were written")
	}
}
