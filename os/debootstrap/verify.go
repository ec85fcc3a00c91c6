package debootstrap

import (
	"context"
	"errors"

	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/tell"
	"instance-debootstrap/pkg/userspace"
)

// Verify is what Ganeti runs before it stores OS parameters: every setting has
// been checked by then; what is left is whether this node can act on them.
func Verify(ctx context.Context, o *install.Order) error {
	_, err := settings.CheckParameters()
	if errors.Is(err, settings.ErrStaleParameters) {
		tell.Warn(ctx, "%v", err)
		err = nil
	}
	o.WarnOfFiles(ctx)
	if err := userspace.Missing(ctx); err != nil { // which only instances with such disks need
		tell.Info(ctx, "disks that have a URI only can't be worked on on this node: %v", err)
	}
	if o.Settings.Snapshot != "" {
		tell.Info(ctx, "new trees are made of the archive of %s (SNAPSHOT)", settings.ShowSnapshot(o.Settings.Snapshot))
	}
	_, nodeErr := o.DecideSettings(ctx)
	return errors.Join(err, nodeErr)
}
