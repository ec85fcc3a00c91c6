package transport

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// recordBytes is the unit of a tar (pax(1), "ustar Interchange Format").
const recordBytes = 512

// Limits of what headers may make us, and GNU tar, hold, in bytes. What a guest's user
// can make Pack write is within them, or Survey finds it.
const (
	maxPax      = maxAttributes + 2<<20
	maxGlobal   = 64 << 10
	maxOther    = 1 << 20 // of an extended header, but for attributes
	maxLongName = 64 << 10
	maxOldMap   = 8 << 20
)

// Offsets in a ustar header.
const (
	atSize     = 124
	atChecksum = 148
	atType     = 156
	atLink     = 157
	atMagic    = 257
	atPrefix   = 345
)

func padded(n int64) int64 { return (n + recordBytes - 1) &^ (recordBytes - 1) }

// header makes a ustar header of a regular file, root's, mode 0600.
func header(name string, size int64) []byte {
	h := make([]byte, recordBytes)
	copy(h, name)
	copy(h[100:], "0000600\x000000000\x000000000\x00")
	copy(h[atSize:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
	h[atType] = '0'
	copy(h[atMagic:], "ustar\x0000root")
	copy(h[297:], "root")
	copy(h[atChecksum:], fmt.Sprintf("%06o\x00 ", checksum(h)))
	return h
}

// checksum adds up a header's bytes, its own field as blanks.
func checksum(h []byte) (sum int64) {
	for i, b := range h {
		if i >= atChecksum && i < atChecksum+8 {
			b = ' '
		}
		sum += int64(b)
	}
	return sum
}

// member is one entry of a tar. Its raw bytes are all of its headers, as they
// came.
type member struct {
	name   string
	file   string // the name that it is unpacked by, which of a sparse file is another
	target string // of a hard link
	kind   byte
	size   int64 // of what is stored
	raw    []byte
	sparse *mapReader // of a sparse file whose data begin with its map
	lost   string     // what GNU tar would drop of it without a word
}

// walker reads a tar member by member. It holds one member's headers and no more.
type walker struct {
	r      *bufio.Reader
	offset int64
	left   int64 // of the current member's data, with its padding
	raw    []byte
	buf    []byte
}

// newWalker reads ahead for headers; what is longer goes past its buffer, which is
// that of a Stream.
func newWalker(r io.Reader) *walker {
	return &walker{r: bufio.NewReaderSize(r, headBytes), buf: make([]byte, 1<<20)}
}

// fault names the place in an error; a stream that ends too early is
// io.ErrUnexpectedEOF.
func (t *walker) fault(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return &cutOff{t.offset, err}
	}
	return fmt.Errorf("the backup is damaged near byte %d: %w: copy it anew", t.offset, err)
}

// read appends n bytes of the stream to the current member's raw ones.
func (t *walker) read(n int64) ([]byte, error) {
	start := len(t.raw)
	for n > 0 { // memory for what is there, not for what is only said to come
		piece := int(min(n, 1<<20))
		t.raw = slices.Grow(t.raw, piece)
		got, err := io.ReadFull(t.r, t.raw[len(t.raw):len(t.raw)+piece])
		t.raw = t.raw[:len(t.raw)+got]
		t.offset += int64(got)
		if err != nil {
			return nil, t.fault(err)
		}
		n -= int64(piece)
	}
	return t.raw[start:], nil
}

// next returns the next member, whose data is read by data, or skipped. io.EOF
// is the end of the archive: two records of zeros.
func (t *walker) next() (member, error) {
	if err := t.skip(); err != nil {
		return member{}, err
	}
	t.raw = t.raw[:0]
	var m member
	pax := paxRecords{size: -1}
	for headers := 0; ; headers++ {
		h, err := t.read(recordBytes)
		if err != nil {
			return m, err
		}
		if bytes.Equal(h, zeroRecord[:]) && headers == 0 {
			if h, err = t.read(recordBytes); err != nil {
				return m, err
			}
			if !bytes.Equal(h, zeroRecord[:]) {
				return m, t.fault(errors.New("a record of zeros between members"))
			}
			return m, io.EOF
		}
		if headers > 16 {
			return m, t.fault(errors.New("headers without a member"))
		}
		kind, size, err := parseHeader(h)
		if err != nil {
			return m, t.fault(err)
		}
		if !strings.ContainsRune("xgLK", rune(kind)) {
			return t.finish(h, kind, size, pax)
		}
		if err := t.extension(kind, size, &pax); err != nil {
			return m, err
		}
	}
}

// extension reads the data of a header that says more of the next one.
func (t *walker) extension(kind byte, size int64, pax *paxRecords) error {
	limit := map[byte]int64{'x': maxPax, 'g': maxGlobal, 'L': maxLongName, 'K': maxLongName}[kind]
	if size > limit {
		return t.fault(fmt.Errorf("a header of %d bytes, more than %d", size, limit))
	}
	b, err := t.read(padded(size))
	if err != nil {
		return err
	}
	b = b[:size]
	if kind != 'g' && strings.IndexByte(pax.seen, kind) >= 0 { // programs differ in which of them counts
		return t.fault(fmt.Errorf("two headers of type %c for one member", kind))
	}
	pax.seen += string(kind)
	switch kind {
	case 'L', 'K':
		return pax.long(kind, text(b), t)
	case 'x':
		if err := pax.parse(b); err != nil {
			return t.fault(err)
		}
	case 'g': // what it says holds for every member that comes
		all := paxRecords{size: -1}
		if err := all.parse(b); err != nil {
			return t.fault(err)
		}
		if all.size >= 0 || all.named || all.linked || all.sparse.any || all.attributes || all.acl {
			return t.fault(errors.New("a size, a name or an attribute for all members"))
		}
	}
	return nil
}

// finish makes the member of its last header.
func (t *walker) finish(h []byte, kind byte, size int64, pax paxRecords) (member, error) {
	m := member{kind: kind, size: size, raw: t.raw, name: text(h[:100])}
	if string(h[atMagic:atMagic+6]) == "ustar\x00" && h[atPrefix] != 0 {
		m.name = text(h[atPrefix:atPrefix+155]) + "/" + m.name
	}
	if pax.named {
		m.name = pax.name
	}
	if pax.size >= 0 {
		m.size = pax.size
	}
	if m.file = m.name; pax.sparseName != "" {
		m.file = pax.sparseName
	}
	if kind == '1' {
		if m.target = text(h[atLink : atLink+100]); pax.linked {
			m.target = pax.link
		}
	}
	if pax.acl && !pax.rawACL {
		m.lost = fmt.Sprintf("%.200q: its ACLs, which are text (SCHILY.acl)", m.file)
	}
	switch kind {
	case '1', '2', '3', '4', '5', '6': // links, devices, folders and fifos: tars differ in what a size means
		if m.size != 0 {
			return m, t.fault(fmt.Errorf("member %.100q of type %c has %d bytes", m.name, kind, m.size))
		}
		if pax.sparse.any {
			return m, t.fault(errSparse)
		}
	case 'S':
		if pax.sparse.any {
			return m, t.fault(errSparse)
		}
		if err := t.oldSparse(h, m.size); err != nil {
			return m, err
		}
		m.raw = t.raw
	case '0', 0, '7':
		if pax.sparse.any {
			if err := pax.sparse.check(m.size); err != nil {
				return m, t.fault(err)
			}
			if pax.sparse.major == "1" {
				m.sparse = newMapReader(m.size)
			}
		}
	default:
		return m, t.fault(fmt.Errorf("member %.100q has the unknown type %q", m.name, kind))
	}
	if err := refuseClimbing(m.name); err != nil {
		return m, t.fault(err)
	}
	if strings.HasSuffix(m.file, "/") && m.size > 0 { // a folder to GNU tar, which reads headers where its data are
		return m, t.fault(fmt.Errorf("member %.100q is named like a folder and has %d bytes", m.file, m.size))
	}
	t.left = padded(m.size)
	return m, nil
}

// oldSparse reads the records that continue the map of GNU tar's older sparse
// format (tar's manual, "Basic Tar Format", sparse headers): the header has four
// entries, each record more has 21.
func (t *walker) oldSparse(h []byte, size int64) error {
	found := regionsOf(size)
	err := found.oldRegions(h[386:], 4)
	for more := h[482] != 0; more && err == nil; {
		if len(t.raw) > maxOldMap {
			return t.fault(errors.New("a sparse map without end"))
		}
		ext, rerr := t.read(recordBytes)
		if rerr != nil {
			return rerr
		}
		err, more = found.oldRegions(ext, 21), ext[504] != 0
	}
	if err == nil {
		err = found.fits(size)
	}
	if err != nil {
		return t.fault(err)
	}
	return nil
}

// refuseClimbing is an error for a name with "..", which leads out of where it
// is unpacked. Of several names for one member none may.
func refuseClimbing(name string) error {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return fmt.Errorf("member %.200q leads out of its folder", name)
		}
	}
	return nil
}

// data gives the current member's content, without padding.
func (t *walker) data(m member) io.Reader {
	if m.sparse != nil {
		return io.TeeReader(&memberData{t: t, left: m.size}, faulting{t, m.sparse})
	}
	return &memberData{t: t, left: m.size}
}

// faulting names the place in the errors of what looks at the data.
type faulting struct {
	t *walker
	w io.Writer
}

func (f faulting) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		err = f.t.fault(err)
	}
	return n, err
}

type memberData struct {
	t    *walker
	left int64
}

func (d *memberData) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	n, err := d.t.r.Read(p[:min(int64(len(p)), d.left)])
	d.left -= int64(n)
	d.t.left -= int64(n)
	d.t.offset += int64(n)
	if err != nil && n == 0 {
		return 0, d.t.fault(err)
	}
	return n, nil
}

// skip passes over what is left of the current member.
func (t *walker) skip() error {
	for t.left > 0 {
		n, err := t.r.Discard(int(min(t.left, 1<<30)))
		t.left -= int64(n)
		t.offset += int64(n)
		if err != nil {
			return t.fault(err)
		}
	}
	return nil
}

// drainZeros reads the stream to its end; nothing but zeros may follow.
func (t *walker) drainZeros() error {
	for {
		n, err := t.r.Read(t.buf)
		for i, b := range t.buf[:n] {
			if b != 0 {
				t.offset += int64(i)
				return t.fault(errors.New("there is data after its end"))
			}
		}
		t.offset += int64(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return t.fault(err)
		}
	}
}

// parseHeader checks a header and returns its type and size.
func parseHeader(h []byte) (kind byte, size int64, err error) {
	want, err := number(h[atChecksum : atChecksum+8])
	if err != nil || want != checksum(h) {
		return 0, 0, errors.New("a header with a wrong checksum")
	}
	size, err = number(h[atSize : atSize+12])
	if err != nil || size < 0 || size > maxBytes {
		return 0, 0, errors.New("a header with a wrong size")
	}
	return h[atType], size, nil
}

// number reads a header's octal number, or GNU tar's base-256 one.
func number(b []byte) (int64, error) {
	if b[0] == 0x80 {
		var n int64
		for i, c := range b[1:] {
			if len(b)-1-i > 8 && c != 0 {
				return 0, errors.New("number too large")
			}
			n = n<<8 | int64(c)
		}
		return n, nil
	}
	s := strings.Trim(string(b), " \x00")
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 8, 62)
	return int64(n), err
}

func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
