package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
)

// swapFileBytes is how large a swap file the guest gets; 0 is none. One with a disk
// for swap needs no file.
func (j *Job) swapFileBytes() int64 {
	if len(j.swapPaths()) > 0 {
		return 0
	}
	return j.Settings.SwapFileMiB << 20
}

// checkSwapFile refuses a swap file that the guest couldn't use.
func (j *Job) checkSwapFile() error {
	if j.fstype() == filesystem.Btrfs && j.swapFileBytes() > 0 {
		return errors.New("SWAP_FILE_SIZE: a swap file on btrfs can't be in a snapshot, and is none any more after an import of its files: give the instance a disk named swap, or another root filesystem")
	}
	if j.swapFileBytes() > 0 && j.isReadOnly(j.Request.BlockDev) {
		return errors.New("SWAP_FILE_SIZE: the guest can't write to its root (DISK_0_ACCESS=ro), and so not swap on it: give the instance a disk named swap")
	}
	return nil
}

func (j *Job) hasSwapFile(context.Context) (bool, string) {
	switch {
	case j.Settings.SwapFileMiB == 0:
		return false, "SWAP_FILE_SIZE is not set"
	case j.swapFileBytes() == 0:
		return false, "a disk is its swap"
	}
	return true, ""
}

func (j *Job) describeSwapFile() string {
	return fmt.Sprintf("%s of %d MiB", guest.SwapFile, j.Settings.SwapFileMiB)
}

// makeSwapFile puts it onto the guest's own filesystem: the cache's images and trees
// have none.
func (j *Job) makeSwapFile(ctx context.Context) error {
	err := j.inGuest(ctx, func(root *guest.Root) error {
		return root.MakeZeros(ctx, guest.SwapFile, j.swapFileBytes())
	})
	if err == nil {
		_, err = filesystem.MakeSwap(ctx, filepath.Join(j.target, guest.SwapFile))
	}
	if err != nil {
		return fmt.Errorf("SWAP_FILE_SIZE=%d: %w", j.Settings.SwapFileMiB, err)
	}
	return nil
}

// tooLargeSwapFile names the swap file where the guest without it would fit.
func (j *Job) tooLargeSwapFile(fault error) error {
	swap := j.swapFileBytes()
	if fault == nil || swap == 0 || j.fits(0) != nil {
		return nil
	}
	return fmt.Errorf("%w, with the swap file of SWAP_FILE_SIZE=%d", fault, swap>>20)
}
