package install

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/tell"
)

// CheckNode says what keeps this node from making a guest by the settings. It looks at no
// disk: verify and doctor ask it. The choice is what a create would make.
func (o *Order) CheckNode(ctx context.Context) (Choice, error) {
	errs := []error{o.Check()}
	_, err := o.authorizedKeys()
	if err != nil {
		err = fmt.Errorf("%w (an import, which takes no keys, goes on with -O ssh_authorized_keys=)", err)
	}
	errs = append(errs, err)
	c, err := o.decideTree(ctx)
	errs = append(errs, err)
	if err == nil && c.NoTool != nil && c.Store().Peek(c.cacheInputs()) == "" {
		errs = append(errs, c.NoTool)
	}
	return c, errors.Join(errs...)
}

// Outlook says what a guest of these settings would be made of on this node, and what
// there is to warn of; the error is why none can be made.
func (o *Order) Outlook(ctx context.Context) (text string, warnings []string, err error) {
	c, err := o.CheckNode(ctx)
	if err != nil {
		return "", nil, err
	}
	path, tree := c.Store().Peek(c.cacheInputs()), "its tree is still to be built"
	switch {
	case path == "" && o.Settings.GenerateCache:
		err = o.cacheFault()
	case path != "":
		tree = "its tree is " + filepath.Base(path)
		_, err = c.examine(ctx, path)
		if lacks := c.Store().Lacks(path); len(lacks) > 0 {
			warnings = append(warnings, path+", "+incompleteTree(lacks))
		}
	}
	warnings = append(warnings, o.fileWarnings()...)
	return fmt.Sprintf("%s/%s as %s, partitions: %s; %s", o.Settings.Suite, c.Arch, o.Settings.Filesystem, o.Settings.PartitionStyle, tree), warnings, err
}

// cacheFault says why no tree can be put into the cache folder, nil is nothing.
func (o *Order) cacheFault() error {
	dir := filesystem.NearestFolder(o.Settings.CacheDir)
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return fmt.Errorf("its tree can't be built: %s can't be written to (%w); set CACHE_DIR to a folder that can, or GENERATE_CACHE=no", dir, err)
	}
	free, err := filesystem.FreeBytes(dir)
	if err == nil && free < minScratchBytes {
		err = fmt.Errorf("its tree can't be built: %s has %s left; free some space, or set CACHE_DIR", dir, tell.MiB(free&^(1<<20-1)))
	}
	return err
}
