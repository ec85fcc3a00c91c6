package transport

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A sparse file's data are the regions of it that aren't holes, one after the other,
// and a map says where in the file each belongs. GNU tar reads what the map says and
// not what the header's size does, and keeps the map in memory: so a map must come to
// the member's size, in whole records but for its last region, and each of its
// entries must have cost a record ("Storing Sparse Files" in tar's manual).
type regions struct {
	count, most int64
	bytes, end  int64
	odd         bool // a region that is no whole number of records came
}

// maxRegions is the most that a map has: 256 MiB of GNU tar's memory.
const maxRegions = 16 << 20

var errSparse = errors.New("a sparse file whose map doesn't fit its data")

// regionsOf takes the size of what is stored.
func regionsOf(size int64) regions { return regions{most: min(size/recordBytes+2, maxRegions)} }

func (r *regions) allow(count int64) error {
	if count < 0 || count > r.most {
		return fmt.Errorf("a sparse file with %d regions, and a file of its size may have %d: export it with EXPORT_FORMAT=image", count, r.most)
	}
	return nil
}

func (r *regions) add(offset, n int64) error {
	r.count++
	if offset < r.end || n < 0 || n > maxBytes || offset > maxBytes || r.odd && n > 0 {
		return errSparse
	}
	r.end, r.bytes = offset+n, r.bytes+n
	r.odd = r.odd || n%recordBytes != 0
	return r.allow(r.count)
}

// fits compares with the bytes that are stored behind the map.
func (r *regions) fits(stored int64) error {
	if r.bytes != stored {
		return errSparse
	}
	return nil
}

// sparseMap is what an extended header says of a sparse file (GNU.sparse.*).
type sparseMap struct {
	major  string
	blocks int64   // numblocks
	pairs  []int64 // offset, length, …; of formats 0.0 and 0.1
	any    bool
}

// set takes a record whose key begins with GNU.sparse.
func (s *sparseMap) set(key, value string) (err error) {
	s.any = true
	switch key {
	case "major":
		if s.major = value; value != "0" && value != "1" {
			return fmt.Errorf("a sparse file of format %.20q: 0 and 1 are known", value)
		}
	case "numblocks":
		s.blocks, err = decimal(value)
	case "offset", "numbytes":
		if (len(s.pairs)%2 == 0) != (key == "offset") {
			return errSparse
		}
		err = s.pair(value)
	case "map":
		if len(s.pairs) > 0 {
			return errSparse
		}
		for field := range strings.SplitSeq(value, ",") {
			if err := s.pair(field); err != nil {
				return err
			}
		}
	}
	return err
}

func (s *sparseMap) pair(text string) error {
	n, err := decimal(text)
	s.pairs = append(s.pairs, n)
	return err
}

func decimal(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 62)
	if err != nil || len(s) > 20 {
		return 0, fmt.Errorf("%.40q is no number", s)
	}
	return int64(n), nil
}

// check holds the map against the size of the member.
func (s *sparseMap) check(size int64) error {
	r := regionsOf(size)
	if err := r.allow(s.blocks); err != nil {
		return err
	}
	if len(s.pairs)%2 != 0 || s.major == "1" && len(s.pairs) > 0 {
		return errSparse
	}
	if s.major == "1" {
		return nil
	}
	for i := 0; i < len(s.pairs); i += 2 {
		if err := r.add(s.pairs[i], s.pairs[i+1]); err != nil {
			return err
		}
	}
	return r.fits(size)
}

// mapReader looks at the map of format 1.0 while it goes by: the member's data begin
// with it, as decimal numbers, one a line: how many regions, then of each its offset
// and its length; to the next record.
type mapReader struct {
	regions
	size   int64 // of the member
	read   int64
	line   []byte
	wanted int64 // numbers still to come; -1 before the first one
	offset int64
	done   bool
}

func newMapReader(size int64) *mapReader {
	return &mapReader{regions: regionsOf(size), size: size, wanted: -1}
}

// Write is an error as soon as the map is none.
func (m *mapReader) Write(p []byte) (int, error) {
	for _, b := range p {
		if m.done {
			return len(p), nil
		}
		m.read++
		if b != '\n' {
			if m.line = append(m.line, b); len(m.line) > 20 {
				return 0, errSparse
			}
			continue
		}
		if err := m.number(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (m *mapReader) number() error {
	n, err := decimal(string(m.line))
	m.line = m.line[:0]
	switch {
	case err != nil:
		return err
	case m.wanted < 0:
		err = m.allow(n)
		m.wanted = 2 * n
	case m.wanted%2 == 0:
		m.offset = n
		m.wanted--
	default:
		err = m.add(m.offset, n)
		m.wanted--
	}
	if err == nil && m.wanted == 0 {
		m.done = true
		err = m.fits(m.size - padded(m.read))
	}
	return err
}

// oldRegions adds the entries of a map of GNU tar's older format: of n fields of 12
// bytes each an offset and a length; the first empty one ends it.
func (r *regions) oldRegions(table []byte, n int) error {
	for i := range n {
		e := table[24*i:]
		if e[0] == 0 || e[12] == 0 {
			return nil
		}
		offset, err := number(e[:12])
		if err != nil {
			return err
		}
		length, err := number(e[12:24])
		if err != nil {
			return err
		}
		if err := r.add(offset, length); err != nil {
			return err
		}
	}
	return nil
}

// hasNUL reports whether a text has the byte at which a C program ends it.
func hasNUL(b []byte) bool { return bytes.IndexByte(b, 0) >= 0 }
