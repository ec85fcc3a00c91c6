package filesystem

import (
	"errors"
	"fmt"

	"instance-debootstrap/pkg/command"
)

// tool is a program and the package that has it, in Debian and its derivatives.
type tool struct{ name, pkg string }

// commonTools are what every disk needs, whatever its filesystem.
var commonTools = []tool{{"blkid", "util-linux"}, {"wipefs", "util-linux"}, {"mkswap", "util-linux"}}

// makers are the programs that Make runs.
var makers = map[Type]tool{
	Ext2:  {"mke2fs", "e2fsprogs"},
	Ext3:  {"mke2fs", "e2fsprogs"},
	Ext4:  {"mke2fs", "e2fsprogs"},
	XFS:   {"mkfs.xfs", "xfsprogs"},
	Btrfs: {"mkfs.btrfs", "btrfs-progs"},
}

// Tools reports every program that a disk with this filesystem needs and that
// this node lacks, with the package to install. Call it before the disk is
// touched.
func Tools(t Type) error { return missingTools(t, command.Look) }

func missingTools(t Type, look func(name string) (string, error)) error {
	maker, ok := makers[t]
	if !ok {
		_, err := ParseType(string(t))
		return err
	}
	var faults []error
	for _, need := range append([]tool{maker}, commonTools...) {
		if _, err := look(need.name); err != nil {
			faults = append(faults, fmt.Errorf("filesystem %s: %w: install the package %s", t, err, need.pkg))
		}
	}
	return errors.Join(faults...)
}

// Check reports every reason why Make can't give this suite this type: what
// Tools says, and xfs for suites that read its fourth format only.
func Check(t Type, suite string) error {
	err := Tools(t)
	if t == XFS && lookup(suite).xfs == "" {
		err = errors.Join(err, fmt.Errorf("filesystem xfs: suite %s (its kernel or its GRUB) reads only the old xfs format 4, which today's kernels no longer mount: use filesystem ext4", suite))
	}
	return err
}
