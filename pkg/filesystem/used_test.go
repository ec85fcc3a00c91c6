package filesystem

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAnInodeTableBeyondTheFilesystemIsNotTakenForEmptyBlocks, wherever a
// descriptor says that it is.
func TestAnInodeTableBeyondTheFilesystemIsNotTakenForEmptyBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fs")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mke2fs", "-q", "-t", "ext4", "-O", "^metadata_csum,^uninit_bg,^has_journal", path, "64m"}, {"tune2fs", "-O", "uninit_bg", path}, {"debugfs", "-w", "-f", "-", path}} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = strings.NewReader("set_bg 1 inode_table 6681089\nset_bg 1 itable_unused 1000\nset_bg 1 checksum calc\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if _, empty, err := UsedExtents(context.Background(), path, Ext4); err == nil || !strings.Contains(err.Error(), "don't lie in the filesystem") {
		t.Errorf("%v may be zeros: %v", empty, err)
	}
}

// TestALabelThatLooksLikeDumpe2fssTextIsNoPanic: dumpe2fs prints a label as it is.
func TestALabelThatLooksLikeDumpe2fssTextIsNoPanic(t *testing.T) {
	for _, label := range []string{"\n unused inodes", "\n\n  1 unused ino", "\nGroup 0: [\n\n"} {
		path := filepath.Join(t.TempDir(), "fs")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-L", label, path, "64m").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		UsedExtents(context.Background(), path, Ext4)
		ImageExtents(context.Background(), path, Ext4)
	}
}

// TestCountsOfUnusedInodesCountOnlyWhereTheKernelHeedsThem: without uninit_bg and
// metadata_csum the field is nobody's, whatever it holds.
func TestCountsOfUnusedInodesCountOnlyWhereTheKernelHeedsThem(t *testing.T) {
	for features, counted := range map[string]bool{"metadata_csum": true, "^metadata_csum,uninit_bg": true, "^metadata_csum,^uninit_bg": false} {
		path := filepath.Join(t.TempDir(), "fs")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		run := func(args ...string) {
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Stdin = strings.NewReader("set_bg 0 itable_unused 1000\nset_bg 0 checksum calc\n")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
		}
		run("mke2fs", "-q", "-t", "ext4", "-O", features+",^has_journal", path, "64m")
		run("debugfs", "-w", path)
		_, empty, err := UsedExtents(context.Background(), path, Ext4)
		if err != nil {
			t.Fatal(err)
		}
		if counted != (len(empty) > 0) {
			t.Errorf("%s: %v may be zeros", features, empty)
		}
	}
}

// TestAGuestThatUsesEachOtherBlockTakesNoMoreMemory reads what dumpe2fs says of 921,600
// free blocks that lie apart.
func TestAGuestThatUsesEachOtherBlockTakesNoMoreMemory(t *testing.T) {
	const free, blockSize = 921_600, 4096
	u := used{blockSize: blockSize, blocks: 2*free + 100_000}
	for i := range int64(free) {
		if err := u.ext(fmt.Sprintf("  Free blocks: %d", 2*i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := u.ext(fmt.Sprintf("  Free blocks: %d-%d", 2*free+10, 2*free+50_000)); err != nil {
		t.Fatal(err)
	}
	if err := u.end(u.blocks * blockSize); err != nil {
		t.Fatal(err)
	}
	if len(u.extents) > maxExtents || cap(u.extents) > 2*maxExtents {
		t.Errorf("%d extents, room for %d", len(u.extents), cap(u.extents))
	}
	// All that is in use is there, in order, and the long free run isn't.
	next, bytes := int64(0), int64(0)
	for _, e := range u.extents {
		if e.Offset < next || e.Bytes <= 0 {
			t.Fatalf("%v after %d", e, next)
		}
		for b := next / blockSize; b < e.Offset/blockSize; b++ {
			if isFree := b%2 == 1 && b < 2*free || b >= 2*free+10; !isFree {
				t.Fatalf("block %d is in use, and left out", b)
			}
		}
		next, bytes = e.Offset+e.Bytes, bytes+e.Bytes
	}
	if next != u.blocks*blockSize || bytes > (u.blocks-49_991)*blockSize {
		t.Errorf("they end at %d, and have %d bytes", next, bytes)
	}
}

func TestOfManyExtentsTheLargestAreKept(t *testing.T) {
	var l Largest
	for i := range int64(3 * maxExtents) {
		l.Add(Extent{Offset: i << 20, Bytes: 4096 << (i % 3)})
	}
	if n := len(l.List); n > maxExtents || n == 0 {
		t.Fatalf("%d are kept", n)
	}
	for _, e := range l.List {
		if e.Bytes < 4096<<2 {
			t.Fatalf("%v is kept, and larger ones may not be", e)
		}
	}
}
