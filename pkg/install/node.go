package install

import (
	"context"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/tell"
)

// Outlook says what a guest of these settings would be made of on this node, and what
// there is to warn of; the error is why none can be made.
func (o *Order) Outlook(ctx context.Context) (text string, warnings []string, err error) {
	c, err := o.DecideSettings(ctx)
	if err != nil {
		return "", nil, err
	}
	if c.failure != nil {
		warnings = append(warnings, fmt.Sprintf(noBoot, c.failure))
	}
	tree := "its tree is still to be built"
	path, lacking, err := c.lookAtTree(ctx)
	if path != "" {
		tree = "its tree is " + filepath.Base(path)
	}
	if lacking != "" {
		warnings = append(warnings, path+", "+lacking)
	}
	warnings = append(warnings, o.fileWarnings()...)
	suite := o.Settings.Suite + "/" + c.Arch
	if o.Settings.Snapshot != "" {
		suite += " of " + settings.ShowSnapshot(o.Settings.Snapshot)
	}
	return fmt.Sprintf("%s as %s, partitions: %s; %s", suite, c.Settings.Filesystem, c.Settings.PartitionStyle, tree), warnings, err
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
