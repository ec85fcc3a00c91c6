package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/paths"
)

// diskAsItIs says what is known of the disk.
func (c Choice) diskAsItIs(ctx context.Context) (text string, err error) {
	if c.Fresh {
		return "", nil
	}
	path := c.Request.BlockDev
	size, err := lookAt(path, true)
	if size == 0 {
		return "", err
	}
	found, probeErr := filesystem.Probe(ctx, path)
	text = fmt.Sprintf("%d MiB, holds %s", size>>20, found)
	if probeErr != nil {
		text = fmt.Sprintf("%d MiB, %v", size>>20, probeErr)
	}
	if c.isReadOnly(path) {
		text += ", read-only for the guest"
	}
	tableErr := c.CheckSize(size)
	if tableErr != nil {
		tableErr = fmt.Errorf("disk %s: %w", path, filesystem.WrongSize(path, tableErr))
	}
	return text, errors.Join(err, tableErr)
}

// lookAt returns a disk's size in bytes, and why it could not be claimed, to be written
// to or not, which isn't tried.
func lookAt(path string, write bool) (sizeBytes int64, err error) {
	sizeBytes, usedBy, err := blockdev.Look(path, paths.LockDir)
	err = cmp.Or(err, blockdev.InUse(path, usedBy))
	if err == nil && write {
		err = blockdev.Writable(path)
	}
	return sizeBytes, err
}

// lookAtTree finds out about the tree in the cache: its path, "" is that it is still to be
// built; what is to be said of it; and why it can't be used, or built.
func (c Choice) lookAtTree(ctx context.Context) (path, lacking string, err error) {
	if path = c.cached(); path == "" {
		if c.NoTool == nil && c.Settings.GenerateCache {
			err = c.cacheFault()
		}
		return "", "", err
	}
	if lacks := c.Store().Lacks(path); len(lacks) > 0 {
		lacking = incompleteTree(lacks)
	}
	_, err = c.examine(ctx, path)
	return path, lacking, err
}

// whereTreeIs tells plan where the tree comes from.
func (c Choice) whereTreeIs(ctx context.Context) (string, error) {
	if !c.decided {
		return "", nil
	}
	path, lacking, err := c.lookAtTree(ctx)
	switch {
	case path == "" && c.NoTool != nil:
		return "not in the cache", err
	case path == "":
		if base := c.Store().Base(ctx, c.cacheInputs()); base != "" && c.canDerive() {
			return "not in the cache yet: to be made from " + base, err
		}
		return "not in the cache yet: to be built by " + c.Tool.Name, err
	case lacking != "":
		return "cached in " + path + ", " + lacking, err
	}
	return "cached in " + path, err
}

// examine returns what is known of a tree in the cache, nil is nothing, and refuses one
// that can't be used.
func (o *Order) examine(ctx context.Context, path string) (*cache.Entry, error) {
	tree, err := o.Store().Examine(ctx, path)
	if tree != nil {
		err = checkAdminsTree(tree)
	}
	return tree, err
}

// fitAsItIs tells whether a tree that is there fits on the disk.
func (c Choice) fitAsItIs(ctx context.Context) (string, error) {
	path := c.cached()
	size, _, err := blockdev.Size(c.Request.BlockDev)
	if err != nil || path == "" || c.Fresh || !c.decided {
		return "", nil // nothing is known, or another step has said it
	}
	tree, err := c.examine(ctx, path)
	if err != nil || tree == nil {
		return "", nil
	}
	if c.CheckSize(size) != nil {
		return "", nil
	}
	if err := c.checkBootTree(tree); err != nil {
		return "", err
	}
	err = c.fitsWithSwap(ctx, &blockdev.Disk{Path: c.Disk(), SizeBytes: size}, tree)
	if c.mayDropBoot(tree, err) {
		return "not with a kernel, so a tree without is taken: " + err.Error(), nil
	}
	return "", err
}

// swapsAsTheyAre says what the disks hold that are to become swap.
func (o *Order) swapsAsTheyAre(ctx context.Context) (string, error) {
	if o.Fresh {
		return "", nil // it is to be made first
	}
	var texts []string
	var errs []error
	for _, path := range o.swapPaths() {
		err := o.checkSwapPath(path)
		if err == nil {
			_, err = lookAt(path, true)
		}
		if err == nil {
			var what string
			what, err = checkSwap(ctx, path, path)
			texts = append(texts, what)
		}
		errs = append(errs, err)
	}
	return joinPaths(texts), errors.Join(errs...)
}
