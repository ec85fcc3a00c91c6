package userspace

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"instance-debootstrap/pkg/blockdev"
)

// InUse refuses a disk that the kernel doesn't see, and that one of the node's hypervisors was
// started with. proc is the node's /proc; nil is the current one.
func (d Source) InUse(proc *os.Root) error {
	if d.Path != "" {
		return nil // its claim tells
	}
	return blockdev.InUse(d.Name, d.usedBy(proc))
}

// IsSame tells whether both lead to one disk that the kernel doesn't see.
func (d Source) IsSame(other Source) bool {
	at := place(d.protocol)
	return at != "" && at == place(other.protocol)
}

// usedBy says which of the node's hypervisors was started with this disk; "" is none that
// shows. A disk that was plugged in later doesn't, nor does one of another node.
func (d Source) usedBy(proc *os.Root) string {
	want := place(d.protocol)
	for _, p := range blockdev.Hypervisors(proc) {
		if slices.ContainsFunc(p.Args, func(arg string) bool { return strings.Contains(arg, "mountpoint="+served+",") }) {
			continue // a daemon of ours, which the lock is for
		}
		for i, arg := range p.Args {
			if i > 0 && contains(arg, want) {
				return fmt.Sprintf("open in %s (process %s)", p.Program, p.PID)
			}
		}
	}
	return ""
}

// contains reports whether one of QEMU's arguments names the disk that is at a place: as a
// URI, as JSON, or as options with dots in their names (qemu(1), -drive, -blockdev). Any user
// may start a QEMU, with any arguments: a text is read once, and options aren't looked for
// in the values of others.
func contains(arg, want string) bool {
	if isAt(arg, want) || isIn(arg, want) {
		return true
	}
	options := map[string]any{}
	for _, word := range splitOptions(arg) {
		name, value, _ := strings.Cut(word, "=")
		if isAt(value, want) {
			return true
		}
		nest(options, strings.Split(name, "."), value)
	}
	return anyAt(options, want, func(string) bool { return false })
}

// isAt tells whether a text is a URI that leads to the place, or describes it as QEMU's json:.
func isAt(text, want string) bool {
	if described, ok := strings.CutPrefix(text, "json:"); ok {
		return isIn(described, want)
	}
	s, err := Parse(text, "")
	return err == nil && s.protocol != nil && place(s.protocol) == want
}

// isIn tells whether a text is JSON with the place in it.
func isIn(text, want string) bool {
	options := map[string]any{}
	return strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &options) == nil &&
		anyAt(options, want, func(text string) bool { return isAt(text, want) })
}

// anyAt looks through options, and those in them, for a disk at the place, or a text that is it.
func anyAt(value any, want string, isText func(string) bool) bool {
	switch v := value.(type) {
	case map[string]any:
		if place(v) == want {
			return true
		}
		for _, inner := range v {
			if anyAt(inner, want, isText) {
				return true
			}
		}
	case []any:
		for _, inner := range v {
			if anyAt(inner, want, isText) {
				return true
			}
		}
	case string:
		return isText(v)
	}
	return false
}

// splitOptions cuts options at their commas, of which two are one that is meant.
func splitOptions(text string) []string {
	words := strings.Split(strings.ReplaceAll(text, ",,", "\x00"), ",")
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], "\x00", ",")
	}
	return words
}

// nest puts a value where the names lead to.
func nest(options map[string]any, names []string, value string) {
	for len(names) > 1 {
		inner, ok := options[names[0]].(map[string]any)
		if !ok {
			inner = map[string]any{}
			options[names[0]] = inner
		}
		options, names = inner, names[1:]
	}
	options[names[0]] = value
}

// where are the options that say where a disk is, by driver; of a server its address. Who
// asks for it doesn't matter, nor by which of Ceph's monitors it is found.
var where = map[string][]string{
	"rbd":     {"pool", "namespace", "image", "snapshot"},
	"nbd":     {"server", "export"},
	"gluster": {"volume", "path", "server"},
}

// place is what two descriptions of one disk have in common; "" is none.
func place(options map[string]any) string {
	driver, _ := options["driver"].(string)
	at := map[string]any{"driver": driver}
	for _, name := range where[driver] {
		value := options[name]
		switch text, _ := value.(string); {
		case name == "server":
			value = server(value)
		case name == "path" && text != "":
			value = filepath.Clean("/" + text)
		}
		if value != nil && value != "" {
			at[name] = value
		}
	}
	if len(at) < 2 {
		return ""
	}
	return asJSON(at)
}

// server is the address of a server, or of the first of a list; of a socket what its path leads to.
func server(value any) any {
	if list, ok := value.([]any); ok && len(list) > 0 {
		value = list[0]
	}
	all, _ := value.(map[string]any)
	if first, ok := all["0"]; ok {
		return server(first)
	}
	address := []string{}
	for _, name := range []string{"host", "port"} {
		if text, ok := all[name].(string); ok {
			address = append(address, strings.ToLower(text))
		}
	}
	if path, ok := all["path"].(string); ok {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		address = append(address, path)
	}
	return strings.Join(address, " ")
}
