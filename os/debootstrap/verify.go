package debootstrap

import (
	"context"
	"errors"

	"instance-debootstrap/pkg/filesystem"
)

// Verify is what Ganeti runs before it stores OS parameters: every setting has
// been checked by then; what is left is whether this node can act on them.
func Verify(_ context.Context, j *Job) error {
	return errors.Join(filesystem.Check(j.fstype(), j.Settings.Suite))
}
