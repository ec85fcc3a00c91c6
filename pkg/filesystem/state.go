package filesystem

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"os"
)

// IsClean reports whether an ext or btrfs filesystem was unmounted cleanly, as
// its superblock says, and else why it isn't taken for clean. Of xfs only a mount
// tells: it is clean here.
func IsClean(device string, t Type) (clean bool, why string, err error) {
	if t == XFS {
		return true, "", nil
	}
	f, err := os.Open(device)
	if err != nil {
		return false, "", err
	}
	defer f.Close()
	super, err := readSuper(f, 0, t)
	switch {
	case err != nil:
		err = fmt.Errorf("%s: %w", device, err)
	case t == Btrfs && binary.LittleEndian.Uint64(super[btrfsLogRootOffset:]) != 0:
		why = "its log has to be replayed"
	case t == Btrfs:
	case binary.LittleEndian.Uint32(super[extIncompatOffset:])&extNeedsRecovery != 0:
		why = "its journal has to be replayed"
	case binary.LittleEndian.Uint16(super[extStateOffset:])&extErrors != 0:
		why = "its superblock tells of errors"
	case binary.LittleEndian.Uint16(super[extStateOffset:])&extValid == 0:
		why = "its superblock doesn't call it clean"
	}
	return err == nil && why == "", why, err
}

// readSuper reads the beginning of the superblock of a filesystem that begins at a byte of a
// disk.
func readSuper(r io.ReaderAt, offset int64, t Type) ([]byte, error) {
	super := make([]byte, 512)
	switch t {
	case XFS:
	case Btrfs:
		offset += btrfsSuperOffset
	default:
		offset += extSuperOffset
	}
	if _, err := r.ReadAt(super, offset); err != nil {
		return nil, fmt.Errorf("read the superblock of the %s: %w", t, err)
	}
	return super, nil
}

// The ext superblock, at byte 1024 (the kernel's Documentation/filesystems/ext4/super.rst):
// s_state and s_feature_incompat. dumpe2fs(8) says both too, but also labels as the
// guest wrote them, which can look like any of its lines.
const (
	extSuperOffset    = 1024
	extStateOffset    = 0x3A
	extIncompatOffset = 0x60
	extValid          = 0x1 // unmounted cleanly
	extErrors         = 0x2
	extNeedsRecovery  = 0x4
)

// The btrfs superblock is at 64 KiB; log_root, in it, is the log tree's address
// or 0: little endian, 64 bits (btrfs-dump-super; "Superblock" in the btrfs
// documentation's On-disk Format). A mount of a log tree that can't be written
// back fails with EIO, as damage does.
const (
	btrfsSuperOffset   = 64 << 10
	btrfsLogRootOffset = 96
	btrfsTotalOffset   = 112 // total_bytes
	btrfsDevicesOffset = 136 // num_devices
)

// Claim is what a filesystem's own superblock says.
type Claim struct {
	SizeBytes int64
	UsedBytes int64 // when it was last unmounted or synced
	Devices   int64 // how many it is spread over
}

// ReadClaim reads the superblock of a filesystem that begins at a byte of a disk:
// of ext* at 1024 (the kernel's Documentation/filesystems/ext4/super.rst), of xfs
// at 0 (XFS Algorithms & Data Structures, "Superblocks"), of btrfs as above.
func ReadClaim(r io.ReaderAt, offset int64, t Type) (Claim, error) {
	super, err := readSuper(r, offset, t)
	if err != nil {
		return Claim{}, err
	}
	c := Claim{Devices: 1}
	var blocks, free, blockBytes uint64
	switch t {
	case XFS:
		blockBytes, blocks = uint64(binary.BigEndian.Uint32(super[4:])), binary.BigEndian.Uint64(super[8:])
		free = binary.BigEndian.Uint64(super[144:]) // sb_fdblocks
	case Btrfs:
		blockBytes, blocks = 1, binary.LittleEndian.Uint64(super[btrfsTotalOffset:])
		free = blocks - min(blocks, binary.LittleEndian.Uint64(super[btrfsTotalOffset+8:])) // bytes_used
		c.Devices = int64(binary.LittleEndian.Uint64(super[btrfsDevicesOffset:]))
	default:
		// s_feature_incompat; s_blocks_count_hi and s_free_blocks_count_hi, at
		// 0x150 and 0x158.
		const has64bit = 0x80
		blockBytes, blocks = 1024<<min(binary.LittleEndian.Uint32(super[24:]), 10), uint64(binary.LittleEndian.Uint32(super[4:]))
		free = uint64(binary.LittleEndian.Uint32(super[12:]))
		if binary.LittleEndian.Uint32(super[extIncompatOffset:])&has64bit != 0 {
			blocks |= uint64(binary.LittleEndian.Uint32(super[0x150:])) << 32
			free |= uint64(binary.LittleEndian.Uint32(super[0x158:])) << 32
		}
	}
	high, low := bits.Mul64(blocks, blockBytes)
	if c.SizeBytes = int64(low); high > 0 || c.SizeBytes < 0 {
		return c, fmt.Errorf("the superblock of the %s says that it has %d blocks of %d bytes", t, blocks, blockBytes)
	}
	c.UsedBytes = int64((blocks - min(free, blocks)) * blockBytes)
	return c, nil
}
