package filesystem

import (
	"context"
	"fmt"
	"strings"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
)

// btrfsFeatures are the features that some version of mkfs.btrfs turns on by
// itself: each is passed as on or off if this node's knows it.
var btrfsFeatures = []string{"extref", "skinny-metadata", "no-holes", "free-space-tree", "block-group-tree"}

// btrfsOptions returns -O and -R for the features in the two lists that
// mkfs.btrfs prints. What was a runtime feature (-R) is one like the others in
// newer versions.
func btrfsOptions(featureList, runtimeList, on string) []string {
	var args []string
	for _, name := range btrfsFeatures {
		value := name
		if !strings.Contains(" "+on+" ", " "+name+" ") {
			value = "^" + name
		}
		switch {
		case btrfsKnows(featureList, name):
			args = append(args, "-O", value)
		case btrfsKnows(runtimeList, name):
			args = append(args, "-R", value)
		}
	}
	return args
}

// btrfsKnows reports whether a line "NAME  - text" is in the list.
func btrfsKnows(list, name string) bool {
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			return true
		}
	}
	return false
}

func makeBtrfs(ctx context.Context, s Spec, uuid string) error {
	featureList, err := bothStreams(ctx, &cell.Place{}, "mkfs.btrfs", "-O", "list-all")
	if err != nil {
		return fmt.Errorf("list the features of mkfs.btrfs: %w: %s", err, pattern.Quote(featureList))
	}
	runtimeList, _ := bothStreams(ctx, &cell.Place{}, "mkfs.btrfs", "-R", "list-all") // gone in some versions
	row := lookup(s.Suite)
	args := []string{
		"mkfs.btrfs", "-q", "-f", "-U", uuid, "-b", fmt.Sprint(s.SizeBytes),
		"-d", "single", "-m", "dup", "-s", fmt.Sprint(blockBytes), "-n", fmt.Sprint(row.btrfsNodeBytes),
	}
	options := btrfsOptions(featureList, runtimeList, row.btrfs)
	if len(options) == 0 { // and those of its own choice may be none that the guest's kernel knows
		return fmt.Errorf("mkfs.btrfs prints %s, and no features: install the package btrfs-progs again", pattern.Quote(featureList))
	}
	args = append(args, options...)
	if s.Label != "" {
		args = append(args, "-L", s.Label)
	}
	return command.Run(ctx, command.Cmd{Args: append(args, s.Device), In: writing(s.Device), Quiet: true})
}
