package install

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
)

// diskAsItIs says what is known of the disk.
func (o *Order) diskAsItIs(ctx context.Context) string {
	size, usedBy, err := blockdev.Look(o.Request.BlockDev)
	if err != nil {
		return err.Error()
	}
	found, err := filesystem.Probe(ctx, o.Request.BlockDev)
	text := fmt.Sprintf("%d MiB, holds %s", size>>20, found)
	if err != nil {
		text = fmt.Sprintf("%d MiB, %v", size>>20, err)
	}
	if usedBy != "" {
		text += ", in use: " + usedBy
	}
	if o.isReadOnly(o.Request.BlockDev) {
		text += ", read-only for the guest"
	}
	if _, err := partition.Plan(o.style(), size, o.Settings.PartitionAlignment, rand.Reader); err != nil {
		text += ", " + err.Error()
	}
	if err := o.Check(); err != nil {
		text += ", refused: " + strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return text
}

// swapsAsTheyAre says what the disks hold that are to become swap.
func (o *Order) swapsAsTheyAre(ctx context.Context) string {
	if o.Fresh {
		return "" // it is to be made first
	}
	var texts []string
	for _, path := range o.swapPaths() {
		_, what, err := filesystem.IsBlankOrSwap(ctx, path)
		switch {
		case err != nil:
			what = err.Error()
		case o.isReadOnly(path):
			what += ", refused: it is read-only for the guest"
		}
		texts = append(texts, what)
	}
	return joinPaths(texts)
}
