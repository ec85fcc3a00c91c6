package filesystem

import (
	"context"
	"fmt"
	"slices"
	"strings"

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
	if err := command.Run(ctx, command.Cmd{Args: args, In: writing(device), Quiet: true}); err != nil {
		return fmt.Errorf("label %s: %w", device, err)
	}
	return nil
}

// OldestSuite returns the suite of the oldest tools that can read a filesystem of
// this type that we make, for a guest whose suite isn't known: what it can read,
// every later one can.
func OldestSuite(t Type) string {
	switch t {
	case XFS:
		return "xenial"
	case Btrfs:
		return "stretch"
	}
	return "wheezy"
}

// xfsNames are xfs_db's names for mkfs.xfs's switches.
var xfsNames = map[string]string{"CRC": "crc", "V5": "crc", "FINOBT": "finobt", "SPARSE_INODES": "sparse", "REFLINK": "reflink", "BIGTIME": "bigtime", "INOBTCNT": "inobtcount"}

// MatchSuite returns the newest suite whose filesystems have no feature that this
// one lacks: what reads this one reads those.
func MatchSuite(ctx context.Context, device string, t Type) (string, error) {
	has := map[string]bool{}
	var out string
	var err error
	switch t {
	case Btrfs:
		return OldestSuite(t), nil
	case XFS:
		out, err = look(ctx, device, "xfs_db", "-r", "-c", "version")
		for name := range strings.FieldsFuncSeq(out, func(r rune) bool { return strings.ContainsRune(", =[]+", r) }) {
			has[xfsNames[name]] = true
		}
	default:
		out, err = look(ctx, device, "dumpe2fs", "-h")
		_, features, _ := strings.Cut(out, "Filesystem features:")
		line, _, _ := strings.Cut(features, "\n")
		for name := range strings.FieldsSeq(line) {
			has[name] = true
		}
		// Made by a newer mke2fs, where uninit_bg is a part of metadata_csum.
		has["uninit_bg"] = has["uninit_bg"] || has["metadata_csum"]
	}
	if err != nil {
		return "", fmt.Errorf("read the features of %s: %w", device, err)
	}
	for _, row := range slices.Backward(suiteTable) {
		list := strings.ReplaceAll(row.ext4, ",", " ")
		if t == XFS {
			list = row.xfs
		}
		all := list != ""
		for name := range strings.FieldsSeq(list) {
			all = all && has[name]
		}
		if all {
			first, _, _ := strings.Cut(row.suites, " ")
			return first, nil
		}
	}
	return OldestSuite(t), nil
}
