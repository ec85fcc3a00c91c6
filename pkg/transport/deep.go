package transport

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Shortcuts lets GNU tar unpack paths that are longer than the kernel takes at once.
// Tar names everything from the tree's top; in a folder of ours there, which is only
// there meanwhile, are links to folders far below, and a member that lies deeper is
// named by way of one of these. A link may lead by way of another. The kernel follows
// 40 in one path (path_resolution(7)), which is more than MaxPath takes.
//
// Tar gives a folder its time when the next member isn't named below it. By a
// shortcut one that is below isn't named so: the folders that it is in get their times
// too early, and are told to tar once more when they are left.
type Shortcuts struct {
	target string
	top    *os.Root
	folder string // its name in the top

	path   string  // of the last member
	above  []above // the folders that it is in, from the top
	within string  // the link by which tar was told the last name
	held   int64   // bytes of records in above
}

// maxHeld is how much the extended headers of the folders that a member is in may have.
const maxHeld = 64 << 20

// above is a folder that members are in.
type above struct {
	pathLen int
	member  []byte // its header, and the records before it but for names
	records []byte
	within  string
	early   bool   // its time was set before all was in it
	told    string // the link by which tar was told to set its time
}

// NewShortcuts is for a tar that is unpacked into target. Nothing is made before a
// name is too long.
func NewShortcuts(target string) *Shortcuts { return &Shortcuts{target: target} }

// shortcutBytes is how much of a path a link has at most, behind the name of another
// link: xfs takes 1024 bytes in all. A name has 255, so it is never less than 645.
const shortcutBytes = 900

// behindShortcut is how long a path is at most behind the last link. It is that much
// longer that no member lies in the folder that a link leads to itself.
const behindShortcut = 3900

// short returns a name by which the kernel finds what is called name, and the last
// link in it; a name that is not too long is its own.
func (s *Shortcuts) short(name string) (short, within string, err error) {
	if len(name)+1 < longestName {
		return name, "", nil
	}
	rest := plainPath(name)
	done, way := 0, "../" // what of rest is behind the last link, and the way from the folder of the links to there
	for len(rest)-done+1 > behindShortcut {
		cut := strings.LastIndexByte(rest[done:done+shortcutBytes], '/')
		if cut <= 0 {
			return "", "", fmt.Errorf("member %.200q: a name in its path is longer than the kernel accepts", name)
		}
		sum := sha256.Sum256([]byte(rest[:done+cut]))
		within = hex.EncodeToString(sum[:])
		if err := s.link(way+rest[done:done+cut], within); err != nil {
			return "", "", fmt.Errorf("unpack member %.200q, whose path is longer than the kernel accepts: %w", name, err)
		}
		way, done = within+"/", done+cut+1
	}
	return "./" + s.folder + "/" + way + rest[done:], within, nil
}

// plainPath is a path from the top, as tar takes it.
func plainPath(name string) string {
	return strings.Trim(strings.TrimPrefix(strings.TrimLeft(name, "/"), "./"), "/")
}

func (s *Shortcuts) link(to, name string) error {
	if s.top == nil {
		top, err := os.OpenRoot(s.target)
		if err != nil {
			return err
		}
		s.top, s.folder = top, ".deep-"+rand.Text()
		if err := s.top.Mkdir(s.folder, 0o700); err != nil {
			return err
		}
	}
	err := s.top.Symlink(to, s.folder+"/"+name)
	if errors.Is(err, unix.EEXIST) { // made for another member
		return nil
	}
	if failed := new(os.LinkError); errors.As(err, &failed) { // whose text has all of both names
		return failed.Err
	}
	return err
}

// Remove takes the links away, when tar has ended. The top's time stays.
func (s *Shortcuts) Remove() error {
	if s.top == nil {
		return nil
	}
	defer s.top.Close()
	st, err := s.top.Stat(".")
	if err != nil {
		return err
	}
	return cmp.Or(s.top.RemoveAll(s.folder), s.top.Chtimes(".", st.ModTime(), st.ModTime()))
}

// next returns what tar is to be told of a member: its headers, with names as short as
// the kernel takes them, and before them the folders that have to be told once more.
func (s *Shortcuts) next(m member) (out []byte, err error) {
	if s == nil {
		return m.raw, nil
	}
	path := plainPath(m.file)
	if out, err = s.leave(path); err != nil {
		return nil, err
	}
	file, within, err := s.short(m.file)
	if err != nil {
		return nil, err
	}
	target, _, err := s.short(m.target)
	if err != nil {
		return nil, err
	}
	s.move(within)
	if n := len(s.above); n > 0 && s.above[n-1].told != within { // a link that tar delays is noted with its folder
		s.above[n-1].told, s.above[n-1].early = within, true
		out = append(out, s.above[n-1].as(file[:strings.LastIndexByte(strings.TrimRight(file, "/"), '/')+1])...)
	}
	isFolder := m.kind == '5' || strings.HasSuffix(m.file, "/")
	headers := m.raw
	if isFolder || file != m.file || target != m.target {
		r, err := splitHeaders(m.raw)
		if err != nil {
			return nil, err
		}
		if file != m.file || target != m.target {
			headers = r.with(file, target)
		}
		if isFolder && path != "" && path != "." {
			s.above = append(s.above, above{len(path), bytes.Clone(r.member), r.records, within, false, within})
			if s.held += int64(len(r.records)); s.held > maxHeld {
				return nil, fmt.Errorf("folder %.200q: it and those above it have more than %d MiB of attributes", m.file, maxHeld>>20)
			}
		}
	}
	s.path = path
	if out == nil {
		return headers, nil
	}
	return append(out, headers...), nil
}

// forgotten is no link.
const forgotten = "-"

// move notes that tar is told of a name by way of another link.
func (s *Shortcuts) move(within string) {
	if within == s.within {
		return
	}
	for i := range s.above {
		s.above[i].early, s.above[i].told = true, forgotten
	}
	s.within = within
}

// leave tells of the folders that path isn't in, the deepest first.
func (s *Shortcuts) leave(path string) (out []byte, err error) {
	for n := len(s.above); n > 0; n-- {
		a := s.above[n-1]
		if len(path) > a.pathLen && path[a.pathLen] == '/' && path[:a.pathLen] == s.path[:a.pathLen] {
			break
		}
		if a.early {
			again, err := s.again(a)
			if err != nil {
				return nil, err
			}
			s.move(a.within)
			out = append(out, again...)
		}
		s.held -= int64(len(a.records))
		s.above = s.above[:n-1]
	}
	return out, nil
}

// again is a folder that tar has made, for its time. It has all its attributes once more:
// tar may not have set them yet, and remembers the last it was told.
func (s *Shortcuts) again(a above) ([]byte, error) {
	file, _, err := s.short("./" + s.path[:a.pathLen] + "/")
	return a.as(file), err
}

func (a above) as(file string) []byte {
	return headers{member: a.member, records: a.records}.with(file, "")
}

// headers are those of one member.
type headers struct {
	all     []byte // what is said for all members
	records []byte // of its extended header, but for its names
	member  []byte // the last one, and what continues that
	link    string // where a link leads, when it is too long for the last header
	sparse  bool
}

// splitHeaders takes apart what a walker has read.
func splitHeaders(raw []byte) (h headers, err error) {
	for {
		kind, size, err := parseHeader(raw[:recordBytes])
		if err != nil {
			return h, err
		}
		end := recordBytes + padded(size)
		switch kind {
		case 'g':
			h.all = append(h.all, raw[:end]...)
		case 'x':
			if err := h.addRecords(raw[recordBytes : recordBytes+size]); err != nil {
				return h, err
			}
		case 'L':
		case 'K': // an extended header's goes before
			if h.link == "" {
				h.link = text(raw[recordBytes : recordBytes+size])
			}
		default:
			h.member = raw
			return h, nil
		}
		raw = raw[end:]
	}
}

func (h *headers) addRecords(b []byte) error {
	for len(b) > 0 {
		key, value, rest, err := nextRecord(b)
		if err != nil {
			return err
		}
		record := b[:len(b)-len(rest)]
		switch b = rest; string(key) {
		case "path":
		case "linkpath":
			h.link = string(value)
		case "GNU.sparse.name":
			h.sparse = true
		default:
			h.records = append(h.records, record...)
		}
	}
	return nil
}

// with returns them with another name, and another target of a hard link.
func (h headers) with(file, target string) []byte {
	records := append(bytes.Clone(h.records), paxRecord("path", file)...)
	if h.sparse {
		records = append(records, paxRecord("GNU.sparse.name", file)...)
	}
	if target = cmp.Or(target, h.link); target != "" {
		records = append(records, paxRecord("linkpath", target)...)
	}
	x := header("PaxHeaders/deep", int64(len(records)))
	x[atType] = 'x'
	copy(x[atChecksum:], fmt.Sprintf("%06o\x00 ", checksum(x)))
	padding := make([]byte, padded(int64(len(records)))-int64(len(records)))
	return slices.Concat(h.all, x, records, padding, h.member)
}

// paxRecord is a record of an extended header, whose length counts its own digits.
func paxRecord(key, value string) string {
	n := len(key) + len(value) + 3
	for len(fmt.Sprint(n))+len(key)+len(value)+3 != n {
		n = len(fmt.Sprint(n)) + len(key) + len(value) + 3
	}
	return fmt.Sprintf("%d %s=%s\n", n, key, value)
}

// Shorten copies a tar by Pack, with names that Unpack's GNU tar can use.
func Shorten(tar io.Reader, out io.Writer, s *Shortcuts) error {
	w := &walk{t: newWalker(tar), sink: Sink{Files: out, Shortcuts: s}, lost: Listen("tar")}
	if err := w.plain(); err != nil {
		return err
	}
	return w.t.drainZeros()
}
