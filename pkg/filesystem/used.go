package filesystem

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
)

// Extent is a part of a filesystem's device, in bytes.
type Extent struct{ Offset, Bytes int64 }

// maxExtents is how many extents are kept of one kind, 4 MiB of memory. A guest can
// have one for each other block of its disk.
const maxExtents = 1 << 18

// Largest keeps the largest of many extents, so few that memory has a bound.
type Largest struct {
	List  []Extent
	Least int64 // bytes; shorter ones aren't kept
}

// Add takes an extent, unless it is too short to be kept. When there are too many,
// the shortest ones go.
func (l *Largest) Add(e Extent) {
	if e.Bytes < l.Least {
		return
	}
	l.List = append(l.List, e)
	for len(l.List) > maxExtents {
		l.Least = max(2*l.Least, 4096)
		l.List = slices.DeleteFunc(l.List, func(e Extent) bool { return e.Bytes < l.Least })
	}
}

// UsedExtents returns the parts of a clean, unmounted filesystem that a copy
// needs, in order: all that isn't free by its own account. dumpe2fs(8) gives that
// of ext*, xfs_db(8) of xfs. btrfs has no tool for it: errors.ErrUnsupported.
//
// empty are parts, in no order, where a copy may have zeros instead: the inodes of
// an ext* that were never in use, as its group descriptors say, and its journal
// behind the superblock.
//
// Of both there are at most 262,144. Where there would be more needed ones the
// shortest gaps between them count as needed; of the empty ones the shortest are left
// out.
func UsedExtents(ctx context.Context, device string, t Type) (needed, empty []Extent, err error) {
	sizeBytes, err := deviceSize(device)
	if err != nil {
		return nil, nil, err
	}
	var u used
	switch t {
	case Btrfs:
		return nil, nil, errors.ErrUnsupported
	case XFS:
		err = u.readXFS(ctx, device)
	default:
		err = u.read(ctx, u.ext, device, "dumpe2fs")
	}
	if err == nil {
		err = u.end(sizeBytes)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("find the used blocks of %s: %w", device, err)
	}
	if u.journal {
		if _, rest, err := journalBlocks(ctx, device); err == nil { // else it is copied as it is
			for _, s := range rest {
				u.addSpare(s)
			}
		}
	}
	if empty, err = u.empty(); err != nil {
		return nil, nil, fmt.Errorf("find the used blocks of %s: %w", device, err)
	}
	return u.extents, empty, nil
}

// used gathers what lies between the free ranges.
type used struct {
	extents   []Extent
	gap       int64 // bytes between two extents that are taken for one
	blockSize int64
	begun     bool  // groups have been seen: what is the whole filesystem's is known
	blocks    int64 // of the filesystem
	next      int64 // the first block not yet accounted for

	agBlocks int64 // xfs: blocks of an allocation group

	spare     Largest // ext*: blocks that are in use and hold nothing
	stray     *span   // such blocks beyond the filesystem
	counts    bool    // its descriptors' checksums cover the counts of unused inodes, which the kernel heeds then only
	journal   bool    // it has one, on its own device
	inodeSize int64
	table     span // the inode table of the group being read
	damaged   bool // its descriptor has a wrong checksum
}

// read has a tool print, and hands over line by line: its output grows with the
// filesystem.
func (u *used) read(ctx context.Context, line func(string) error, device string, args ...string) error {
	return u.follow(ctx, line, command.Cmd{Args: append(args, device), In: reading(device), Quiet: true})
}

// follow runs a tool as read does.
func (u *used) follow(ctx context.Context, line func(string) error, c command.Cmd) error {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		c.Stdout = w
		err := command.Run(ctx, c)
		w.CloseWithError(err)
		done <- err
	}()
	lines := bufio.NewReaderSize(r, 1<<20)
	var err error
	for err == nil {
		var text string
		if text, err = lines.ReadString('\n'); text != "" {
			if lerr := line(strings.TrimRight(text, "\n")); lerr != nil {
				err = lerr
			}
		}
	}
	r.CloseWithError(err)
	if terr := <-done; terr != nil {
		return terr
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// free takes blocks from first to last, which are free. They come in order.
func (u *used) free(first, last int64) error {
	u.begun = true
	if u.blockSize <= 0 {
		return fmt.Errorf("free blocks %d to %d come before the block size", first, last)
	}
	if first < u.next || last < first || last >= u.blocks {
		return fmt.Errorf("free blocks %d to %d are out of order or beyond the last of %d", first, last, u.blocks)
	}
	u.add(first)
	u.next = last + 1
	return nil
}

// add takes the blocks up to before end as used.
func (u *used) add(end int64) {
	if end <= u.next {
		return
	}
	u.append(Extent{u.next * u.blockSize, (end - u.next) * u.blockSize})
	for len(u.extents) > maxExtents {
		u.gap = max(2*u.gap, u.blockSize)
		all := u.extents
		u.extents = all[:0]
		for _, e := range all {
			u.append(e)
		}
	}
}

// append adds an extent, or makes the last one longer.
func (u *used) append(e Extent) {
	if n := len(u.extents); n > 0 {
		last := &u.extents[n-1]
		if e.Offset-last.Offset-last.Bytes <= u.gap {
			last.Bytes = e.Offset + e.Bytes - last.Offset
			return
		}
	}
	u.extents = append(u.extents, e)
}

// addSpare takes blocks that hold nothing. A descriptor can name any block at all.
func (u *used) addSpare(s span) {
	if s.first < 0 || s.last < s.first || s.last >= u.blocks {
		u.stray = &s
		return
	}
	u.spare.Add(Extent{s.first * u.blockSize, (s.last - s.first + 1) * u.blockSize})
}

// end closes the list: what no range named is used.
func (u *used) end(deviceBytes int64) error {
	if u.blockSize < 512 || u.blockSize > 1<<16 || u.blocks <= 0 || u.blocks > deviceBytes/u.blockSize {
		return fmt.Errorf("%d blocks of %d bytes don't lie on the device of %d bytes", u.blocks, u.blockSize, deviceBytes)
	}
	u.add(u.blocks)
	return nil
}

// empty are the spare blocks in bytes.
func (u *used) empty() ([]Extent, error) {
	if s := u.stray; s != nil {
		return nil, fmt.Errorf("blocks %d to %d, which hold nothing, don't lie in the filesystem of %d blocks", s.first, s.last, u.blocks)
	}
	return u.spare.List, nil
}

// ext reads dumpe2fs's text: "Block size:", "Block count:", and for each group
// "  Inode table at 12-15 (+12)", "  …, 8181 unused inodes" and "  Free blocks: 1-2,
// 5".
func (u *used) ext(line string) (err error) {
	switch {
	case strings.HasPrefix(line, "Group "):
		u.damaged = strings.Contains(line, "EXPECTED")
		return nil
	case strings.HasPrefix(line, "  Inode table at "):
		u.table, err = blocksAt(line)
		return err
	case strings.HasSuffix(line, " unused inodes"):
		return u.unusedInodes(line)
	}
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return nil
	}
	value = strings.TrimSpace(value)
	if u.begun && slices.Contains([]string{"Filesystem features", "Block size", "Block count", "Inode size"}, name) {
		return fmt.Errorf("%s appears again after the groups have begun", name)
	}
	switch name {
	case "Filesystem features":
		features := strings.Fields(value)
		u.counts = slices.Contains(features, "uninit_bg") || slices.Contains(features, "metadata_csum")
	case "Block size":
		u.blockSize, err = strconv.ParseInt(value, 10, 64)
	case "Block count":
		u.blocks, err = strconv.ParseInt(value, 10, 64)
	case "Inode size":
		u.inodeSize, err = strconv.ParseInt(value, 10, 64)
	case "Journal inode":
		u.journal = value == "8"
	case "  Free blocks":
		spans, err := parseSpans(value)
		for _, s := range spans {
			if err := u.free(s.first, s.last); err != nil {
				return err
			}
		}
		return err
	}
	return err
}

// unusedIn reads the last number of "…, N unused inodes". A line that ends so may be
// a label's.
func unusedIn(line string) (int64, error) {
	fields := strings.Fields(line)
	return strconv.ParseInt(fields[max(0, len(fields)-3)], 10, 64)
}

// unusedInodes reads "  N free blocks, N free inodes, N directories, N unused
// inodes": these are the last ones of the group's table.
func (u *used) unusedInodes(line string) error {
	unused, err := unusedIn(line)
	if err != nil || u.blockSize <= 0 || u.inodeSize <= 0 || unused < 0 || unused > 1<<32 {
		return fmt.Errorf("%q, of inodes of %d bytes", strings.TrimSpace(line), u.inodeSize)
	}
	u.begun = true
	if blocks := unused * u.inodeSize / u.blockSize; blocks > 0 && u.counts && !u.damaged {
		u.addSpare(span{max(u.table.first, u.table.last-blocks+1), u.table.last})
	}
	return nil
}

// readXFS reads xfs_db's superblock fields, and then the free extents of all
// groups: "agno agbno len", which freesp prints in the order of its trees.
func (u *used) readXFS(ctx context.Context, device string) error {
	fields := map[string]int64{}
	err := u.read(ctx, func(line string) error {
		name, value, _ := strings.Cut(line, " = ")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			fields[name] = n
		}
		return nil
	}, device, "xfs_db", "-r", "-c", "sb 0", "-c", "print blocksize dblocks agblocks")
	if err != nil {
		return err
	}
	u.blockSize, u.blocks, u.agBlocks = fields["blocksize"], fields["dblocks"], fields["agblocks"]
	if u.agBlocks <= 0 {
		return errors.New("xfs_db printed no agblocks")
	}
	return u.sorted(ctx, u.xfs, device, "xfs_db", "-r", "-c", "freesp -d")
}

// sorted is read, with the lines in the order of their first two numbers. sort(1)
// keeps them in memory: a cell has no room for its files.
func (u *used) sorted(ctx context.Context, line func(string) error, device string, args ...string) error {
	size, err := deviceSize(device)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	listed := make(chan error, 1)
	go func() {
		err := command.Run(ctx, command.Cmd{Args: append(args, device), In: reading(device), Stdout: w, Quiet: true})
		w.Close()
		listed <- err
	}()
	err = u.follow(ctx, line, command.Cmd{
		Args:  []string{"sort", fmt.Sprintf("--buffer-size=%dM", 1<<10+size>>26), "-n", "-k1,1", "-k2,2"},
		In:    &cell.Place{Bytes: size},
		Stdin: r, Quiet: true,
	})
	r.Close()
	return errors.Join(<-listed, err)
}

func (u *used) xfs(line string) error {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return nil // the histogram that follows
	}
	var n [3]int64
	for i, f := range fields {
		var err error
		if n[i], err = strconv.ParseInt(f, 10, 64); err != nil {
			return nil
		}
	}
	first := n[0]*u.agBlocks + n[1]
	return u.free(first, first+n[2]-1)
}
