//go:build root

package filesystem

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/tell"
)

// syntheticTree is a tree of files in folders of 50, and some large ones.
type syntheticTree struct {
	small []int64 // sizes, taken in turn
	count int
	large []int64
}

// sizes returns what MinDiskBytes is told of the tree.
func (s syntheticTree) sizes() (contentBytes, inodes int64) {
	add := func(n int64) {
		contentBytes += ceil(n, 4096) * 4096
		inodes++
	}
	for i := range s.count {
		if i%50 == 0 {
			add(4096)
		}
		add(s.small[i%len(s.small)])
	}
	for _, n := range s.large {
		add(n)
	}
	return contentBytes, inodes
}

// fill writes the tree, of data that doesn't compress, and syncs.
func (s syntheticTree) fill(dir string) error {
	noise := rand.NewChaCha8([32]byte{})
	write := func(path string, n int64) error {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyN(f, noise, n)
		return err
	}
	folder := dir
	for i := range s.count {
		if i%50 == 0 {
			folder = filepath.Join(dir, fmt.Sprintf("folder-%d", i/50))
			if err := os.Mkdir(folder, 0o755); err != nil {
				return err
			}
		}
		if err := write(filepath.Join(folder, fmt.Sprintf("a-file-with-a-name-of-some-length.%d", i)), s.small[i%len(s.small)]); err != nil {
			return err
		}
	}
	for i, n := range s.large {
		if err := write(filepath.Join(dir, fmt.Sprintf("large-%d", i)), n); err != nil {
			return err
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// fitsInReality makes the filesystem and fills it.
func fitsInReality(t *testing.T, kind Type, suite string, sizeBytes int64, tree syntheticTree) bool {
	t.Helper()
	dev := loop(t, sizeBytes/miB*miB)
	if _, err := Make(t.Context(), Spec{Type: kind, Device: dev, Suite: suite}); err != nil {
		t.Fatal(err)
	}
	err := tree.fill(mountTemp(t, dev, kind))
	if err != nil && !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return err == nil
}

// The smallest partition holds the tree, and a somewhat smaller one doesn't. For
// ext2 and ext3 the margin is wider: see the indirect blocks in fitsExt; btrfs
// counts whole chunks.
func TestATreeFitsInTheSmallestPartitionAndNotInASmaller(t *testing.T) {
	tree := syntheticTree{
		small: []int64{0, 200, 900, 1500, 2500, 3000, 5000, 8000, 12000, 30000, 60000, 150000},
		count: 2000, large: []int64{90 << 20, 60 << 20, 60 << 20},
	}
	contentBytes, inodes := tree.sizes()
	for _, c := range []struct {
		kind    Type
		suite   string
		percent int64 // of the size, at which it no longer fits
	}{
		{Ext3, "wheezy", 90},
		{Ext4, "trixie", 97},
		{XFS, "trixie", 97},
		{Btrfs, "trixie", 93},
	} {
		t.Run(fmt.Sprintf("%s %s", c.kind, c.suite), func(t *testing.T) {
			t.Parallel()
			size := MinDiskBytes(c.kind, c.suite, contentBytes, inodes)
			if !fitsInReality(t, c.kind, c.suite, size, tree) {
				t.Errorf("%s of content don't fit in %s", tell.MiB(contentBytes), tell.MiB(size))
			}
			if smaller := size * c.percent / 100; fitsInReality(t, c.kind, c.suite, smaller, tree) {
				t.Errorf("%s of content fit in %s already, not only in %s", tell.MiB(contentBytes), tell.MiB(smaller), tell.MiB(size))
			}
		})
	}
}

// Many empty files: the inodes decide.
func TestInodesDecideForATreeOfEmptyFiles(t *testing.T) {
	tree := syntheticTree{small: []int64{0}, count: 14000}
	contentBytes, inodes := tree.sizes()
	size := MinDiskBytes(Ext4, "trixie", contentBytes, inodes)
	if !fitsInReality(t, Ext4, "trixie", size, tree) {
		t.Errorf("don't fit in %s", tell.MiB(size))
	}
	if fitsInReality(t, Ext4, "trixie", size*95/100, tree) {
		t.Errorf("fit in less than %s", tell.MiB(size))
	}
}
