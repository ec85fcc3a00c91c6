package debootstrap

import (
	"context"
	"errors"
	"fmt"

	"instance-debootstrap/pkg/filesystem"
)

// Verify is what Ganeti runs before it stores OS parameters: every setting has
// been checked by then; what is left is whether this node can act on them.
func Verify(ctx context.Context, j *Job) error {
	_, err := checkParameters()
	if errors.Is(err, errStaleParameters) {
		warn(ctx, "%v", err)
		err = nil
	}
	j.warnOfFiles(ctx)
	return errors.Join(err, j.checkNode(ctx))
}

// checkNode looks whether this node can make a guest by the settings.
func (j *Job) checkNode(ctx context.Context) error {
	errs := []error{j.checkSettings()}
	_, err := j.authorizedKeys()
	if err != nil {
		err = fmt.Errorf("%w (an import, which takes no keys, goes on with -O ssh_authorized_keys=)", err)
	}
	errs = append(errs, err)
	toolErr, err := j.chooseTool(ctx)
	errs = append(errs, err)
	if err == nil && toolErr != nil && j.store().Peek(j.cacheInputs()) == "" {
		errs = append(errs, toolErr)
	}
	return errors.Join(errs...)
}

// checkSettings says what this node, or the suite, can't do of what is asked for. It
// looks at no disk: plan, verify and doctor ask it too.
func (j *Job) checkSettings() error {
	return errors.Join(
		filesystem.Check(j.fstype(), j.Settings.Suite), filesystem.KernelHas(j.fstype()),
		j.Settings.CheckPassword(), j.checkSwapFile(), j.checkProtection())
}
