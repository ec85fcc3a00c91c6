// Package partition plans and writes the partition table of a guest's disk:
// none (the filesystem is the whole disk), msdos or gpt.
//
// All sectors are of 512 bytes, whatever the node's own disk has: the guest
// sees a disk of 512-byte sectors. A plan is pure: what is random in it comes
// from the reader that is passed in.
package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"instance-debootstrap/pkg/tell"
)

// SectorSize is the size in bytes of the sectors that all numbers here count.
const SectorSize = 512

// MinDiskBytes is the smallest disk that is planned: 511 MiB, below which the
// shell provider refused to install too.
const MinDiskBytes int64 = 511 << 20

// minRootBytes is the least that an alignment must leave to the root; what the
// filesystem and the guest need is not this package's to know.
const minRootBytes = 1 << 20

// Style is the kind of partition table.
type Style string

// The styles, as the setting PARTITION_STYLE names them.
const (
	StyleNone  Style = "none"
	StyleMSDOS Style = "msdos"
	StyleGPT   Style = "gpt"
)

const (
	// typeLinux is the msdos partition type "Linux", in sfdisk's writing.
	typeLinux = "83"
	// typeLinuxFilesystem is the gpt type "Linux filesystem data". It is not the
	// "root (x86-64)" type of the Discoverable Partitions Specification: that
	// one depends on the guest's architecture, which a table needn't know, and
	// would have systemd-gpt-auto-generator find, check and grow the root by
	// itself beside what the guest's fstab says.
	typeLinuxFilesystem = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"

	// gptSectors is what gpt takes at each end of the disk besides the
	// protective MBR: the header and 128 entries of 128 bytes (UEFI 2.10, 5.3).
	gptSectors = 33
	// msdosMaxSectors is the most that msdos's 32-bit sector numbers reach: 2 TiB.
	msdosMaxSectors = 1 << 32
	// blockSectors are the sectors of one 4 KiB filesystem block.
	blockSectors = 8
	// mibSectors are the sectors of 1 MiB.
	mibSectors = 2048
)

// Layout is a whole disk.
type Layout struct {
	Style     Style
	SizeBytes int64
	// DiskID is what blkid calls PTUUID: 8 hex digits (msdos) or a UUID in
	// lower case (gpt); "" for none.
	DiskID     string
	Partitions []Partition
	// HybridMBR says that a gpt's protective MBR has partitions of its own.
	HybridMBR bool
}

// Partition is one entry of the table. Positions are in 512-byte sectors.
type Partition struct {
	Number      int    `json:"number"`
	StartSector int64  `json:"start_sector"`
	Sectors     int64  `json:"sectors"`
	Type        string `json:"type"`                 // "83" (msdos) or a GUID in upper case (gpt)
	Name        string `json:"name,omitempty"`       // gpt only
	UUID        string `json:"uuid"`                 // PARTUUID: DISKID-NN (msdos) or a UUID in lower case (gpt)
	Bootable    bool   `json:"bootable,omitempty"`   // msdos's active flag
	Attributes  uint64 `json:"attributes,omitempty"` // gpt only
}

// Offset is where the partition begins on its disk, in bytes.
func (p Partition) Offset() int64 { return p.StartSector * SectorSize }

// SizeBytes is the partition's size.
func (p Partition) SizeBytes() int64 { return p.Sectors * SectorSize }

// Plan lays out a disk of sizeBytes with one partition, the root, which starts
// at the first multiple of alignmentSectors (512-byte sectors) that the table
// leaves free and takes the rest of the disk, down to a whole MiB, as sfdisk and
// sgdisk do, or a whole 4 KiB if it doesn't start at a whole MiB. Style none has
// no partition. All faults are in the one error; it names sizes in MiB.
func Plan(style Style, sizeBytes, alignmentSectors int64, random io.Reader) (Layout, error) {
	return PlanBoot(style, sizeBytes, alignmentSectors, Boot{}, random)
}

// Boot is what firmware starts a gpt disk from. The other styles have no
// partitions for it.
type Boot struct{ BIOS, UEFI bool }

// Sizes and numbers of the partitions for firmware. They lie before the root, so
// that it can grow, and the root stays number 1, which hooks rely on; the
// numbers are those of cloud images.
const (
	biosBootNumber  = 14
	biosBootSectors = mibSectors // GRUB's manual, "BIOS installation"
	espNumber       = 15
	// espSectors is 62 MiB: with the 1 MiB of BIOS-boot and the table's the root
	// starts at 64 MiB. FAT32 has at least 65525 clusters (here of 512 bytes), and
	// signed GRUBs and shims take some 15 MiB.
	espSectors = 62 * mibSectors
)

// PlanBoot is Plan with the partitions that firmware starts from before the
// root: on gpt a BIOS-boot partition, 14, and an EFI system partition, 15.
func PlanBoot(style Style, sizeBytes, alignmentSectors int64, boot Boot, random io.Reader) (Layout, error) {
	l := Layout{Style: style, SizeBytes: sizeBytes}
	if err := check(style, sizeBytes, alignmentSectors); err != nil {
		return Layout{}, fmt.Errorf("plan the disk: %w", err)
	}
	switch style {
	case StyleMSDOS:
		return l.planMSDOS(alignmentSectors, random)
	case StyleGPT:
		return l.planGPT(alignmentSectors, boot, []Part{{Number: rootNumber, Type: typeLinuxFilesystem, Name: rootName}}, random)
	}
	return l, nil
}

func (l Layout) planMSDOS(alignmentSectors int64, random io.Reader) (_ Layout, err error) {
	if l.DiskID, err = msdosID(random); err != nil {
		return Layout{}, err
	}
	root := Partition{
		Number: rootNumber, StartSector: alignmentSectors, Type: typeLinux, Bootable: true,
		Sectors: rest(l.SizeBytes/SectorSize, alignmentSectors, alignmentSectors), UUID: fmt.Sprintf("%s-%02x", l.DiskID, rootNumber),
	}
	l.Partitions = []Partition{root}
	return l, l.checkRest(root, alignmentSectors)
}

// rest is how many sectors are left to a partition up to an end: whole MiB, or whole
// blocks of 4 KiB where partitions don't start at whole MiB.
func rest(end, start, alignmentSectors int64) int64 {
	unit := int64(blockSectors)
	if alignmentSectors%mibSectors == 0 {
		unit = mibSectors
	}
	return (end - start) / unit * unit
}

func (l Layout) checkRest(p Partition, alignmentSectors int64) error {
	if p.SizeBytes() >= minRootBytes {
		return nil
	}
	return fmt.Errorf("plan the disk: an alignment of %d sectors (%s) leaves %s of the disk's %s to the root: take a smaller PARTITION_ALIGNMENT (default 2048) or a larger disk",
		alignmentSectors, tell.MiB(alignmentSectors*SectorSize), tell.MiB(max(0, p.SizeBytes())), tell.MiB(l.SizeBytes))
}

// partitions lays out what firmware starts from, from a sector on.
func (b Boot) partitions(start, alignmentSectors int64, random io.Reader) (out []Partition, err error) {
	add := func(number int, sectors int64, kind, name string) {
		var p Partition
		if err == nil {
			p.UUID, err = NewUUID(random)
		}
		p.Number, p.StartSector, p.Sectors, p.Type, p.Name = number, start, sectors, kind, name
		start = roundUp(start+sectors, alignmentSectors)
		out = append(out, p)
	}
	if b.BIOS {
		add(biosBootNumber, biosBootSectors, typeBIOSBoot, "BIOS boot")
	}
	if b.UEFI {
		add(espNumber, espSectors, typeESP, "EFI system")
	}
	return out, err
}

// ESP returns the EFI system partition of a gpt layout.
func (l Layout) ESP() (p Partition, ok bool) { return l.ofType(typeESP) }

// BIOSBoot returns the BIOS-boot partition of a gpt layout.
func (l Layout) BIOSBoot() (p Partition, ok bool) { return l.ofType(typeBIOSBoot) }

func (l Layout) ofType(kind string) (p Partition, ok bool) {
	if l.Style != StyleGPT {
		return p, false
	}
	i := slices.IndexFunc(l.Partitions, func(p Partition) bool { return strings.EqualFold(p.Type, kind) })
	if i < 0 {
		return p, false
	}
	return l.Partitions[i], true
}

// check returns every fault of Plan's arguments but an alignment too large for
// the disk.
func check(style Style, sizeBytes, alignmentSectors int64) error {
	var faults []error
	switch style {
	case StyleNone, StyleMSDOS, StyleGPT:
	default:
		faults = append(faults, fmt.Errorf("partition style %q: want none, msdos or gpt", style))
	}
	if sizeBytes < MinDiskBytes {
		faults = append(faults, fmt.Errorf("device size is too small: the disk has %s, at least %s are needed", tell.MiB(sizeBytes), tell.MiB(MinDiskBytes)))
	}
	if style == StyleMSDOS && sizeBytes/SectorSize > msdosMaxSectors {
		faults = append(faults, fmt.Errorf("the disk has %s, and an msdos table reaches %s only: use PARTITION_STYLE=gpt", tell.MiB(sizeBytes), tell.MiB(msdosMaxSectors*SectorSize)))
	}
	if style != StyleNone && (alignmentSectors < 1 || alignmentSectors > msdosMaxSectors) {
		faults = append(faults, fmt.Errorf("partition alignment %d: want 1 or more sectors of %d bytes (2048 is 1 MiB)", alignmentSectors, SectorSize))
	}
	return errors.Join(faults...)
}

// Root returns where the root filesystem of a layout of ours lies, in 512-byte
// sectors.
func (l Layout) Root() (startSector, sectors int64) {
	root, _ := l.GuestRoot()
	return root.StartSector, root.Sectors
}

// msdosID returns a random disk id, never 0: Linux and blkid take 0 for "none",
// and every disk's first partition would have the PARTUUID 00000000-01.
func msdosID(random io.Reader) (string, error) {
	var b [4]byte
	for range 16 {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return "", fmt.Errorf("random disk id: %w", err)
		}
		if id := binary.LittleEndian.Uint32(b[:]); id != 0 {
			return fmt.Sprintf("%08x", id), nil
		}
	}
	return "", errors.New("random disk id: the source of randomness gives only zeros")
}

// NewUUID returns a version 4 UUID (RFC 9562, 5.4) in lower case.
func NewUUID(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("random UUID: %w", err)
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
