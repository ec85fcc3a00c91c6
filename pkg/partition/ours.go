package partition

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"instance-debootstrap/pkg/tell"
)

// gpt's types (UEFI 2.10, 5.3.3; the Discoverable Partitions Specification).
const (
	typeBIOSBoot = "21686148-6449-6E6F-744E-656564454649"
	typeESP      = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
)

// RootPartition returns the partition with the filesystem of a layout that can be taken
// apart and made again on a disk of another size: none, where that is the whole
// disk, as number 0; msdos with one partition of type Linux; gpt with one
// Linux partition, which is the last, and before it at most a BIOS-boot and an
// EFI system partition. For any other layout, the error says why it isn't one.
func (l Layout) RootPartition() (Partition, error) {
	switch l.Style {
	case StyleNone:
		return Partition{Sectors: l.SizeBytes / SectorSize}, nil
	case StyleMSDOS:
		return l.rootOfMSDOS()
	case StyleGPT:
		return l.rootOfGPT()
	}
	return Partition{}, fmt.Errorf("partition style %q", l.Style)
}

func (l Layout) rootOfMSDOS() (root Partition, err error) {
	if len(l.Partitions) != 1 {
		return root, fmt.Errorf("it has %d partitions", len(l.Partitions))
	}
	root = l.Partitions[0]
	if root.Type != typeLinux {
		return root, errors.New("its partition is of type " + root.Type)
	}
	if root.Number != 1 {
		return root, fmt.Errorf("its one partition has the number %d", root.Number)
	}
	return root, nil
}

func (l Layout) rootOfGPT() (root Partition, err error) {
	var boot, esp int
	var others []Partition
	for _, p := range l.Partitions {
		switch kind := strings.ToUpper(p.Type); {
		case kind == typeBIOSBoot:
			boot++
			others = append(others, p)
		case kind == typeESP:
			esp++
			others = append(others, p)
		case slices.Contains(linuxTypes, kind) && root.Number == 0:
			root = p
		default:
			return root, fmt.Errorf("partition %d is of type %s", p.Number, p.Type)
		}
	}
	if root.Number == 0 {
		return root, errors.New("it has no Linux partition")
	}
	if l.HybridMBR {
		return root, errors.New("its gpt has an MBR with partitions of its own (hybrid)")
	}
	if boot > 1 || esp > 1 {
		return root, errors.New("it has several partitions to boot from")
	}
	for _, p := range others {
		if p.StartSector+p.Sectors > root.StartSector {
			return root, fmt.Errorf("partition %d lies behind partition %d", p.Number, root.Number)
		}
	}
	return root, nil
}

// Fit returns the layout on a disk of another size: every partition starts where
// it did, and the last, the root, ends where Plan would end it.
func (l Layout) Fit(sizeBytes int64) (Layout, error) {
	root, err := l.RootPartition()
	if err != nil {
		return l, fmt.Errorf("fit the layout to a disk of %s: %w", tell.MiB(sizeBytes), err)
	}
	fitted := l
	fitted.SizeBytes = sizeBytes
	if l.Style == StyleNone {
		return fitted, nil
	}
	sectors := l.roomFor(root, sizeBytes)
	if sizeBytes == l.SizeBytes {
		sectors = root.Sectors // as it was, however it was rounded
	}
	if sectors*SectorSize < minRootBytes {
		return l, fmt.Errorf("fit the layout to a disk of %s: the partition that starts at %s has no room there", tell.MiB(sizeBytes), tell.MiB(root.Offset()))
	}
	return fitted.withSectors(root.Number, sectors), nil
}

// roomFor returns how many sectors the last partition has on a disk of this size.
func (l Layout) roomFor(root Partition, sizeBytes int64) int64 {
	end := sizeBytes / SectorSize
	if l.Style == StyleGPT {
		end -= gptSectors
	}
	if l.Style == StyleMSDOS {
		end = min(end, msdosMaxSectors)
	}
	unit := int64(blockSectors)
	if root.StartSector%mibSectors == 0 {
		unit = mibSectors
	}
	return (end - root.StartSector) / unit * unit
}

func (l Layout) withSectors(number int, sectors int64) Layout {
	l.Partitions = slices.Clone(l.Partitions)
	for i := range l.Partitions {
		if l.Partitions[i].Number == number {
			l.Partitions[i].Sectors = sectors
		}
	}
	return l
}

// Grow returns the layout, as Read read it from a disk that was enlarged, with its
// last partition, most often the root, extended to the disk's end. No partition ever becomes
// smaller.
func (l Layout) Grow() (Layout, error) {
	last, err := l.Growing()
	if err != nil {
		return l, fmt.Errorf("grow the last partition: %w", err)
	}
	if l.Style == StyleMSDOS && l.SizeBytes/SectorSize > msdosMaxSectors {
		return l, fmt.Errorf("the disk has %s, and its msdos table reaches %s only: convert the table to gpt from inside the guest", tell.MiB(l.SizeBytes), tell.MiB(msdosMaxSectors*SectorSize))
	}
	if l.Style == StyleNone {
		return l, nil
	}
	return l.withSectors(last.Number, max(last.Sectors, l.roomFor(last, l.SizeBytes))), nil
}

// Renew returns the layout with a new disk id and new partition UUIDs.
func (l Layout) Renew(random io.Reader) (Layout, error) {
	var err error
	l.Partitions = slices.Clone(l.Partitions)
	switch l.Style {
	case StyleMSDOS:
		if l.DiskID, err = msdosID(random); err != nil {
			return l, err
		}
		for i, p := range l.Partitions {
			l.Partitions[i].UUID = fmt.Sprintf("%s-%02x", l.DiskID, p.Number)
		}
	case StyleGPT:
		if l.DiskID, err = NewUUID(random); err != nil {
			return l, err
		}
		for i := range l.Partitions {
			if l.Partitions[i].UUID, err = NewUUID(random); err != nil {
				return l, err
			}
		}
	}
	return l, nil
}
