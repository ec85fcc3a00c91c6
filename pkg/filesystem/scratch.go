package filesystem

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/command"
)

// MakeScratch makes a filesystem for the node's own use that is dropped after
// it: no journal, and nothing written that can wait.
func MakeScratch(ctx context.Context, device string) error {
	err := command.Run(ctx, command.Cmd{
		Args: []string{"mke2fs", "-q", "-F", "-t", "ext4", "-T", "default", "-O", "none," + lookup("").ext4 + ",^has_journal",
			"-b", "4096", "-I", "256", "-i", "16384", "-m", "0", "-E", "nodiscard,lazy_itable_init=1", device},
		In:    forMke2fs(device),
		Quiet: true,
	})
	if err != nil {
		return fmt.Errorf("make a scratch filesystem on %s: %w", device, err)
	}
	return nil
}

// MountScratch mounts what MakeScratch made. dpkg and debootstrap call fsync
// thousands of times; without barriers each costs next to nothing, and a scratch
// has nothing to lose in a crash of the node.
func MountScratch(_ context.Context, device, dir string) error {
	if err := unix.Mount(device, dir, "ext4", unix.MS_NOATIME, "barrier=0,noinit_itable"); err != nil {
		return fmt.Errorf("mount %s on %s: %w", device, dir, err)
	}
	return nil
}

// MountMemory mounts a scratch in memory that may grow to sizeBytes.
func MountMemory(dir string, sizeBytes int64) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("mode=0755,size=%d", sizeBytes)); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", dir, err)
	}
	return nil
}
