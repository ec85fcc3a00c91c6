package partition

import (
	"fmt"
	"slices"
)

// MovedIn says how a table that was read later has another place for the root or
// the EFI system partition of this layout, by its number; "" is for both as they
// were. Other partitions, types, names and ids may differ.
func (l Layout) MovedIn(now Layout) string {
	root, _ := l.RootPartition()
	wanted := []Partition{root}
	if esp, ok := l.ESP(); ok {
		wanted = append(wanted, esp)
	}
	for _, p := range wanted {
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
