package filesystem

import (
	"context"
	"fmt"

	"instance-debootstrap/pkg/command"
)

// SetLabel gives an unmounted filesystem a label.
func SetLabel(ctx context.Context, device string, t Type, label string) error {
	args := []string{"e2label", device, label}
	switch t {
	case XFS:
		args = []string{"xfs_admin", "-L", label, device}
	case Btrfs:
		args = []string{"btrfs", "filesystem", "label", device, label}
	}
	if err := command.Run(ctx, command.Cmd{Args: args, Quiet: true}); err != nil {
		return fmt.Errorf("label %s: %w", device, err)
	}
	return nil
}

// OldestSuite returns the suite of the oldest tools that can read a filesystem of
// this type that we make, for a guest whose suite isn't known: what it can read,
// every later one can.
func OldestSuite(t Type) string {
	if t == XFS {
		return "xenial"
	}
	return "wheezy"
}
