package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/diskfs/go-diskfs/partition/mbr"

	"instance-debootstrap/pkg/tell"
)

// Read reads the table of a disk of sizeBytes in 512-byte sectors. A disk
// without one is StyleNone. Of an msdos table the four primary entries are
// given. A table that is damaged, or of another sector size, is an error.
func Read(r io.ReaderAt, sizeBytes int64) (Layout, error) {
	e, err := readEnds(r, sizeBytes)
	if err != nil {
		return Layout{}, fmt.Errorf("read partition table: %w", err)
	}
	l := Layout{Style: StyleNone, SizeBytes: sizeBytes}
	if e.head[mbrMagic] != 0x55 || e.head[mbrMagic+1] != 0xaa {
		return l, nil
	}
	for i := range 4 {
		if e.head[mbrEntries+16*i+4] == 0xee {
			return readGPT(e, l)
		}
	}
	table, err := mbr.Read(e, SectorSize, SectorSize)
	if err != nil {
		return Layout{}, fmt.Errorf("read msdos table: %w", err)
	}
	l.Style, l.DiskID = StyleMSDOS, table.UUID()
	for _, p := range table.Partitions {
		if p.Type == mbr.Empty {
			continue
		}
		l.Partitions = append(l.Partitions, Partition{
			Number: p.Index, StartSector: int64(p.Start), Sectors: int64(p.Size),
			Type: fmt.Sprintf("%x", byte(p.Type)), UUID: p.UUID(), Bootable: p.Bootable,
		})
	}
	if len(l.Partitions) == 0 && l.DiskID == "00000000" {
		// The boot sector of a FAT or another filesystem, which ends in the same
		// two bytes.
		return Layout{Style: StyleNone, SizeBytes: sizeBytes}, nil
	}
	return l, l.checkBounds()
}

func readGPT(e *ends, l Layout) (Layout, error) {
	for _, header := range [][]byte{e.head[SectorSize:], e.tail[len(e.tail)-SectorSize:]} {
		if err := checkGPTHeader(header); err != nil {
			return Layout{}, fmt.Errorf("read gpt table: %w", err)
		}
	}
	table, err := gpt.Read(e, SectorSize, SectorSize)
	if err != nil {
		return Layout{}, fmt.Errorf("read gpt table: %w", err)
	}
	l.Style, l.DiskID = StyleGPT, strings.ToLower(table.GUID)
	for _, p := range table.Partitions {
		l.Partitions = append(l.Partitions, Partition{
			Number: p.Index, StartSector: int64(p.Start), Sectors: int64(p.End) - int64(p.Start) + 1,
			Type: string(p.Type), Name: p.Name, UUID: strings.ToLower(p.GUID), Attributes: p.Attributes,
		})
	}
	entries := e.head[mbrEntries:mbrMagic]
	l.HybridMBR = entries[4] != 0xee || bytes.ContainsFunc(entries[16:], func(r rune) bool { return r != 0 })
	return l, l.checkBounds()
}

// checkBounds reports partitions that don't lie on the disk.
func (l Layout) checkBounds() error {
	var faults []error
	for _, p := range l.Partitions {
		if p.StartSector < 1 || p.Sectors < 1 || p.Sectors > l.SizeBytes/SectorSize-p.StartSector {
			faults = append(faults, fmt.Errorf("read %s table: partition %d (start %d, %d sectors) isn't on the disk of %s", l.Style, p.Number, p.StartSector, p.Sectors, tell.MiB(l.SizeBytes)))
		}
	}
	return errors.Join(faults...)
}

// checkGPTHeader refuses the sizes on which the codec would allocate without
// bound or loop for ever: a disk's content is the guest's, not ours.
func checkGPTHeader(header []byte) error {
	if !bytes.HasPrefix(header, gptMagic) {
		return nil // the codec says what is wrong, or recovers from the other header
	}
	count, size := binary.LittleEndian.Uint32(header[80:]), binary.LittleEndian.Uint32(header[84:])
	if count > 128 || size != gpt.PartitionEntrySize {
		return errors.New("a header with other than 128 entries of 128 bytes")
	}
	return nil
}
