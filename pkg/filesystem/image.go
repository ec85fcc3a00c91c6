package filesystem

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"

	"instance-debootstrap/pkg/command"
)

// Image says which filesystem image is copied onto a disk: an ext* that is made
// and filled once, and then given to many disks, each of which makes it its own
// by Finalize. One image serves all disks of a size class, since what grows with
// the disk in steps (the journal) or never (inodes per block) comes with it.
type Image struct {
	Type      Type
	Suite     string
	SizeBytes int64 // of the filesystem: no larger than any disk it is for

	geometry extGeometry
}

// imageFormat goes into every image's kind: raise it when what is done to an
// image changes.
const imageFormat = 1

// Images are made for partitions of up to 4 TiB: the descriptors that resize2fs
// finds reserved reach no further than 8 TiB, and mke2fs gives the larger ones
// fewer inodes.
const (
	smallestImage int64 = 384 << 20
	smallestClass int64 = 512 << 20
	largestClass  int64 = 8 << 30
	imageLimit    int64 = 4 << 40
)

// imageSlack is left free in an image beside what its tree needs.
const imageSlack = 16 << 20

// HasImages tells whether there are images of this type.
func HasImages(t Type) bool { return t.IsExt() }

// IsExt tells whether it is ext2, ext3 or ext4.
func (t Type) IsExt() bool { return t == Ext2 || t == Ext3 || t == Ext4 }

// ImageFor returns the image for a partition, false where there can be none: for
// other types than ext*, and for trees that fill their disk.
//
// The classes are 512 MiB, 1, 2, 4 and 8 GiB, less a sixteenth (the first a
// quarter), so that what partition tables and the EFI partition take from a disk
// of just this size doesn't put it into the class below. Journal and inodes are those of a new filesystem of the class's
// full size.
func ImageFor(t Type, suite string, partitionBytes, contentBytes, inodes int64) (Image, bool) {
	if !HasImages(t) || partitionBytes > imageLimit {
		return Image{}, false
	}
	class := smallestClass
	for class < largestClass && 2*class/16*15 <= partitionBytes {
		class *= 2
	}
	size := class / 16 * 15
	if class == smallestClass {
		size = smallestImage
	}
	size = max(size, MinDiskBytes(t, suite, contentBytes, inodes)+imageSlack)
	if size > partitionBytes {
		return Image{}, false
	}
	return Image{Type: t, Suite: suite, SizeBytes: size, geometry: extGeometry{
		inodeRatio: extInodeRatio(class), journalMiB: extJournalMiB(class), discard: "nodiscard",
	}}, true
}

// Kind names the image among those of one tree: its type and 8 hexadecimal
// digits that stand for its features and sizes.
func (m Image) Kind() string {
	text := fmt.Sprintf("%d %s %d %v %s", imageFormat, extFeatures(m.Type, m.Suite), m.SizeBytes, m.geometry, mke2fsConf)
	sum := sha256.Sum256([]byte(text))
	return string(m.Type) + "-" + hex.EncodeToString(sum[:4])
}

// Make makes the filesystem, still empty, on a device of its size.
func (m Image) Make(ctx context.Context, device string) error {
	s := Spec{Type: m.Type, Suite: m.Suite, Device: device, SizeBytes: m.SizeBytes}
	if err := mke2fs(ctx, s, NewUUID(), m.geometry); err != nil {
		return fmt.Errorf("make an image of %s: %w", m.Type, err)
	}
	return nil
}

// Finalize makes the copy of an image on a device a filesystem of its own, with this
// UUID, as large as the device. journal is where the image's journal is, see
// ImageExtents. The hash seed stays as it is: the folders' indexes are sorted by it.
func (m Image) Finalize(ctx context.Context, device string, journal int64, uuid string) error {
	if err := renewJournal(device, journal, uuid); err != nil {
		return fmt.Errorf("renew the journal on %s: %w", device, err)
	}
	for _, args := range [][]string{{"tune2fs", "-U", uuid, device}, {"resize2fs", device}} {
		if err := command.Run(ctx, command.Cmd{Args: args, In: writing(device), Quiet: true}); err != nil {
			return fmt.Errorf("make the image's copy on %s its own: %w", device, err)
		}
	}
	return nil
}

// Fields of the journal's superblock, big-endian (the kernel's
// Documentation/filesystems/ext4/journal.rst).
const (
	jbdBytes    = 1024
	jbdMagic    = 0xC03B3998
	jbdSequence = 0x18
	jbdStart    = 0x1C
	jbdIncompat = 0x28
	jbdUUID     = 0x30
	jbdChecksum = 0xFC
	jbdCsum     = 0x08 | 0x10 // checksums of version 2 or 3
)

// renewJournal gives an empty journal a UUID and a random number to begin at.
// tune2fs leaves both alone. The blocks of a journal aren't copied, so those of
// an earlier one may lie there; they are no part of this one, since checksums are
// seeded with the UUID and blocks numbered in sequence.
func renewJournal(device string, journal int64, uuid string) error {
	if journal == 0 {
		return nil // ext2
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, jbdBytes)
	if _, err := f.ReadAt(b, journal); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(b) != jbdMagic || binary.BigEndian.Uint32(b[jbdStart:]) != 0 {
		return fmt.Errorf("no empty journal at byte %d", journal)
	}
	rand.Read(b[jbdSequence : jbdSequence+4]) // never fails: crypto/rand
	b[jbdSequence] &= 0x7f                    // far from its turn to 0
	id, err := hex.DecodeString(uuid[:8] + uuid[9:13] + uuid[14:18] + uuid[19:23] + uuid[24:])
	if err != nil {
		return err
	}
	copy(b[jbdUUID:], id)
	if binary.BigEndian.Uint32(b[jbdIncompat:])&jbdCsum != 0 {
		clear(b[jbdChecksum : jbdChecksum+4])
		// The kernel's CRC-32C is without the inversion at the end.
		binary.BigEndian.PutUint32(b[jbdChecksum:], ^crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	}
	if _, err := f.WriteAt(b, journal); err != nil {
		return err
	}
	return f.Close()
}
