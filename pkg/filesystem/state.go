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
	switch t {
	case XFS:
		return true, "", nil
	case Btrfs:
		return btrfsIsClean(device)
	}
	return extIsClean(device)
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

func readSuper(device string, offset int64, n int) ([]byte, error) {
	f, err := os.Open(device)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	super := make([]byte, n)
	if _, err := f.ReadAt(super, offset); err != nil {
		return nil, fmt.Errorf("read the superblock of %s: %w", device, err)
	}
	return super, nil
}

func extIsClean(device string) (clean bool, why string, err error) {
	super, err := readSuper(device, extSuperOffset, 1024)
	if err != nil {
		return false, "", err
	}
	state := binary.LittleEndian.Uint16(super[extStateOffset:])
	switch {
	case binary.LittleEndian.Uint32(super[extIncompatOffset:])&extNeedsRecovery != 0:
		return false, "its journal has to be replayed", nil
	case state&extErrors != 0:
		return false, "its superblock tells of errors", nil
	case state&extValid == 0:
		return false, "its superblock doesn't call it clean", nil
	}
	return true, "", nil
}

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

func btrfsIsClean(device string) (clean bool, why string, err error) {
	logRoot, err := readSuper(device, btrfsSuperOffset+btrfsLogRootOffset, 8)
	if err != nil {
		return false, "", err
	}
	if binary.LittleEndian.Uint64(logRoot) != 0 {
		return false, "its log has to be replayed", nil
	}
	return true, "", nil
}

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
	super := make([]byte, 512)
	at := map[Type]int64{XFS: 0, Btrfs: btrfsSuperOffset}
	from, ok := at[t]
	if !ok {
		from = extSuperOffset
	}
	if _, err := r.ReadAt(super, offset+from); err != nil {
		return Claim{}, fmt.Errorf("read the superblock of the %s: %w", t, err)
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
