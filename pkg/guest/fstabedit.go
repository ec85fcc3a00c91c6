package guest

import (
	"bytes"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// FstabEntry is a line of fstab(5), its escapes undone.
type FstabEntry struct{ Device, Dir, Type, Options string }

// IsESP reports whether the entry mounts an EFI system partition.
func (e FstabEntry) IsESP() bool {
	return e.Type == "vfat" && (e.Dir == "/boot/efi" || e.Dir == "/efi" || e.Dir == "/boot")
}

// ReadFstab returns the text of the guest's /etc/fstab.
func ReadFstab(r *Root) ([]byte, error) { return r.ReadFile("/etc/fstab", maxConfig) }

// What fstab(5) and getmntent(3) write in octal: what would end a field, or make
// a comment of the line.
var (
	fstabUnescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\015`, "\r", `\043`, "#", `\134`, `\`)
	fstabEscape   = strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, "\r", `\015`, "#", `\043`, `\`, `\134`)
)

// parseFstabLine returns a line's entry, and where in the line its device
// stands; it is false for a comment, a blank line and one without a mount point.
func parseFstabLine(line []byte) (e FstabEntry, start, end int, ok bool) {
	const blanks = " \t\r\n"
	start = len(line) - len(bytes.TrimLeft(line, blanks))
	if start == len(line) || line[start] == '#' {
		return e, 0, 0, false
	}
	length := bytes.IndexAny(line[start:], blanks)
	if length < 0 {
		return e, 0, 0, false
	}
	end = start + length
	fields := bytes.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(blanks, r) })
	if len(fields) < 2 {
		return e, 0, 0, false
	}
	for i, field := range []*string{&e.Device, &e.Dir, &e.Type, &e.Options} {
		if i < len(fields) {
			*field = fstabUnescape.Replace(string(fields[i]))
		}
	}
	return e, start, end, true
}

// ParseFstab returns the entries of an fstab(5) text.
func ParseFstab(text []byte) []FstabEntry {
	var entries []FstabEntry
	for line := range bytes.Lines(text) {
		if e, _, _, ok := parseFstabLine(line); ok {
			entries = append(entries, e)
		}
	}
	return entries
}

// EditFstab asks of each entry what its device is to be, and changes nothing
// else. A reason to disable an entry makes a comment of its line, below one that
// gives the reason.
func EditFstab(text []byte, edit func(e FstabEntry) (device, disable string)) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		e, start, end, ok := parseFstabLine(line)
		if !ok {
			out.Write(line)
			continue
		}
		device, disable := edit(e)
		switch {
		case disable != "":
			out.WriteString("# " + disable + ":\n#")
			out.Write(line)
		case device != e.Device:
			out.Write(line[:start])
			out.WriteString(fstabEscape.Replace(device))
			out.Write(line[end:])
		default:
			out.Write(line)
		}
	}
	return out.Bytes()
}

// fstabTypes are an fstab's line up to its type, that, and the options.
var fstabTypes = pattern.New(`^([ \t]*[^ \t\r\n#][^ \t\r\n]*[ \t]+[^ \t\r\n]+[ \t]+)([^ \t\r\n]+)([ \t]+)([^ \t\r\n]+)`)

// EditRootType has the entry of the root filesystem say its type. Options that another
// type has, such as btrfs's subvol, give way; those of ext2, ext3 and ext4 are alike.
// What has no type (auto), or has it already, stays.
func EditRootType(text []byte, fstype, options string) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		e, _, _, ok := parseFstabLine(line)
		m := fstabTypes().FindSubmatchIndex(line)
		if !ok || m == nil || e.Dir != "/" || e.Type == fstype || e.Type == "auto" {
			out.Write(line)
			continue
		}
		out.Write(line[:m[4]])
		out.WriteString(fstype)
		if strings.HasPrefix(e.Type, "ext") && strings.HasPrefix(fstype, "ext") {
			out.Write(line[m[5]:])
			continue
		}
		out.Write(line[m[6]:m[7]])
		out.WriteString(options)
		out.Write(line[m[9]:])
	}
	return out.Bytes()
}
