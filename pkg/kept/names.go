package kept

import (
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/pattern"
)

const (
	maxNamesFile = 1 << 20 // bytes of a guest's passwd or group
	maxNames     = 20_000  // of a guest; others keep their numbers
	maxTold      = 10      // names in a message
)

// readNames returns the names of a guest's users and groups, by number.
func readNames(root *guest.Root) (users, groups map[uint32]string, err error) {
	users, err = readIDs(root, "/etc/passwd")
	if err == nil {
		groups, err = readIDs(root, "/etc/group")
	}
	return users, groups, err
}

// readIDs reads a file of lines "name:password:number:…". Of names with one number the first
// counts, as for the C library.
func readIDs(root *guest.Root, name string) (map[uint32]string, error) {
	text, err := root.ReadFile(name, maxNamesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[uint32]string{}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 4)
		if len(fields) < 3 || fields[0] == "" {
			continue
		}
		id, err := strconv.ParseUint(fields[2], 10, 32)
		if _, taken := out[uint32(id)]; err == nil && !taken && len(out) < maxNames {
			out[uint32(id)] = fields[0]
		}
	}
	return out, nil
}

// owners gives the numbers of one guest's users, or groups, those that their names have in
// another guest.
type owners struct {
	old     map[uint32]string
	now     map[string]uint32
	nowName map[uint32]string
	strange map[uint32]bool // numbers that mean nobody, or another, in the new guest
}

func newOwners(old, now map[uint32]string) *owners {
	o := &owners{old: old, now: map[string]uint32{}, nowName: now, strange: map[uint32]bool{}}
	for id, name := range now {
		if have, taken := o.now[name]; !taken || id < have {
			o.now[name] = id
		}
	}
	return o
}

// of is a number's in the new guest; one whose name that doesn't have stays.
func (o *owners) of(id uint32) uint32 {
	if now, ok := o.now[o.old[id]]; ok {
		return now
	}
	if o.nowName[id] != o.old[id] || o.old[id] == "" && id != 0 {
		o.strange[id] = true
	}
	return id
}

// told are those numbers, with the names that they had.
func (o *owners) told() string {
	var list []string
	ids := make([]uint32, 0, len(o.strange))
	for id := range o.strange {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for i, id := range ids {
		if i == maxTold {
			list = append(list, "…")
			break
		}
		text := strconv.FormatUint(uint64(id), 10)
		if o.old[id] != "" {
			text += " was " + pattern.Quote(o.old[id])
		}
		if o.nowName[id] != "" {
			text += ", is " + pattern.Quote(o.nowName[id])
		}
		list = append(list, text)
	}
	return strings.Join(list, "; ")
}
