package filesystem

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"instance-debootstrap/pkg/command"
)

// IsClean reports whether an ext or btrfs filesystem was unmounted cleanly, as
// its superblock says, and else why it isn't taken for clean. Of xfs only a mount
// tells: it is clean here.
func IsClean(ctx context.Context, device string, t Type) (clean bool, why string, err error) {
	switch t {
	case XFS:
		return true, "", nil
	case Btrfs:
		return btrfsIsClean(device)
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

// The btrfs superblock is at 64 KiB; log_root, in it, is the log tree's address
// or 0: little endian, 64 bits (btrfs-dump-super; "Superblock" in the btrfs
// documentation's On-disk Format). A mount of a log tree that can't be written
// back fails with EIO, as damage does.
const (
	btrfsSuperOffset   = 64 << 10
	btrfsLogRootOffset = 96
)

func btrfsIsClean(device string) (clean bool, why string, err error) {
	f, err := os.Open(device)
	if err != nil {
		return false, "", err
	}
	defer f.Close()
	var logRoot [8]byte
	if _, err := f.ReadAt(logRoot[:], btrfsSuperOffset+btrfsLogRootOffset); err != nil {
		return false, "", fmt.Errorf("read the superblock of %s: %w", device, err)
	}
	if binary.LittleEndian.Uint64(logRoot[:]) != 0 {
		return false, "its log has to be replayed", nil
	}
	return true, "", nil
}
