// Package filesystem makes, probes, wipes and mounts the filesystems of a
// guest's disks: ext2, ext3, ext4, xfs, btrfs and swap. What a filesystem is
// made of is the guest's affair and comes from one table per suite (suites.go);
// the node's mke2fs.conf and its tools' defaults decide nothing.
package filesystem

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/tell"
)

// Type is a kind of filesystem, by its mount(8) name.
type Type string

// The types that a root can have.
const (
	Ext2  Type = "ext2"
	Ext3  Type = "ext3"
	Ext4  Type = "ext4"
	XFS   Type = "xfs"
	Btrfs Type = "btrfs"
)

// Types returns all types.
func Types() []Type { return []Type{Ext2, Ext3, Ext4, XFS, Btrfs} }

// ParseType returns the type that a setting names.
func ParseType(s string) (Type, error) {
	var names []string
	for _, t := range Types() {
		if s == string(t) {
			return t, nil
		}
		names = append(names, string(t))
	}
	return "", fmt.Errorf("filesystem %q: want one of %s", s, strings.Join(names, ", "))
}

// Spec says what Make makes.
type Spec struct {
	Type   Type
	Device string // block device or file; what is on it is overwritten
	Suite  string // the guest's suite, whose tools must be able to read it
	Label  string // "" is none
	// UUID is the filesystem's; "" is a new one. btrfs always gets a new one: see
	// Adopt.
	UUID string
	// MinInodes is how many inodes ext* has at least.
	MinInodes int64
	// SizeBytes is the size of the filesystem; 0 is all of the device.
	SizeBytes int64
}

// blockBytes is the block size of every filesystem made here: the page size of
// all architectures that Debian's GRUB boots, and what the tools of every suite
// in the table read.
const blockBytes = 4096

// Make makes a filesystem and returns its UUID, new and random unless said. It
// doesn't look at what is on the device. A device that is in use is an error.
func Make(ctx context.Context, s Spec) (uuid string, err error) {
	if err := Check(s.Type, s.Suite); err != nil {
		return "", err
	}
	deviceBytes, err := deviceSize(s.Device)
	if err == nil {
		err = s.complete(deviceBytes)
	}
	if err != nil {
		return "", fmt.Errorf("make %s on %s: %w", s.Type, s.Device, err)
	}
	if uuid = s.UUID; uuid == "" || s.Type == Btrfs {
		uuid = NewUUID()
	}
	switch s.Type {
	case XFS:
		err = makeXFS(ctx, s, uuid)
	case Btrfs:
		err = makeBtrfs(ctx, s, uuid)
	default:
		err = makeExt(ctx, s, uuid)
	}
	if err != nil {
		return "", fmt.Errorf("make %s on %s: %w", s.Type, s.Device, err)
	}
	return uuid, nil
}

// complete fills in the size, and checks size and label against the device and
// the type.
func (s *Spec) complete(deviceBytes int64) error {
	if s.SizeBytes == 0 {
		s.SizeBytes = deviceBytes
	}
	s.SizeBytes = s.SizeBytes / blockBytes * blockBytes
	var faults []error
	if s.SizeBytes > deviceBytes {
		faults = append(faults, fmt.Errorf("%s wanted, but the device has %s", tell.MiB(s.SizeBytes), tell.MiB(deviceBytes)))
	}
	if floor := floorBytes(s.Type); s.SizeBytes < floor {
		faults = append(faults, fmt.Errorf("%s is too small: at least %s are needed", tell.MiB(s.SizeBytes), tell.MiB(floor)))
	}
	limit := map[Type]int{Ext2: 16, Ext3: 16, Ext4: 16, XFS: 12, Btrfs: 255}[s.Type]
	if len(s.Label) > limit {
		faults = append(faults, fmt.Errorf("label %q has %d bytes, and %s allows %d", s.Label, len(s.Label), s.Type, limit))
	}
	return errors.Join(faults...)
}

// MakeSwap makes a swap area over the whole device, whatever is on it, and
// returns its UUID. See IsBlankOrSwap for whether that should be done.
func MakeSwap(ctx context.Context, device string) (uuid string, err error) {
	return MakeSwapWith(ctx, device, NewUUID(), "")
}

// MakeSwapWith makes a swap area with this UUID and label.
func MakeSwapWith(ctx context.Context, device, uuid, label string) (string, error) {
	// --force: mkswap stops at a partition table. Its warning about a file's
	// mode and what it wiped are for the debug log.
	args := []string{"mkswap", "--force", "--uuid", uuid}
	if label != "" {
		args = append(args, "--label", label)
	}
	if err := command.Run(ctx, command.Cmd{Args: append(args, device), In: writing(device), Quiet: true}); err != nil {
		return "", fmt.Errorf("make swap on %s: %w", device, err)
	}
	return uuid, nil
}

// FstabOptions returns the options and the fsck pass that the guest's fstab
// gives to a root of this type. Pass 1 is for ext* only: fsck.xfs and
// fsck.btrfs do nothing, and needn't be installed in the guest. What is on a disk that
// the guest can't write to, no fsck can mend. "defaults" is for hooks that put options of
// their own in its place.
func FstabOptions(t Type, readOnly bool) (options string, passno int) {
	switch {
	case readOnly:
		return "ro", 0
	case t == XFS, t == Btrfs:
		return "defaults", 0
	}
	return "defaults,errors=remount-ro", 1
}

// DataFstabOptions is FstabOptions for a data disk. nofail: a guest whose data disk
// is not there, or broken, still boots, so that it can be mended.
func DataFstabOptions(t Type, readOnly bool) (options string, passno int) {
	options, passno = FstabOptions(t, readOnly)
	if passno == 1 {
		options, passno = "defaults", 2
	}
	return options + ",nofail", passno
}

// deviceSize returns the size in bytes of a block device or file.
func deviceSize(device string) (int64, error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Seek(0, io.SeekEnd)
}

// NewUUID returns a random UUID, version 4 (RFC 9562, 5.4).
func NewUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
