package cache

import (
	"context"
	"fmt"
	"os"

	"instance-debootstrap/pkg/command"
)

// treeFlags are GNU tar's options on both sides. POSIX ACLs and file
// capabilities travel as raw extended attributes: with --acls, those in an
// archive that was written without it would be lost. SELinux labels are the
// node's, not the guest's.
var treeFlags = []string{"--xattrs", "--xattrs-include=*", "--xattrs-exclude=security.selinux", "--numeric-owner"}

// Pack writes the tree below dir as a tar to out: sorted by name, sparse files
// as such, other filesystems mounted in it and a lost+found at its top left out.
func Pack(ctx context.Context, dir string, out *os.File) error {
	args := append([]string{"tar"}, treeFlags...)
	args = append(args, "--create", "--file=-", "--format=posix", "--sort=name", "--one-file-system", "--sparse",
		"--anchored", "--exclude=./lost+found", "--directory="+dir, ".")
	if err := command.Run(ctx, command.Cmd{Args: args, Stdout: out}); err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	return nil
}

// Unpack extracts the tar that in is at into dir, with owners, modes, times and
// extended attributes as they were.
func Unpack(ctx context.Context, in *os.File, dir string) error {
	args := append([]string{"tar"}, treeFlags...)
	args = append(args, "--extract", "--file=-", "--same-owner", "--same-permissions", "--warning=no-timestamp", "--directory="+dir)
	if err := command.Run(ctx, command.Cmd{Args: args, Stdin: in}); err != nil {
		return fmt.Errorf("unpack into %s: %w", dir, err)
	}
	return nil
}
