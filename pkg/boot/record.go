package boot

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"instance-debootstrap/pkg/partition"
)

// Fields of GRUB's images, in bytes (include/grub/i386/pc/boot.h and
// include/grub/offsets.h of GRUB 2.00 to 2.14).
const (
	sector       = partition.SectorSize
	codeBytes    = 440  // of the boot record; the disk id and the table follow
	kernelSector = 0x5c // boot.img: uint64, where the core image begins
	driveCheck   = 0x66 // boot.img: a jump over the check of BIOS's drive number
	listStart    = 500  // core.img, first sector: uint64, where the rest lies
	listSectors  = 508  // uint16, how many sectors the rest has
	listSegment  = 510  // uint16, where it is loaded
	restSegment  = 0x820
)

// room is where a core image can lie, in 512-byte sectors.
type room struct{ start, sectors int64 }

// findRoom returns where the disk has room for a core image that nothing else
// uses: before the first partition of msdos, or in gpt's BIOS-boot partition. A
// disk without partitions has none: ext* leaves two sectors free and xfs not even
// the first. btrfs leaves 127, and the core image that reads it takes 138.
func findRoom(disk *os.File, t Target) (room, error) {
	if t.Style == partition.StyleNone {
		return room{}, errors.New("a disk without a partition table has no room for GRUB: import with PARTITION_STYLE=msdos, or boot the guest with a kernel from the node")
	}
	layout, err := t.table(disk)
	if err != nil {
		return room{}, err
	}
	if layout.Style != t.Style || len(layout.Partitions) == 0 {
		return room{}, fmt.Errorf("the disk's table is %s with %d partitions, not %s", layout.Style, len(layout.Partitions), t.Style)
	}
	if t.Style == partition.StyleMSDOS {
		first := slices.MinFunc(layout.Partitions, func(a, b partition.Partition) int { return cmp.Compare(a.StartSector, b.StartSector) })
		return room{1, first.StartSector - 1}, nil
	}
	if p, ok := layout.BIOSBoot(); ok {
		return room{p.StartSector, p.Sectors}, nil
	}
	return room{}, errors.New("a gpt disk without a BIOS-boot partition has no room for GRUB: import with PARTITION_STYLE=msdos, or boot the guest with a kernel from the node")
}

func (t Target) table(disk *os.File) (partition.Layout, error) {
	if t.Layout != nil {
		return *t.Layout, nil
	}
	size, err := disk.Seek(0, io.SeekEnd)
	if err != nil {
		return partition.Layout{}, err
	}
	return partition.Read(disk, size)
}

// place fills in where the core image lies, in it and in the boot record. Both
// come as GRUB's build leaves them, for a core image at sector 1: anything else
// is a format that isn't known here.
func (r room) place(record, core []byte) error {
	sectors := int64(len(core)+sector-1) / sector
	switch {
	case len(record) != sector || binary.LittleEndian.Uint64(record[kernelSector:]) != 1:
		return errors.New("the guest's boot.img is not that of a GRUB 2")
	case sectors < 2 || !bytes.Equal(core[listStart-12:listStart], make([]byte, 12)) ||
		binary.LittleEndian.Uint64(core[listStart:]) != 2 ||
		int64(binary.LittleEndian.Uint16(core[listSectors:])) != sectors-1 ||
		binary.LittleEndian.Uint16(core[listSegment:]) != restSegment:
		return errors.New("the core image doesn't begin as that of a GRUB 2")
	case sectors > r.sectors:
		return fmt.Errorf("the core image takes %d sectors of 512 bytes, and the disk has room for %d: import with PARTITION_ALIGNMENT=2048 (msdos), or with a BIOS-boot partition of 1 MiB (gpt)", sectors, r.sectors)
	}
	binary.LittleEndian.PutUint64(record[kernelSector:], uint64(r.start))
	binary.LittleEndian.PutUint64(core[listStart:], uint64(r.start)+1)
	// As grub-bios-setup does on a hard disk: some BIOSes give no drive number.
	if bytes.Equal(record[driveCheck:driveCheck+2], []byte{0xeb, 0x05}) {
		copy(record[driveCheck:], []byte{0x90, 0x90})
	}
	return nil
}

// write writes the core image and then, once that is on the disk, the boot
// record. Disk id and table stay.
func (r room) write(disk *os.File, record, core []byte) error {
	whole := make([]byte, (len(core)+sector-1)/sector*sector)
	copy(whole, core)
	_, err := disk.WriteAt(whole, r.start*sector)
	if err == nil {
		err = disk.Sync()
	}
	if err == nil {
		_, err = disk.WriteAt(record[:codeBytes], 0)
	}
	if err == nil {
		_, err = disk.WriteAt([]byte{0x55, 0xaa}, sector-2)
	}
	if err == nil {
		err = disk.Sync()
	}
	if err != nil {
		return fmt.Errorf("write GRUB's boot record: %w", err)
	}
	return nil
}
