package partition

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/diskfs/go-diskfs/partition/mbr"
)

// File is a disk that is open for reading and writing; *os.File is one.
type File interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Offsets in the first sector (the "modern standard" MBR).
const (
	mbrDiskID  = 440
	mbrEntries = 446
	mbrMagic   = 510
)

// Write writes the layout's table and syncs it. The disk is l.SizeBytes large.
// The boot code (the first 440 bytes) stays as it is, and so does everything
// else outside the table, but a GPT header that an msdos table would leave
// behind is erased, for readers prefer it. Style none writes nothing.
//
// Only aligned blocks of 4 KiB are read and written, from aligned memory, so f
// may be open with O_DIRECT on a disk of 512- or 4096-byte sectors.
func (l Layout) Write(f File) error {
	if l.Style == StyleNone {
		return nil
	}
	e, err := readEnds(f, l.SizeBytes)
	if err != nil {
		return fmt.Errorf("write %s table: %w", l.Style, err)
	}
	if err = l.encode(e); err == nil {
		err = e.writeTo(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("write %s table: %w", l.Style, err)
	}
	return nil
}

// IsOn reports whether the disk has the layout's table already, as Write would
// write it.
func (l Layout) IsOn(r io.ReaderAt) (bool, error) {
	if l.Style == StyleNone {
		return true, nil
	}
	e, err := readEnds(r, l.SizeBytes)
	if err == nil {
		head, tail := bytes.Clone(e.head), bytes.Clone(e.tail)
		if err = l.encode(e); err == nil {
			return bytes.Equal(head, e.head) && bytes.Equal(tail, e.tail), nil
		}
	}
	return false, fmt.Errorf("compare %s table: %w", l.Style, err)
}

func (l Layout) encode(e *ends) error {
	switch l.Style {
	case StyleMSDOS:
		return l.encodeMSDOS(e)
	case StyleGPT:
		return l.encodeGPT(e)
	}
	return fmt.Errorf("unknown style")
}

func (l Layout) encodeMSDOS(e *ends) error {
	id, err := strconv.ParseUint(l.DiskID, 16, 32)
	if err != nil || id == 0 {
		return fmt.Errorf("disk id %q: want 8 hex digits, not all 0", l.DiskID)
	}
	table := mbr.Table{LogicalSectorSize: SectorSize, PhysicalSectorSize: SectorSize}
	for _, p := range l.Partitions {
		kind, err := strconv.ParseUint(p.Type, 16, 8)
		if err != nil {
			return fmt.Errorf("partition %d type %q: want two hex digits", p.Number, p.Type)
		}
		if p.StartSector < 1 || p.Sectors < 1 || p.StartSector+p.Sectors > msdosMaxSectors {
			return fmt.Errorf("partition %d (start %d, %d sectors) isn't within msdos's 2 TiB", p.Number, p.StartSector, p.Sectors)
		}
		if p.Number != len(table.Partitions)+1 || p.Number > 4 {
			return fmt.Errorf("partition number %d: msdos partitions are 1 to 4 in order", p.Number)
		}
		entry := &mbr.Partition{Index: p.Number, Bootable: p.Bootable, Type: mbr.Type(kind), Start: uint32(p.StartSector), Size: uint32(p.Sectors)}
		entry.StartHead, entry.StartSector, entry.StartCylinder = chs(p.StartSector)
		entry.EndHead, entry.EndSector, entry.EndCylinder = chs(p.StartSector + p.Sectors - 1)
		table.Partitions = append(table.Partitions, entry)
	}
	e.eraseGPT()
	binary.LittleEndian.PutUint32(e.head[mbrDiskID:], uint32(id))
	e.head[mbrDiskID+4], e.head[mbrDiskID+5] = 0, 0 // 5a5a would mean "copy protected"
	return table.Write(e, l.SizeBytes)
}

func (l Layout) encodeGPT(e *ends) error {
	table := gpt.Table{LogicalSectorSize: SectorSize, PhysicalSectorSize: SectorSize, GUID: strings.ToUpper(l.DiskID), ProtectiveMBR: true}
	for _, p := range l.Partitions {
		last := p.StartSector + p.Sectors - 1
		if p.StartSector <= gptSectors || p.Sectors < 1 || last >= l.SizeBytes/SectorSize-gptSectors {
			return fmt.Errorf("partition %d (start %d, %d sectors) isn't within the usable sectors", p.Number, p.StartSector, p.Sectors)
		}
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: p.Number, Start: uint64(p.StartSector), End: uint64(last),
			Type: gpt.Type(p.Type), Name: p.Name, GUID: strings.ToUpper(p.UUID), Attributes: p.Attributes,
		})
	}
	active := e.head[mbrEntries] // some firmware wants it set, even here
	if e.head[mbrEntries+4] != 0xee {
		active = 0
	}
	if err := table.Write(e, l.SizeBytes); err != nil {
		return err
	}
	// The protective MBR as UEFI 2.10, 5.2.3 has it; the codec leaves the CHS
	// fields empty and lets the size wrap above 2 TiB.
	binary.LittleEndian.PutUint32(e.head[mbrDiskID:], 0)
	e.head[mbrDiskID+4], e.head[mbrDiskID+5] = 0, 0
	entry := e.head[mbrEntries : mbrEntries+16]
	entry[0] = active
	copy(entry[1:4], []byte{0x00, 0x02, 0x00})
	copy(entry[5:8], []byte{0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(entry[12:], uint32(min(l.SizeBytes/SectorSize-1, 0xffffffff)))
	return nil
}

// chs returns the three bytes of an msdos entry's cylinder/head/sector address
// as sfdisk fills them: a disk of 255 heads and 63 sectors per track, and the
// last address that fits for all that lies behind cylinder 1023.
func chs(sector int64) (head, sectorAndHigh, cylinderLow byte) {
	const heads, perTrack = 255, 63
	cylinder := sector / (heads * perTrack)
	if cylinder > 1023 {
		return heads - 1, 0xff, 0xff
	}
	h := sector / perTrack % heads
	s := sector%perTrack + 1
	return byte(h), byte(s) | byte(cylinder>>8<<6), byte(cylinder)
}
