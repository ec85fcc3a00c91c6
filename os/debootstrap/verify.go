package debootstrap

import (
	"context"
	"errors"

	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/parameters"
	"instance-debootstrap/pkg/tell"
)

// Verify is what Ganeti runs before it stores OS parameters: every setting has
// been checked by then; what is left is whether this node can act on them.
func Verify(ctx context.Context, o *install.Order) error {
	_, err := parameters.Check()
	if errors.Is(err, parameters.ErrStale) {
		tell.Warn(ctx, "%v", err)
		err = nil
	}
	o.WarnOfFiles(ctx)
	_, nodeErr := o.CheckNode(ctx)
	return errors.Join(err, nodeErr)
}
