package partition

import (
	"strconv"
	"strings"
)

// Range is a part of a disk, in bytes: from Start to before End.
type Range struct{ Start, End int64 }

// OutsideTable returns the parts of the disk that hold no partition table: of
// msdos all but the disk id and the four entries, of gpt what lies between the
// protective MBR's boot code, the table and its copy at the disk's end.
func (l Layout) OutsideTable() []Range {
	end := l.SizeBytes / SectorSize * SectorSize
	switch l.Style {
	case StyleMSDOS:
		return []Range{{0, mbrDiskID}, {SectorSize, end}}
	case StyleGPT:
		return []Range{{0, mbrDiskID}, {(1 + gptSectors) * SectorSize, end - gptSectors*SectorSize}}
	}
	return []Range{{0, end}}
}

// WithPartUUID returns the layout with another PARTUUID for one of its
// partitions: on msdos that is the disk's id and the partition's number. It is
// false when the layout can't have this one.
func (l Layout) WithPartUUID(number int, partUUID string) (Layout, bool) {
	partUUID = strings.ToLower(partUUID)
	if partUUID == "" {
		return l, false
	}
	l.Partitions = append([]Partition(nil), l.Partitions...)
	for i, p := range l.Partitions {
		if p.Number != number {
			continue
		}
		id, suffix, ok := strings.Cut(partUUID, "-")
		switch {
		case l.Style == StyleGPT && len(partUUID) == 36:
			l.Partitions[i].UUID = partUUID
			return l, true
		case l.Style == StyleMSDOS && ok && len(id) == 8:
			n, err := strconv.ParseUint(suffix, 16, 8)
			if err != nil || int(n) != number || len(l.Partitions) != 1 || id == "00000000" {
				return l, false
			}
			l.DiskID, l.Partitions[i].UUID = id, partUUID
			return l, true
		}
	}
	return l, false
}
