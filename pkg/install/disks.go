package install

import (
	"context"
	"errors"
	"fmt"
	"os"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/hooks"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
)

// disks are the instance's disks that a run has claimed.
type disks struct {
	root  *blockdev.Disk
	boot  *bootDisk // of a /boot of its own; nil is none
	swaps []*blockdev.Disk
	data  []*dataDisk

	further []*furtherDisk // of a layout
}

// claimDisks opens the root disk, the swap and the data disks, exclusively, and refuses
// what can't be used, before anything is written.
func claimDisks(ctx context.Context, s *session.Session, c Choice) (d disks, err error) {
	o := c.Order
	o.WarnOfFiles(ctx)
	if d.root, err = claim(s, o.Request.BlockDev); err != nil {
		return d, err
	}
	d.root.Path = o.Disk()
	if err := c.CheckSize(d.root.SizeBytes); err != nil {
		return d, fmt.Errorf("disk %s: %w", d.root.Path, filesystem.WrongSize(d.root.Node(), err))
	}
	if o.KeepData {
		if err := checkBlank(ctx, d.root); err != nil {
			return d, err
		}
	}
	for _, path := range o.swapPaths() {
		swap, err := claimSwap(ctx, s, o, path)
		if err != nil {
			return d, err
		}
		d.swaps = append(d.swaps, swap)
	}
	if o.BootPath != "" {
		if d.boot, err = claimBoot(s, o); err != nil {
			return d, err
		}
	}
	if d.data, err = claimData(ctx, s, o); err != nil {
		return d, err
	}
	d.further, err = claimFurther(ctx, s, c)
	return d, err
}

// checkHooks refuses hooks that can't be run.
func (o *Order) checkHooks() error {
	_, err := hooks.Trusted(o.Settings.CustomizeDir, o.StrictFiles())
	if err != nil {
		return fmt.Errorf("no hook is run: %w", err)
	}
	_, err = hooks.List(o.Settings.CustomizeDir)
	return err
}

// claim opens one disk for writing until the end of the run.
func claim(s *session.Session, path string) (*blockdev.Disk, error) {
	return claimBy(s, blockdev.Open, path)
}

func claimBy(s *session.Session, open func(path, lockDir string, hostProc *os.Root) (*blockdev.Disk, error), path string) (*blockdev.Disk, error) {
	d, err := open(path, paths.LockDir, s.HostProc)
	if err == nil {
		s.Defer("release "+path, d.Release)
		s.Over(d.Node(), path)
	}
	return d, err
}

// checkSwapPath refuses a disk that can't become swap, whatever it holds.
func (o *Order) checkSwapPath(path string) error {
	if key, err := blockdev.Key(path); err == nil {
		if root, _ := blockdev.Key(o.Request.BlockDev); key == root {
			return fmt.Errorf("swap disk %s is the root disk: check swapdev in the settings", path)
		}
	}
	isGanetis := func(d osapi.Disk) bool { return !d.IsGuests() }
	if d, is := o.instanceDisk(path, isGanetis); is {
		return fmt.Errorf("swap disk %s is one that Ganeti keeps for itself (DISK_%d_ROLE=%s): check swapdev in the settings", path, d.Index, d.Role)
	}
	if o.isReadOnly(path) {
		return fmt.Errorf("swap disk %s is read-only (DISK_n_ACCESS=ro): no guest can swap on it; make it writable (gnt-instance modify --disk N:modify,mode=rw), or give it another name", path)
	}
	return nil
}

// claimSwap opens a disk that is to become swap, and refuses one with data.
func claimSwap(ctx context.Context, s *session.Session, o *Order, path string) (*blockdev.Disk, error) {
	if err := o.checkSwapPath(path); err != nil {
		return nil, err
	}
	d, err := claim(s, path)
	if err != nil || o.Fresh {
		return d, err
	}
	_, err = checkSwap(ctx, path, d.Node())
	return d, err
}

// checkSwap says what a disk holds that is to become swap, and refuses data. It is read
// at node.
func checkSwap(ctx context.Context, path, node string) (what string, err error) {
	free, what, err := filesystem.IsBlankOrSwap(ctx, node)
	if err != nil {
		return "", fmt.Errorf("swap disk %s: %w", path, err)
	}
	if !free {
		err = fmt.Errorf("swap disk %s holds %s, and only a blank disk or old swap is overwritten; if it may go, run mkswap on it once", path, what)
	}
	return what, err
}

// checkBlank refuses a disk that holds anything. A file without any data, such as the
// image that install makes and that has no name yet, holds nothing.
func checkBlank(ctx context.Context, d *blockdev.Disk) error {
	if d.IsEmpty() {
		return nil
	}
	free, what, err := filesystem.IsBlankOrSwap(ctx, d.Node())
	if err != nil {
		return err
	}
	if !free || what != "blank" {
		return fmt.Errorf("disk %s holds %s; --force overwrites it", d.Path, what)
	}
	return nil
}

// attach puts a loop device over an open disk until the end of the run.
func attach(ctx context.Context, s *session.Session, f *os.File, partitions bool) (*blockdev.Loop, error) {
	l, err := blockdev.Attach(ctx, f, partitions)
	if err == nil {
		s.Defer("detach "+l.Path, func(ctx context.Context) error { return errors.Join(l.Sync(), l.Detach(ctx)) })
	}
	return l, err
}

// attachDisk is attach for one of the guest's disks.
func attachDisk(ctx context.Context, s *session.Session, d *blockdev.Disk, partitions bool) (*blockdev.Loop, error) {
	l, err := attach(ctx, s, d.File(), partitions)
	if err == nil {
		s.Over(l.Path, d.Path)
	}
	return l, err
}

// makeSwaps makes swap of the disks that were found blank, or swap already, and returns
// its UUIDs.
func makeSwaps(ctx context.Context, s *session.Session, disks []*blockdev.Disk) (uuids []string, err error) {
	for _, d := range disks {
		l, err := attachDisk(ctx, s, d, false)
		if err != nil {
			return nil, err
		}
		uuid, err := filesystem.MakeSwap(ctx, l.Path)
		if err != nil {
			return nil, err
		}
		l.Unlock()
		uuids = append(uuids, uuid)
	}
	return uuids, nil
}
