package partition

import (
	"fmt"
	"slices"
	"strings"
)

// MovedIn says how a table that was read later has another place for a partition of this
// layout, by its number; "" is for all as they were. BIOS-boot is left out, which holds no
// filesystem; partitions that were added, types, names and ids may differ.
func (l Layout) MovedIn(now Layout) string {
	for _, p := range l.Partitions {
		if l.Style == StyleGPT && strings.EqualFold(p.Type, typeBIOSBoot) {
			continue
		}
		i := slices.IndexFunc(now.Partitions, func(q Partition) bool { return q.Number == p.Number })
		switch {
		case i < 0:
			return fmt.Sprintf("partition %d, which starts at sector %d, is gone", p.Number, p.StartSector)
		case now.Partitions[i].StartSector != p.StartSector || now.Partitions[i].Sectors != p.Sectors:
			return fmt.Sprintf("partition %d, of %d sectors from %d on, has %d from %d on now", p.Number, p.Sectors, p.StartSector, now.Partitions[i].Sectors, now.Partitions[i].StartSector)
		}
	}
	return ""
}

// Equal tells whether a table that was read has what the layout has.
func (l Layout) Equal(now Layout) bool {
	byNumber := func(a, b Partition) int { return a.Number - b.Number }
	a, b := slices.SortedFunc(slices.Values(l.Partitions), byNumber), slices.SortedFunc(slices.Values(now.Partitions), byNumber)
	return l.Style == now.Style && l.DiskID == now.DiskID && slices.Equal(a, b)
}
