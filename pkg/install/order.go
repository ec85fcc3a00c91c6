// Package install makes a guest: its tree, the disks that the tree goes on, and what makes
// it this guest's own.
//
// An Order says what is asked for, and never changes. What is decided of it before
// anything is touched is a Choice, which plans print and runs follow. A Run holds what the
// steps of one recipe hand on to each other: the claimed disks, the chosen tree, the root
// that is mounted, and what was done to the guest.
package install

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/network"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/settings"
)

// Order is a guest that is asked for.
type Order struct {
	Request  *osapi.Request
	Settings *settings.Settings
	// DiskName is what messages call the disk; "" is the request's path.
	DiskName string
	// Image is set by install when it made the disk file itself.
	Image *blockdev.NewImage
	// KeepData refuses a disk that isn't blank. Ganeti's disks are its own to
	// overwrite; a disk named by hand may be a mistake.
	KeepData bool
	// BootPath is a disk for a /boot of its own, which BIOS starts from; "" keeps
	// /boot on the root's.
	BootPath string
	// Reinstall says that the disk has, or had, this guest, be it in another form: what
	// another left on it is never kept.
	Reinstall bool
	// Fresh says that this run makes the disks: what they seem to hold is left
	// over from volumes that were there before.
	Fresh bool
	// NICs are the guest's, where Ganeti's words for them don't say enough; nil are the
	// request's.
	NICs []network.NIC
	// ResolvConf is the guest's resolv.conf; nil is the node's.
	ResolvConf []byte

	parts []settings.LayoutLine // of the file that LAYOUT names; nil is none
}

// fstype is the root filesystem's type.
func (o *Order) fstype() filesystem.Type { return filesystem.Type(o.Settings.Filesystem) }

func (o *Order) style() partition.Style { return partition.Style(o.Settings.PartitionStyle) }

// bootStyle is the style of the table that firmware starts from.
func (o *Order) bootStyle() partition.Style {
	if o.BootPath != "" {
		return partition.StyleMSDOS
	}
	return o.style()
}

// rootPartition is the number of the root's partition in a table that we make.
const rootPartition = 1

// rootNumber is the number of the root's partition, 0 where it is the whole disk,
// also in a table to which a hook has added others.
func (o *Order) rootNumber() int {
	if o.style() == partition.StyleNone {
		return 0
	}
	return rootPartition
}

// mustBoot says that a guest which can't boot by itself is a failure.
func (o *Order) mustBoot() bool { return o.Settings.BootLoader == "grub" }

// StrictFiles says that what a group or another user than root can change is refused.
func (o *Order) StrictFiles() bool { return o.Settings.SharedFiles == "refuse" }

// Disk is what messages call the root disk.
func (o *Order) Disk() string { return cmp.Or(o.DiskName, o.Request.BlockDev) }

// swapPaths lists the disks that become swap: the one that API 5's -s or the
// setting swapdev names, and every disk but the root whose Ganeti name is
// "swap"; one disk by two names is one.
func (o *Order) swapPaths() []string {
	var paths, keys []string
	add := func(path string) {
		key, err := blockdev.Key(path)
		if err != nil {
			key = path // which fails when it is claimed
		}
		if path != "" && !slices.Contains(keys, key) {
			paths, keys = append(paths, path), append(keys, key)
		}
	}
	add(cmp.Or(o.Request.SwapDev, o.Settings.SwapDev))
	for _, d := range o.Request.Named("swap") {
		add(d.Path)
	}
	return paths
}

// isReadOnly tells whether a path is of a disk that the guest can't write to.
func (o *Order) isReadOnly(path string) bool {
	_, is := o.instanceDisk(path, osapi.Disk.ReadOnly)
	return is
}

// instanceDisk finds the instance's disk that a path leads to, among those of a kind.
func (o *Order) instanceDisk(path string, of func(osapi.Disk) bool) (osapi.Disk, bool) {
	key, err := blockdev.Key(path)
	i := slices.IndexFunc(o.Request.Disks, func(d osapi.Disk) bool {
		other, kerr := blockdev.Key(d.Path)
		return of(d) && (d.Path == path || err == nil && kerr == nil && key == other)
	})
	if i < 0 {
		return osapi.Disk{}, false
	}
	return o.Request.Disks[i], true
}

// packages are what the tree has beside its base system and what it boots with.
func (o *Order) packages() []string {
	out := slices.Clone(o.Settings.ExtraPkgs)
	if o.Settings.SSHAuthorizedKeys != "" && !slices.Contains(out, sshServer) {
		out = append(out, sshServer)
	}
	for _, name := range cloudInitPackages {
		if o.Settings.UserData != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// describeTree says which tree is installed, for plans and logs.
func (o *Order) describeTree() string {
	s := o.Settings
	text := s.Suite
	if s.Arch != "" {
		text += "/" + s.Arch
	}
	if s.Snapshot != "" {
		text += " of " + settings.ShowSnapshot(s.Snapshot)
	}
	if packages := o.packages(); len(packages) > 0 {
		text += " with " + strings.Join(packages, ", ")
	}
	return text
}

// check says what this node, or the suite, can't do of what is asked for.
func (o *Order) check() error {
	return errors.Join(
		filesystem.Check(o.fstype(), o.Settings.Suite), filesystem.KernelHas(o.fstype()),
		o.Settings.CheckPassword(), o.checkSwapFile(), o.checkProtection(), o.checkKeep())
}

func joinPaths(paths []string) string { return strings.Join(paths, ", ") }
