// Package boot puts a boot loader back on the disk of a guest that has one in
// its tree, and no boot record for it: GRUB for BIOS.
//
// The core image is made of the guest's own modules: at boot GRUB loads the rest
// of them from the guest's /boot/grub, and one version doesn't load another's.
// They are data here. They are copied out through the guest's Root, bounded in
// number and size, and nothing of the guest runs. The node's grub-mkimage links
// them in a cell, since it is a C program which reads ELF files that a guest may
// have written. What it makes is checked only for its size and its block list: it
// runs in the guest and nowhere else.
//
// The boot record and the block list are filled in here and not by
// grub-bios-setup. That one wants the modules on a disk that it finds in /dev,
// with a name in a device map and a filesystem that it can probe, and Debian
// keeps it off the PATH; the fields it then fills in are three, and those of a
// core image that lies at sector 1 are right as they come. GRUB finds its root by
// the disk that it was started from and the number of the partition, as after
// grub-install: another disk with the same UUID can't be taken for it, and no
// name of a device of the node is in what is written.
package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
)

// Target is a disk whose root filesystem is mounted.
type Target struct {
	Disk       string // the device over all of it, with partition nodes
	RootDevice string
	Dir        string // where the root is mounted
	Root       *guest.Root
	Style      partition.Style
	Layout     *partition.Layout // the table that the disk is to have; nil is the one on it
	RootNumber int               // its partition, 0 is the whole disk
	FSType     filesystem.Type
	RootUUID   string
	// RootSubvolume is that of a btrfs that the root is in; "" is none.
	RootSubvolume string
	// Boot is set where /boot is a filesystem of its own: Disk, Style, RootNumber
	// and FSType are then those of /boot.
	Boot    *OwnBoot
	WorkDir string // for temporary files; its filesystem has 32 MiB free
	// Trusted says that the tree was made here from an archive: its own
	// grub-mkimage may run in it, and the node needs none.
	Trusted bool
}

// OwnBoot is a /boot on a disk, a partition or a subvolume of its own.
type OwnBoot struct {
	UUID      string
	Subvolume string // of a btrfs, that it is in; "" is none
	// Root is its top folder, where it is mounted; nil where the root filesystem
	// has the files of /boot for now.
	Root *guest.Root
}

// bootUUID is the UUID of the filesystem that has /boot.
func (t Target) bootUUID() string {
	if t.Boot != nil {
		return t.Boot.UUID
	}
	return t.RootUUID
}

// onBoot is how GRUB calls a file of /boot, on the filesystem that has it.
// Whatever subvolume is the default one, GRUB looks from the top of a btrfs.
func (t Target) onBoot(name string) string {
	subvolume := t.RootSubvolume
	if t.Boot != nil {
		name, subvolume = strings.TrimPrefix(name, "/boot"), t.Boot.Subvolume
	}
	if subvolume != "" {
		name = "/" + subvolume + name
	}
	return name
}

// rootArgs tell the kernel where its root is, as update-grub does.
func (t Target) rootArgs() string {
	args := "root=UUID=" + t.RootUUID + " ro"
	if t.RootSubvolume != "" {
		args += " rootflags=subvol=" + t.RootSubvolume
	}
	return args
}

// ErrTools is why GRUB can't be put back on this node.
var ErrTools = errors.New("install the package grub-common on the node, or run grub-install in the guest from a rescue system")

// RestoreBIOS writes GRUB's boot record and core image to the disk, for the
// guest's own modules and grub.cfg, and makes /boot/grub/i386-pc what
// grub-install would make it, which later upgrades in the guest build on. A disk
// without room for the core image is an error that says what to do; so is a node
// without GRUB's tools, which wraps ErrTools. After an error from what comes
// before the last write nothing of the disk's boot record has changed.
func RestoreBIOS(ctx context.Context, t Target) error {
	disk, err := os.OpenFile(t.Disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	at, err := findRoom(disk, t)
	if err != nil {
		return err
	}
	if _, err := command.Look("grub-mkimage"); err != nil && !t.Trusted {
		return fmt.Errorf("%w: %w", err, ErrTools)
	}
	dir, err := os.MkdirTemp(t.WorkDir, "grub-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := copyModules(t.Root, dir); err != nil {
		return err
	}
	core, err := makeCore(ctx, t, dir)
	if err != nil {
		return fmt.Errorf("make GRUB's core image of the guest's modules: %w", err)
	}
	record, err := os.ReadFile(dir + "/boot.img")
	if err == nil {
		err = at.place(record, core)
	}
	if err != nil {
		return fmt.Errorf("GRUB's boot record: %w", err)
	}
	if err := t.fillBoot(dir, core); err != nil {
		return err
	}
	return at.write(disk, record, core)
}
