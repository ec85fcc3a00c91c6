package filesystem

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ImageExtents returns the parts of a clean, unmounted ext* of ours that a copy on
// a disk with old content needs, in order, and where its journal's superblock is
// (0 is nowhere), in bytes. It is less than UsedExtents: what mke2fs leaves as it
// was on the disk isn't needed either, which is the unused ends of inode tables,
// bitmaps that the group descriptors say aren't written yet, and the copies of
// the descriptors' reserve; and, where it has checksums, the journal's blocks,
// see renewJournal.
func ImageExtents(ctx context.Context, device string, t Type) (needed []Extent, journal int64, err error) {
	var g groups
	if err := g.used.read(ctx, g.line, device, "dumpe2fs"); err != nil {
		return nil, 0, fmt.Errorf("find the used blocks of %s: %w", device, err)
	}
	if t != Ext2 {
		var blocks []span
		if journal, blocks, err = journalBlocks(ctx, device); err != nil {
			return nil, 0, err
		}
		if g.csum {
			g.spare = append(g.spare, blocks...)
		}
	}
	needed, err = g.needed()
	if err != nil {
		return nil, 0, fmt.Errorf("find the used blocks of %s: %w", device, err)
	}
	return needed, journal * blockBytes, nil
}

// span is a run of blocks, the last one included.
type span struct{ first, last int64 }

// groups reads dumpe2fs's text for what each block group can do without.
type groups struct {
	used  used
	csum  bool
	spare []span

	flags  string // of the group being read
	backup bool   // it has a copy of the superblock
	table  span   // its inode table
}

func (g *groups) line(line string) error {
	text := strings.TrimSpace(line)
	name, value, _ := strings.Cut(text, ":")
	value = strings.TrimSpace(value)
	switch {
	case strings.HasPrefix(line, "Group "):
		_, g.flags, _ = strings.Cut(line, "[")
		g.backup = false
	case name == "Filesystem features":
		g.csum = slices.Contains(strings.Fields(value), "metadata_csum")
	case !strings.HasPrefix(line, " "):
		return g.used.ext(line) // sizes
	case strings.HasPrefix(text, "Backup superblock"):
		g.backup = true
	case strings.HasPrefix(text, "Reserved GDT blocks at ") && g.backup:
		return g.skip(text)
	case strings.HasPrefix(text, "Block bitmap at ") && strings.Contains(g.flags, "BLOCK_UNINIT"),
		strings.HasPrefix(text, "Inode bitmap at ") && strings.Contains(g.flags, "INODE_UNINIT"):
		return g.skip(text)
	case strings.HasPrefix(text, "Inode table at "):
		var err error
		g.table, err = blocksAt(text)
		return err
	case strings.HasSuffix(text, " unused inodes") && !strings.Contains(g.flags, "ITABLE_ZEROED"):
		return g.skipUnused(text)
	case name == "Free blocks":
		spans, err := parseSpans(value)
		g.spare = append(g.spare, spans...)
		return err
	}
	return nil
}

// blocksAt reads "… at 12-15 (…)" or "… at 12 (…)".
func blocksAt(text string) (span, error) {
	_, at, _ := strings.Cut(text, " at ")
	at, _, _ = strings.Cut(at, " ")
	return parseSpan(at)
}

func parseSpan(text string) (s span, err error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	if s.first, err = strconv.ParseInt(first, 10, 64); err == nil {
		s.last, err = strconv.ParseInt(last, 10, 64)
	}
	return s, err
}

func (g *groups) skip(text string) error {
	s, err := blocksAt(text)
	g.spare = append(g.spare, s)
	return err
}

// skipUnused reads "N free blocks, N free inodes, N directories, N unused
// inodes": these are the last ones of the group's table.
func (g *groups) skipUnused(text string) error {
	unused, err := unusedIn(text)
	if err != nil {
		return err
	}
	blocks := unused * extInodeBytes / blockBytes
	if blocks > 0 {
		g.spare = append(g.spare, span{max(g.table.first, g.table.last-blocks+1), g.table.last})
	}
	return nil
}

// parseSpans reads "1-2, 5".
func parseSpans(list string) (spans []span, err error) {
	for part := range strings.SplitSeq(list, ", ") {
		if part == "" {
			continue
		}
		s, err := parseSpan(part)
		if err != nil {
			return nil, err
		}
		spans = append(spans, s)
	}
	return spans, nil
}

// smallGap is the longest run of blocks that is copied for nothing, rather than
// making two reads and writes of one.
const smallGap = 16

// needed returns what is left when the spare blocks are taken away.
func (g *groups) needed() ([]Extent, error) {
	u := &g.used
	if u.blockSize != blockBytes || u.blocks <= 0 {
		return nil, fmt.Errorf("%d blocks of %d bytes", u.blocks, u.blockSize)
	}
	slices.SortFunc(g.spare, func(a, b span) int { return int(a.first - b.first) })
	g.spare = joinSpans(g.spare)
	for _, s := range g.spare {
		if s.last-s.first < smallGap && s.first > 0 && s.last < u.blocks-1 {
			continue
		}
		if err := u.free(s.first, s.last); err != nil {
			return nil, err
		}
	}
	u.add(u.blocks)
	return u.extents, nil
}

// joinSpans makes one of spans that touch or overlap.
func joinSpans(sorted []span) (out []span) {
	for _, s := range sorted {
		if n := len(out); n > 0 && s.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// journalBlocks asks debugfs(8) for the journal's blocks: the first, which has
// its superblock, and runs of the others, as far as they are mapped by extents.
func journalBlocks(ctx context.Context, device string) (first int64, rest []span, err error) {
	var u used
	var m blockMap
	err = u.read(ctx, m.line, device, "debugfs", "-R", "stat <8>")
	if err == nil && m.first == 0 {
		err = fmt.Errorf("debugfs shows no journal")
	}
	if err != nil {
		return 0, nil, fmt.Errorf("find the journal of %s: %w", device, err)
	}
	return m.first, m.rest, nil
}

// blockMap is where a file's blocks are.
type blockMap struct {
	first int64 // its first block
	rest  []span
}

// line reads a line of what debugfs says of an inode: "(0-4095):16385-20480, …".
func (m *blockMap) line(line string) error {
	for part := range strings.SplitSeq(line, ", ") {
		logical, physical, ok := strings.Cut(part, "):")
		if !strings.HasPrefix(logical, "(") || !ok {
			continue
		}
		l, lerr := parseSpan(logical[1:])
		p, perr := parseSpan(physical)
		if lerr != nil || perr != nil {
			continue // (IND), (ETB0): blocks that map others
		}
		if l.first == 0 {
			m.first = p.first
			p.first++
		}
		if p.first <= p.last {
			m.rest = append(m.rest, p)
		}
	}
	return nil
}
