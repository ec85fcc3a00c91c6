package filesystem

import (
	"context"
	"fmt"
	"strings"

	"instance-debootstrap/pkg/command"
)

// IsClean reports whether an ext filesystem was unmounted cleanly, as its
// superblock says, and else why it isn't taken for clean. Of xfs and btrfs only a
// mount tells: they are clean here.
func IsClean(ctx context.Context, device string, t Type) (clean bool, why string, err error) {
	if t == XFS || t == Btrfs {
		return true, "", nil
	}
	out, err := command.Output(ctx, "dumpe2fs", "-h", device)
	if err != nil {
		return false, "", fmt.Errorf("read the superblock of %s: %w", device, err)
	}
	state, features := "", ""
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "Filesystem state":
			state = strings.TrimSpace(value)
		case "Filesystem features":
			features = strings.TrimSpace(value)
		}
	}
	if strings.Contains(" "+features+" ", " needs_recovery ") {
		return false, "its journal has to be replayed", nil
	}
	if state != "clean" {
		return false, "its state is " + state, nil
	}
	return true, "", nil
}
