package filesystem

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
)

// reading is the place of a tool that only looks at a device.
func reading(device string) *cell.Place { return &cell.Place{Disk: device, ReadOnly: true} }

// writing is the place of a tool that changes a device.
func writing(device string) *cell.Place { return &cell.Place{Disk: device} }

// look returns what a tool prints of a device that it only reads.
func look(ctx context.Context, device string, args ...string) (string, error) {
	return command.OutputIn(ctx, *reading(device), append(args, device)...)
}

// bothStreams runs a tool and returns all that it printed.
func bothStreams(ctx context.Context, in *cell.Place, args ...string) (string, error) {
	var out bytes.Buffer
	err := command.Run(ctx, command.Cmd{Args: args, In: in, Stdout: &out, Merge: true, Quiet: true})
	var failed *command.Error
	if errors.As(err, &failed) {
		err = fmt.Errorf("%s: %w", args[0], failed.Err)
	}
	return out.String(), err
}
