//go:build root

package root

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// What the attacks change: the fields of real streams and disks, found by reading
// them as their formats say (tar(5), protocols/dumprestore.h, UEFI 2.10), or as
// debugfs and xfs_db list them.

// spot is a part of a stream's or a disk's bytes.
type spot struct {
	name          string
	offset, bytes int
	kind          byte // 'n' little-endian number, 'N' big-endian, 'o' octal text, 's' text
}

// evilNames are names that lead out, or that a log, a tool or a shell could act on.
var evilNames = []string{
	"..", ".", "/", "", "../..", "a/../b", "/etc/passwd", "\x1b[2J", "\x07", "new\nline", "-rf", "--help", "$(reboot)", "`reboot`", "%s%n", "\xff\xfe", "\x00", "lost+found", "restoresymtable", ".restore-x",
	".instance-debootstrap", "NUL", "é", "skipped socket", strings.Repeat("x", 255), strings.Repeat("../", 40), strings.Repeat("d/", 3000),
}

// number is one that a program's arithmetic may not expect.
func number(r *rand.Rand, old uint64) uint64 {
	switch r.IntN(8) {
	case 0:
		return 0
	case 1:
		return ^uint64(0) // all ones, in any width
	case 2:
		return 1 << r.IntN(64)
	case 3:
		return 1<<r.IntN(64) - 1
	case 4:
		return old + 1
	case 5:
		return old - 1
	case 6:
		return old * 2
	}
	return r.Uint64()
}

// inOrder gives a map's values by their keys' order, which is the same at each run.
func inOrder[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// set changes a field.
func (f spot) set(r *rand.Rand, b []byte) (what string) {
	part := b[f.offset : f.offset+f.bytes]
	var order binary.ByteOrder = binary.LittleEndian
	switch f.kind {
	case 'o':
		text := pick(r, []string{
			strconv.FormatUint(number(r, 0)>>r.IntN(64), 8), "", "-1", "99999999999", "77777777777", "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "  1 \x00 2", "x",
		})
		clear(part)
		copy(part, text)
	case 's':
		name := pick(r, evilNames)
		clear(part)
		copy(part, name)
	case 'N':
		order = binary.BigEndian
		fallthrough
	default:
		var wide [8]byte
		if order == binary.LittleEndian {
			copy(wide[:], part)
			binary.LittleEndian.PutUint64(wide[:], number(r, binary.LittleEndian.Uint64(wide[:])))
			copy(part, wide[:])
		} else {
			copy(wide[8-len(part):], part)
			binary.BigEndian.PutUint64(wide[:], number(r, binary.BigEndian.Uint64(wide[:])))
			copy(part, wide[8-len(part):])
		}
	}
	return fmt.Sprintf("%s at %d becomes %q", f.name, f.offset, part[:min(len(part), 40)])
}

// mutate changes some of the fields.
func mutate(r *rand.Rand, b []byte, fields []spot) (what string) {
	var done []string
	for range 1 + r.IntN(3) {
		done = append(done, pick(r, fields).set(r, b))
	}
	return strings.Join(done, ", ")
}

// tarFields are those of all headers of a tar, and what is in its extended headers.
func tarFields(b []byte) (fields []spot) {
	places := []struct {
		name          string
		offset, bytes int
		kind          byte
	}{
		{"name", 0, 100, 's'}, {"mode", 100, 8, 'o'}, {"uid", 108, 8, 'o'}, {"gid", 116, 8, 'o'}, {"size", 124, 12, 'o'}, {"mtime", 136, 12, 'o'}, {"checksum", 148, 8, 'o'},
		{"type", 156, 1, 'n'}, {"linkname", 157, 100, 's'}, {"magic", 257, 8, 's'}, {"uname", 265, 32, 's'}, {"devmajor", 329, 8, 'o'}, {"devminor", 337, 8, 'o'}, {"prefix", 345, 155, 's'},
		{"a sparse map's offset", 386, 12, 'o'}, {"a sparse map's length", 398, 12, 'o'}, {"the real size", 483, 12, 'o'}, {"more of the map", 482, 1, 'n'},
	}
	for at := 0; at+512 <= len(b); {
		if bytes.Equal(b[at:at+512], make([]byte, 512)) {
			break
		}
		kind := b[at+156]
		for _, p := range places {
			if p.offset < 345 || kind != 'x' {
				fields = append(fields, spot{fmt.Sprintf("%s of a member of type %q", p.name, kind), at + p.offset, p.bytes, p.kind})
			}
		}
		size, _ := strconv.ParseInt(strings.Trim(string(b[at+124:at+136]), " \x00"), 8, 64)
		data := b[min(len(b), at+512):min(len(b), at+512+int(size))]
		switch {
		case strings.ContainsRune("xgLK", rune(kind)):
			for i := 0; i < len(data); i += 1 + len(data)/12 {
				fields = append(fields, spot{fmt.Sprintf("what a header of type %q has", kind), at + 512 + i, min(8, len(data)-i), pick(rand.New(rand.NewPCG(1, uint64(at+i))), []byte{'o', 's', 'n'})})
			}
		case bytes.Contains(b[max(0, at-1024):at], []byte("GNU.sparse.major=1")):
			fields = append(fields, spot{"a pax sparse map", at + 512, min(24, len(data)), 'o'})
		}
		at += 512 + int(size+511)/512*512
	}
	return fields
}

// tarRepaired gives all headers right checksums, and a digest of ours its value.
func tarRepaired(b []byte) {
	for at := 0; at+512 <= len(b); {
		h := b[at : at+512]
		if bytes.Equal(h, make([]byte, 512)) {
			break
		}
		size, err := strconv.ParseInt(strings.Trim(string(h[124:136]), " \x00"), 8, 64)
		copy(h[148:], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		if err != nil || size < 0 || size > int64(len(b)) {
			return
		}
		if strings.TrimRight(string(h[:100]), "\x00") == ".instance-debootstrap/sha256" && at+512+65 <= len(b) {
			copy(b[at+512:], fmt.Sprintf("%x\n", sha256.Sum256(b[:at])))
		}
		at += 512 + int(size+511)/512*512
	}
}

// jsonMutated changes values of a JSON text, of the same length: spaces fill it.
func jsonMutated(r *rand.Rand, text []byte) (out []byte, what string) {
	var v any
	if json.Unmarshal(text, &v) != nil {
		return text, "nothing"
	}
	var places []func() string
	var walk func(path string, v any, set func(any))
	walk = func(path string, v any, set func(any)) {
		places = append(places, func() string {
			var to any
			switch old := v.(type) {
			case float64:
				to = pick(r, []any{0, -1, 1, int64(old) + 1, int64(old) - 1, int64(1) << 62, 1e300, 0.5, "1", nil})
			case string:
				to = pick(r, []any{"", pick(r, evilNames), old + "x", strings.ToUpper(old), 1, nil, "tar", "blocks", "gpt", "msdos", "none", "ext4", "xfs", "swap"})
			default:
				to = pick(r, []any{nil, []any{}, map[string]any{}, "x", -1, []any{v, v, v}})
			}
			set(to)
			return fmt.Sprintf("%s becomes %.60q", path, fmt.Sprint(to))
		})
		switch v := v.(type) {
		case map[string]any:
			for key, inner := range inOrder(v) {
				walk(path+"."+key, inner, func(to any) { v[key] = to })
			}
		case []any:
			for i := range v {
				walk(fmt.Sprint(path, "[", i, "]"), v[i], func(to any) { v[i] = to })
			}
		}
	}
	walk("", v, func(to any) { v = to })
	what = pick(r, places)()
	out, err := json.Marshal(v)
	if err != nil || len(out) > len(text) {
		return bytes.Repeat([]byte(" "), len(text)), what + " (too long: blanks)"
	}
	return append(out, bytes.Repeat([]byte(" "), len(text)-len(out))...), what
}

const dumpRecord = 1024

// dumpFields are those of all headers and folders of a dump(8).
func dumpFields(b []byte) (fields []spot) {
	word := func(at int) int { return int(binary.LittleEndian.Uint32(b[at:])) }
	for at := 0; at+dumpRecord <= len(b); at += dumpRecord {
		if word(at+24) != 60012 {
			continue
		}
		kind := word(at)
		for name, place := range inOrder(map[string][2]int{
			"type": {0, 4}, "date": {4, 4}, "volume": {12, 4}, "tape address": {16, 4}, "inode number": {20, 4}, "magic": {24, 4}, "count": {160, 4}, "map": {164, 8}, "the map's end": {668, 8},
			"label": {676, 16}, "level": {692, 4}, "flags": {888, 4}, "first record": {892, 4}, "mode": {32, 2}, "size": {40, 8}, "device": {72, 8}, "inode's flags": {128, 8}, "owner": {144, 4}, "times": {48, 16}, "attributes": {896, 16},
		}) {
			fields = append(fields, spot{fmt.Sprintf("%s of a record of type %d", name, kind), at + place[0], place[1], 'n'})
		}
		const inode, folder = 2, 0o040000
		if kind != inode || int(binary.LittleEndian.Uint16(b[at+32:]))&0o170000 != folder {
			continue
		}
		size := int(binary.LittleEndian.Uint64(b[at+40:]))
		for entry := at + dumpRecord; entry+8 <= min(len(b), at+dumpRecord+size); {
			length := int(binary.LittleEndian.Uint16(b[entry+4:]))
			if length < 8 || entry+length > len(b) {
				break
			}
			fields = append(fields, spot{"an entry's inode", entry, 4, 'n'}, spot{"an entry's length", entry + 4, 2, 'n'}, spot{"an entry's type", entry + 6, 1, 'n'}, spot{"a name's length", entry + 7, 1, 'n'})
			for range 3 { // names lead out more often than numbers do
				fields = append(fields, spot{"an entry's name", entry + 8, min(length-8, int(b[entry+7])+1), 's'})
			}
			entry += length
		}
	}
	return fields
}

// dumpRepaired gives all headers right checksums.
func dumpRepaired(b []byte) {
	for at := 0; at+dumpRecord <= len(b); at += dumpRecord {
		if binary.LittleEndian.Uint32(b[at+24:]) != 60012 {
			continue
		}
		binary.LittleEndian.PutUint32(b[at+28:], 0)
		var sum uint32
		for word := 0; word < dumpRecord; word += 4 {
			sum += binary.LittleEndian.Uint32(b[at+word:])
		}
		binary.LittleEndian.PutUint32(b[at+28:], 84446-sum)
	}
}

// tableFields are those of a partition table: of the boot record's four entries, and
// of gpt's header and the entries in use. head is the disk's first 34 sectors.
func tableFields(head []byte) (fields []spot) {
	for i := range 4 {
		at := 446 + 16*i
		fields = append(fields, spot{"an entry's flag", at, 1, 'n'}, spot{"an entry's type", at + 4, 1, 'n'}, spot{"an entry's start", at + 8, 4, 'n'}, spot{"an entry's length", at + 12, 4, 'n'})
	}
	fields = append(fields, spot{"the disk's id", 440, 4, 'n'}, spot{"the signature", 510, 2, 'n'})
	if string(head[512:520]) != "EFI PART" {
		return fields
	}
	for name, place := range inOrder(map[string][2]int{"revision": {8, 4}, "header's size": {12, 4}, "own place": {24, 8}, "the copy's place": {32, 8}, "first usable": {40, 8}, "last usable": {48, 8}, "id": {56, 16}, "the entries' place": {72, 8}, "entries": {80, 4}, "an entry's size": {84, 4}}) {
		fields = append(fields, spot{"gpt: " + name, 512 + place[0], place[1], 'n'})
	}
	for at := 1024; at+128 <= len(head); at += 128 {
		if !bytes.Equal(head[at:at+16], make([]byte, 16)) {
			fields = append(fields, spot{"gpt: a type", at, 16, 'n'}, spot{"gpt: an id", at + 16, 16, 'n'}, spot{"gpt: a start", at + 32, 8, 'n'}, spot{"gpt: an end", at + 40, 8, 'n'}, spot{"gpt: flags", at + 48, 8, 'n'}, spot{"gpt: a name", at + 56, 72, 's'})
		}
	}
	return fields
}

// tableRepaired gives a gpt right checksums.
func tableRepaired(head []byte) {
	header := head[512:1024]
	if string(header[:8]) != "EFI PART" {
		return
	}
	binary.LittleEndian.PutUint32(header[88:], crc32.ChecksumIEEE(head[1024:34*512]))
	binary.LittleEndian.PutUint32(header[16:], 0)
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header[:92]))
}

// btrfsSuper are fields of a btrfs superblock (btrfs documentation, "On-disk format").
func btrfsSuper() (fields []spot) {
	for name, place := range inOrder(map[string][2]int{
		"fsid": {32, 16}, "own place": {48, 8}, "flags": {56, 8}, "generation": {72, 8}, "root": {80, 8}, "chunk root": {88, 8}, "log root": {96, 8}, "total bytes": {112, 8}, "bytes used": {120, 8}, "devices": {136, 8},
		"sector size": {144, 4}, "node size": {148, 4}, "stripe size": {156, 4}, "system chunks": {160, 4}, "incompatible": {188, 8}, "checksum's type": {196, 2}, "root level": {198, 1}, "device": {201, 98}, "label": {299, 255},
	}) {
		fields = append(fields, spot{"btrfs: " + name, place[0], place[1], map[bool]byte{true: 's', false: 'n'}[name == "label"]})
	}
	return fields
}

func btrfsRepaired(super []byte) {
	binary.LittleEndian.PutUint32(super, crc32.Checksum(super[32:4096], crc32.MakeTable(crc32.Castagnoli)))
}
