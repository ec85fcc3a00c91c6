package install

import (
	"context"
	"errors"
	"fmt"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// checkSuits refuses a tree that doesn't fit on the disk, or whose kernel can't do with
// the instance's network interfaces, before the disk is touched. With a kernel that is
// there only if it fits, the tree without is tried: tree and choice are then others.
func checkSuits(ctx context.Context, s *session.Session, c Choice, disk *blockdev.Disk, tree *cache.Entry) (*cache.Entry, Choice, error) {
	tree, c, err := checkFit(ctx, s, c, disk, tree)
	if err == nil && tree != nil && c.Boot.Loader != "" {
		err = c.checkTreesNICs(ctx, tree, s.WorkDir)
	}
	return tree, c, err
}

func checkFit(ctx context.Context, s *session.Session, c Choice, disk *blockdev.Disk, tree *cache.Entry) (*cache.Entry, Choice, error) {
	if err := c.checkBootTree(tree); err != nil {
		return tree, c, err
	}
	err := c.fitsWithSwap(ctx, disk, tree)
	if !c.mayDropBoot(tree, err) {
		return tree, c, err
	}
	c = c.withoutBoot(ctx, err)
	if tree, err = getTree(ctx, s, c); err != nil {
		return nil, c, err
	}
	return tree, c, c.fits(ctx, disk, tree, c.swapFileRoom())
}

// errSwapFile says that only a swap file leaves a tree too little room.
var errSwapFile = errors.New("with the swap file of SWAP_FILE_SIZE")

// fitsWithSwap is fits with the guest's swap file.
func (c Choice) fitsWithSwap(ctx context.Context, disk *blockdev.Disk, tree *cache.Entry) error {
	swap := c.swapFileRoom()
	err := c.fits(ctx, disk, tree, swap)
	if err != nil && swap.Bytes > 0 && c.fits(ctx, disk, tree, cache.Room{}) == nil {
		return fmt.Errorf("%w, %w=%d", err, errSwapFile, swap.Bytes>>20)
	}
	return err
}

// mayDropBoot tells whether a tree that doesn't fit has a kernel that is there only if it
// does.
func (c Choice) mayDropBoot(tree *cache.Entry, err error) bool {
	return err != nil && !errors.Is(err, errSwapFile) && c.Boot.Loader != "" && !c.mustBoot() && tree.Key != ""
}

// swapFileRoom is what the guest's swap file takes.
func (c Choice) swapFileRoom() cache.Room {
	bytes := c.swapFileBytes()
	return cache.Room{Bytes: bytes, Inodes: min(bytes, 1)}
}

// fits looks whether the disk has room for the tree and for more.
func (c Choice) fits(ctx context.Context, disk *blockdev.Disk, tree *cache.Entry, more cache.Room) error {
	if tree == nil || tree.ContentBytes == 0 {
		return nil
	}
	layout, err := c.layout(disk.SizeBytes)
	if err != nil {
		return err
	}
	_, sectors := layout.Root()
	room := sectors * 512
	need := filesystem.MinDiskBytes(c.fstype(), c.Settings.Suite, tree.ContentBytes+more.Bytes, tree.Inodes+more.Inodes)
	if need > room && c.parts != nil { // of a folder, too, until it is moved
		return fmt.Errorf("LAYOUT: %s: the root has %s, and %s as %s, all of which lies there until it is finished, needs %s: give it more", c.layoutPath(), tell.MiB(room), c.describeTree(), c.Settings.Filesystem, tell.MiB(need))
	}
	if need > room {
		return fmt.Errorf("disk %s is too small: it has %d MiB, and %s as %s needs %d MiB", disk.Path, disk.SizeBytes>>20,
			c.describeTree(), c.Settings.Filesystem, (need+disk.SizeBytes-room+1<<20-1)>>20)
	}
	return c.foldersFit(ctx, layout, tree.Path)
}

// checkBootTree refuses a tree that was made elsewhere and can't boot, where a
// guest that boots was asked for.
func (c Choice) checkBootTree(tree *cache.Entry) error {
	if c.mustBoot() && tree != nil && tree.Key == "" && !tree.HasKernel {
		return fmt.Errorf("BOOTLOADER=grub: %s has no kernel in /boot: remove it to have a tree built with one, or set BOOTLOADER=auto", tree.Path)
	}
	return nil
}
