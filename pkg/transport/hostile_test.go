package transport

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
)

// rawHeader is a header with a right checksum, whatever change makes of it.
func rawHeader(name string, kind byte, size int64, change func(h []byte)) string {
	h := header(name, size)
	h[atType] = kind
	if change != nil {
		change(h)
	}
	copy(h[atChecksum:], fmt.Sprintf("%06o\x00 ", checksum(h)))
	return string(h)
}

func padding(n int) string { return strings.Repeat("\x00", int(padded(int64(n)))-n) }

// extended is a header of a kind, with its data.
func extended(kind byte, data string) string {
	return rawHeader("./PaxHeaders/x", kind, int64(len(data)), nil) + data + padding(len(data))
}

// record is one of an extended header.
func record(key, value string) string {
	n := len(key) + len(value) + 3
	for n != len(fmt.Sprintf("%d %s=%s\n", n, key, value)) {
		n++
	}
	return fmt.Sprintf("%d %s=%s\n", n, key, value)
}

var (
	plainMember = rawHeader("./plain", '0', 6, nil) + "plain\n" + padding(6)
	tarEnd      = strings.Repeat("\x00", 2*recordBytes)
)

func put(at int, text string) func(h []byte) {
	return func(h []byte) { copy(h[at:], text) }
}

// base256 is a size as GNU tar writes those above 8 GiB.
func base256(high uint32, low uint64) func(h []byte) {
	return func(h []byte) {
		binary.BigEndian.PutUint32(h[atSize:], high)
		binary.BigEndian.PutUint64(h[atSize+4:], low)
	}
}

// hostileMembers are such as no tar program writes, and what is said of them;
// without a text they are taken, as all of them are harmless or GNU tar's affair.
func hostileMembers() map[string]hostile {
	all := hostileNames()
	maps.Copy(all, hostileSizes())
	maps.Copy(all, hostileHeaders())
	maps.Copy(all, hostileMaps())
	return all
}

type hostile struct{ members, want string }

func hostileNames() map[string]hostile {
	const climbs = "leads out of its folder"
	long := strings.Repeat("d/", 200) + "../" + strings.Repeat("../", 200) + "x"
	return map[string]hostile{
		"..":                           {rawHeader("..", '5', 0, nil), climbs},
		"../x":                         {rawHeader("../x", '0', 0, nil), climbs},
		"./a/../../x":                  {rawHeader("./a/../../x", '0', 0, nil), climbs},
		"./a/..":                       {rawHeader("./a/..", '5', 0, nil), climbs},
		"/../x":                        {rawHeader("/../x", '0', 0, nil), climbs},
		".. in a prefix":               {rawHeader("x", '0', 0, put(atPrefix, "./a/..")), climbs},
		".. in GNU's long name":        {extended('L', long+"\x00") + plainMember, climbs},
		".. in a pax name":             {extended('x', record("path", long)) + plainMember, climbs},
		".. in a sparse file's name":   {extended('x', record("GNU.sparse.name", "../x")) + plainMember, climbs},
		".. in a name for all":         {extended('g', record("path", "../x")) + plainMember, climbs},
		".. before another name":       {extended('x', record("path", "../x")+record("path", "./x")) + plainMember, climbs},
		".. before GNU's long name":    {extended('x', record("path", "../x")) + extended('L', "./x\x00") + plainMember, climbs},
		".. in a long name before pax": {extended('L', "../x\x00") + extended('x', record("path", "./x")) + plainMember, climbs},
		"a name for all":               {extended('g', record("path", "x")) + extended('x', record("path", "./x")) + plainMember, "for all members"},
		"a sparse name for all":        {extended('g', record("GNU.sparse.name", "x")) + plainMember, "for all members"},
		"a size for all":               {extended('g', record("size", "6")) + plainMember, "for all members"},
		"a comment for all":            {extended('g', record("comment", "x")) + plainMember, ""},
		"dots that don't climb":        {rawHeader("./..a/b../...", '0', 0, nil), ""},
		"an absolute name":             {rawHeader("/etc/passwd", '0', 0, nil), ""},
		"a link that leads out":        {rawHeader("./x", '2', 0, put(atLink, "../../x")), ""},
		"an empty name":                {rawHeader("./x", '0', 0, put(0, "\x00\x00\x00")), ""},
		"a name without end":           {rawHeader(strings.Repeat("n", 100), '0', 0, nil), ""},
	}
}

func hostileSizes() map[string]hostile {
	const wrongSize = "a wrong size"
	return map[string]hostile{
		"a size of words":               {rawHeader("./x", '0', 0, put(atSize, "twelve\x00")), wrongSize},
		"a size below zero":             {rawHeader("./x", '0', 0, put(atSize, "-0000000001")), wrongSize},
		"a size in two parts":           {rawHeader("./x", '0', 0, put(atSize, "00000 00001")), wrongSize},
		"a decimal size":                {rawHeader("./x", '0', 0, put(atSize, "00000000009")), wrongSize},
		"base-256 below zero":           {rawHeader("./x", '0', 0, base256(0xffffffff, 1<<64-1)), wrongSize},
		"base-256 of 2^63":              {rawHeader("./x", '0', 0, base256(0x80000000, 1<<63)), wrongSize},
		"base-256 of 2^64":              {rawHeader("./x", '0', 0, base256(0x80000001, 0)), wrongSize},
		"base-256 of 2^94":              {rawHeader("./x", '0', 0, base256(0xbfffffff, 0)), wrongSize},
		"base-256 of 2^60 and 1":        {rawHeader("./x", '0', 0, base256(0x80000000, 1<<60+1)), wrongSize},
		"base-256 of 2^60":              {rawHeader("./x", '0', 0, base256(0x80000000, 1<<60)), "cut off"},
		"base-256 of 6":                 {rawHeader("./x", '0', 0, base256(0x80000000, 6)) + "plain\n" + padding(6), ""},
		"a pax size below zero":         {extended('x', record("size", "-1")) + plainMember, "header with size"},
		"a pax size of words":           {extended('x', record("size", "\x1b[2J")) + plainMember, "header with size"},
		"a pax size of nothing":         {extended('x', record("size", "")) + plainMember, "header with size"},
		"a pax size of 2^60 and 1":      {extended('x', record("size", fmt.Sprint(1<<60+1))) + plainMember, "header with size"},
		"a pax size of 2^64":            {extended('x', record("size", "18446744073709551616")) + plainMember, "header with size"},
		"a pax size above the header's": {extended('x', record("size", "512")) + rawHeader("./x", '0', 0, nil) + plainMember[:512], ""},
	}
}

func hostileHeaders() map[string]hostile {
	const unread, wrongSum = "can't be read", "a wrong checksum"
	return map[string]hostile{
		"a wrong checksum":              {strings.Replace(plainMember, "plain", "Plain", 1), wrongSum},
		"a checksum of words":           {strings.Replace(plainMember, plainMember[atChecksum:atChecksum+6], "chksum", 1), wrongSum},
		"a pax record of length 0":      {extended('x', "0 a=b\n") + plainMember, unread},
		"a pax record below zero":       {extended('x', "-6 a=b\n") + plainMember, unread},
		"a pax record beyond its end":   {extended('x', "99 a=b\n") + plainMember, unread},
		"a pax record without a blank":  {extended('x', "1234567") + plainMember, unread},
		"a pax record without newline":  {extended('x', "6 a=bc") + plainMember, unread},
		"a pax record without a value":  {extended('x', "5 ab\n") + plainMember, "without a value"},
		"a pax length that overflows":   {extended('x', "99999999999999999999 a=b\n") + plainMember, unread},
		"a pax length that is long":     {extended('x', strings.Repeat("0", 30)+"36 a=b\n") + plainMember, unread},
		"an empty pax header":           {extended('x', "") + plainMember, ""},
		"a pax header that is too long": {rawHeader("./x", 'x', maxPax+1, nil), fmt.Sprint("more than ", maxPax)},
		"a long name that is too long":  {rawHeader("./x", 'L', maxLongName+1, nil), "more than 65536"},
		"a long link that is too long":  {rawHeader("./x", 'K', maxLongName+1, nil), "more than 65536"},
		"two pax headers":               {extended('x', record("size", "512")) + extended('x', "") + plainMember, "two headers of type x"},
		"two long names":                {extended('L', "./x\x00") + extended('L', "./y\x00") + plainMember, "two headers of type L"},
		"names and links of both kinds": {extended('L', "./x\x00") + extended('K', "./y\x00") + extended('x', "") + plainMember, ""},
		"seventeen headers":             {strings.Repeat(extended('g', ""), 17) + plainMember, "headers without a member"},
		"headers of nothing":            {extended('x', ""), wrongSum},
		"zeros between":                 {strings.Repeat("\x00", 512) + plainMember, "zeros between members"},
		"a link with content":           {rawHeader("./x", '2', 6, put(atLink, "y")) + "plain\n" + padding(6), "has 6 bytes"},
		"a hard link with content":      {rawHeader("./x", '1', 6, put(atLink, "y")) + "plain\n" + padding(6), "has 6 bytes"},
		"a folder with content":         {rawHeader("./x", '5', 512, nil) + plainMember[:512], "has 512 bytes"},
		"a device with pax content":     {extended('x', record("size", "512")) + rawHeader("./x", '3', 0, nil) + plainMember[:512], "has 512 bytes"},
		"a part of many volumes":        {rawHeader("./x", 'M', 0, nil), "unknown type"},
		"a type of odd bytes":           {rawHeader("./x", 0x9b, 0, nil), "unknown type"},
		"a sparse map cut off":          {rawHeader("./x", 'S', 0, put(482, "\x01")), "cut off"},
	}
}

// hostileMaps are sparse files that GNU tar reads more or less of than the header
// says, or needs more memory for than they brought. Of two regions of one record
// each, at 0 and 1024, the right map is in each format.
func hostileMaps() map[string]hostile {
	const wrong = "map doesn't fit"
	data := strings.Repeat("r", 1024)
	v1 := func(text string, size int) string {
		records := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "./s") + record("GNU.sparse.realsize", "2048")
		text += strings.Repeat("\x00", int(padded(int64(len(text))))-len(text))
		return extended('x', records) + rawHeader("./s", '0', int64(size), nil) + (text + strings.Repeat("r", 4096))[:int(padded(int64(size)))]
	}
	v0 := func(records ...string) string {
		return extended('x', strings.Join(records, "")+record("GNU.sparse.size", "2048")) + rawHeader("./s", '0', 1024, nil) + data
	}
	old := func(table string, size int64) string {
		return rawHeader("./s", 'S', size, put(386, table)) + strings.Repeat("r", int(padded(size)))
	}
	pair := func(offset, n int64) string { return fmt.Sprintf("%011o\x00%011o\x00", offset, n) }
	return map[string]hostile{
		"a map":                               {v1("2\n0\n512\n1024\n512\n", 1536), ""},
		"a map that ends with a hole":         {v1("2\n0\n512\n2048\n0\n", 1024), ""},
		"a map with more entries than data":   {v1(fmt.Sprint(maxRegions)+"\n"+strings.Repeat("0\n0\n", 200), 1536), "regions"},
		"a map of more than there is":         {v1("2\n0\n512\n1024\n1024\n", 1536), wrong},
		"a map of less than there is":         {v1("1\n0\n512\n", 1536), wrong},
		"a map whose regions overlap":         {v1("2\n0\n1024\n0\n0\n", 1536), wrong},
		"a map of half records":               {v1("2\n0\n500\n1024\n524\n", 1536), wrong},
		"a map in words":                      {v1("two\n0\n512\n", 1536), "is no number"},
		"a map below zero":                    {v1("1\n-512\n1024\n", 1536), "is no number"},
		"a map with a long number":            {v1("1\n"+strings.Repeat("0", 100)+"\n1024\n", 1536), wrong},
		"a map without end":                   {v1(strings.Repeat("1", 500), 512), wrong},
		"a folder with a map":                 {extended('x', record("GNU.sparse.major", "1")) + rawHeader("./s", '5', 0, nil), wrong},
		"a map of another format":             {extended('x', record("GNU.sparse.major", "2")) + plainMember, "0 and 1 are known"},
		"a map for all":                       {extended('g', record("GNU.sparse.major", "1")) + plainMember, "for all members"},
		"attributes for all":                  {extended('g', record("SCHILY.xattr.user.a", "1")) + plainMember, "for all members"},
		"a map in the header":                 {v0(record("GNU.sparse.numblocks", "2"), record("GNU.sparse.map", "0,512,1024,512")), ""},
		"a header's map of more":              {v0(record("GNU.sparse.map", "0,512,1024,1024")), wrong},
		"a header's map of odd numbers":       {v0(record("GNU.sparse.map", "0,512,1024")), wrong},
		"a header's map of too many":          {v0(record("GNU.sparse.numblocks", "100000000"), record("GNU.sparse.map", "0,512,1024,512")), "regions"},
		"a map of records":                    {v0(record("GNU.sparse.offset", "0"), record("GNU.sparse.numbytes", "512"), record("GNU.sparse.offset", "1024"), record("GNU.sparse.numbytes", "512")), ""},
		"a map of records in disorder":        {v0(record("GNU.sparse.numbytes", "512"), record("GNU.sparse.offset", "0")), wrong},
		"an old map":                          {old(pair(0, 512)+pair(1024, 512), 1024), ""},
		"an old map of more than there is":    {old(pair(0, 512)+pair(1024, 1024), 1024), wrong},
		"a file named like a folder":          {rawHeader("./d/", '0', 6, nil) + "plain\n" + padding(6), "named like a folder"},
		"a pax name like a folder's":          {extended('x', record("path", "./d/")) + plainMember, "named like a folder"},
		"a sparse file named like a folder":   {extended('x', record("GNU.sparse.name", "./d/")) + plainMember, "doesn't fit"},
		"a long name like a folder's":         {extended('L', "./d/\x00") + plainMember, "named like a folder"},
		"a contiguous file like a folder":     {rawHeader("./d/", '7', 6, nil) + "plain\n" + padding(6), "named like a folder"},
		"an old folder":                       {rawHeader("./d/", '0', 0, nil), ""},
		"a pax name with a zero":              {extended('x', record("path", "./d/\x00x")) + plainMember, "none of them zero"},
		"more text than names and times take": {extended('x', record("comment", strings.Repeat("c", maxOther+1))) + plainMember, "beside attributes"},
	}
}

func TestHostileMembersAreRefused(t *testing.T) {
	for name, c := range hostileMembers() {
		_, got, err := walkStream(strings.NewReader(plainMember + c.members + map[bool]string{true: "", false: tarEnd}[c.want == "cut off"]))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want == "" && got.files.String() != plainMember+c.members+tarEnd:
			t.Errorf("%s: %d bytes became %d", name, len(plainMember+c.members+tarEnd), got.files.Len())
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		case c.want != "" && !printable(err.Error()):
			t.Errorf("%s: %q isn't for a log", name, err)
		}
	}
}

func TestHostileMembersAreRefusedOnTheWayOutToo(t *testing.T) {
	for name, c := range hostileMembers() {
		w, err := NewWriter(io.Discard, filesManifest())
		must(t, err)
		if err := w.Tree(strings.NewReader(plainMember + c.members + tarEnd)); (err == nil) != (c.want == "") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestAnErrorNamesTheByte(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"damaged":  {plainMember + plainMember + strings.Repeat("x", 512), "damaged near byte 2560"},
		"cut off":  {plainMember + plainMember[:100], "cut off at byte 1124"},
		"in data":  {plainMember + plainMember[:514], "cut off at byte 1538"},
		"the end":  {plainMember + tarEnd[:512], "cut off at byte 1536"},
		"trailing": {plainMember + tarEnd + "\x00\x00x", "damaged near byte 2050"},
	} {
		if _, _, err := walkStream(strings.NewReader(c.in)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// repeated gives a text again and again, without end, and counts.
type repeated struct {
	begin, text string
	n           int64
}

func (r *repeated) Read(p []byte) (int, error) {
	for i := range p {
		if at := r.n + int64(i); at < int64(len(r.begin)) {
			p[i] = r.begin[at]
		} else {
			p[i] = r.text[(at-int64(len(r.begin)))%int64(len(r.text))]
		}
	}
	r.n += int64(len(p))
	return len(p), nil
}

func TestHeadersWithoutEndAreGivenUpSoon(t *testing.T) {
	big := record("SCHILY.xattr.user.c", strings.Repeat("c", maxPax-40))
	for name, c := range map[string]struct{ repeat, want string }{
		"pax headers":        {extended('x', big), "two headers"},
		"small for all":      {extended('g', record("comment", "c")), "without a member"},
		"large for all":      {extended('g', big), "header of"},
		"long names":         {extended('L', strings.Repeat("n", maxLongName)), "two headers"},
		"a sparse map":       {rawHeader("./x", 'S', 0, put(482, "\x01"))[:512-8] + "\x01\x01\x01\x01\x01\x01\x01\x01", "a sparse map without end"},
		"an enormous header": {rawHeader("./x", 'x', 1<<40, nil), fmt.Sprint("more than ", maxPax)},
	} {
		begin := plainMember
		if name == "a sparse map" { // its first record is a header, the others continue the map
			begin += rawHeader("./x", 'S', 0, put(482, "\x01"))
		}
		r := &repeated{begin: begin, text: c.repeat}
		_, _, err := walkStream(r)
		if err == nil || !strings.Contains(err.Error(), c.want) || r.n > 4*maxPax {
			t.Errorf("%s: %v after %d bytes, want %q", name, err, r.n, c.want)
		}
	}
}

func TestWhatIsHeldOfAStreamIsBounded(t *testing.T) {
	big := extended('x', record("SCHILY.xattr.user.c", strings.Repeat("c", maxPax-40)))
	many := strings.Repeat(plainMember, 20000) + strings.Repeat(big+plainMember, 8) + tarEnd
	got := testing.Benchmark(func(b *testing.B) {
		for range b.N {
			s, err := Open(b.Context(), strings.NewReader(many))
			must(b, err)
			must(b, s.Walk(Sink{Files: io.Discard}))
		}
	})
	// The buffers, the headers as they grow, and a name or two for each member.
	if n := got.AllocedBytesPerOp(); n > 6*maxPax+200*20000 {
		t.Errorf("%d bytes of memory for a stream of %d", n, len(many))
	}
}
