package install

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/settings"
)

// swapFileBytes is how large a swap file the guest gets; 0 is none. One with a disk or a
// partition for swap needs no file.
func (o *Order) swapFileBytes() int64 {
	if len(o.swapPaths()) > 0 || slices.ContainsFunc(o.parts, func(l settings.LayoutLine) bool { return l.Folder == "" }) {
		return 0
	}
	return o.Settings.SwapFileMiB << 20
}

// checkSwapFile refuses a swap file that the guest couldn't use.
func (o *Order) checkSwapFile() error {
	if o.fstype() == filesystem.Btrfs && o.swapFileBytes() > 0 {
		return errors.New("SWAP_FILE_SIZE: a swap file on btrfs can't be in a snapshot, and is none any more after an import of its files: give the instance a disk named swap, or another root filesystem")
	}
	if o.swapFileBytes() > 0 && o.isReadOnly(o.Request.BlockDev) {
		return fmt.Errorf("SWAP_FILE_SIZE: the guest can't write to its root (DISK_%d_ACCESS=ro), and so not swap on it: give the instance a disk named swap", o.Request.Root)
	}
	return nil
}

func (o *Order) hasSwapFile(context.Context) (bool, string) {
	switch {
	case o.Settings.SwapFileMiB == 0:
		return false, "SWAP_FILE_SIZE is not set"
	case o.swapFileBytes() == 0:
		return false, "a disk is its swap"
	}
	return true, ""
}

func (o *Order) describeSwapFile() string {
	return fmt.Sprintf("%s of %d MiB", guest.SwapFile, o.Settings.SwapFileMiB)
}

// makeSwapFile puts it onto the guest's own filesystem: the cache's images and trees
// have none.
func makeSwapFile(ctx context.Context, o *Order, r rootDisk) error {
	err := guest.Edit(ctx, r.target, func(root *guest.Root) error {
		return root.MakeZeros(ctx, guest.SwapFile, o.swapFileBytes())
	})
	if err == nil {
		_, err = filesystem.MakeSwap(ctx, filepath.Join(r.target, guest.SwapFile))
	}
	if err != nil {
		return fmt.Errorf("SWAP_FILE_SIZE=%d: %w", o.Settings.SwapFileMiB, err)
	}
	return nil
}
