package guest

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// WriteHosts gives the guest this node's /etc/hosts, but for the names that mean the
// node itself; nil leaves the guest's. localhost and the guest's name are in it in
// any case.
func WriteHosts(r *Root, content []byte, name string) error {
	text := withoutOwnNames(string(content))
	if content == nil {
		own, err := r.ReadFile("/etc/hosts", maxConfig)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		text = string(own)
	}
	return r.WriteFile("/etc/hosts", []byte(hostsOf(text, name)), 0o644, Reset)
}

// everyHost matches the names that every machine has at a loopback address.
var everyHost = pattern.New(`^(localhost[46]?(\..*)?|ip6-localhost|ip6-loopback|loopback)$`)

// isLoopback tells whether the address of an entry means the machine itself.
func isLoopback(words []string) bool {
	if len(words) == 0 {
		return false
	}
	addr, err := netip.ParseAddr(words[0])
	return err == nil && addr.Unmap().IsLoopback()
}

// withoutOwnNames leaves out of a hosts(5) text the names of the machine that it is
// of: those at a loopback address that not every machine has there.
func withoutOwnNames(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		entry, comment, commented := strings.Cut(line, "#")
		words := hostWords(entry)
		if len(words) < 2 || !isLoopback(words) {
			out.WriteString(line)
			continue
		}
		keep := slices.DeleteFunc(slices.Clone(words[1:]), func(word string) bool { return !everyHost().MatchString(word) })
		switch {
		case len(keep) == len(words)-1:
			out.WriteString(line)
		case len(keep) == 0:
		case commented:
			out.WriteString(words[0] + "\t" + strings.Join(keep, " ") + " #" + comment)
		default:
			out.WriteString(words[0] + "\t" + strings.Join(keep, " ") + "\n")
		}
	}
	return out.String()
}

const (
	// ownAddress is what Debian gives to a machine's own name (Debian Reference,
	// 5.1.1, "The hostname resolution").
	ownAddress = "127.0.1.1"
	localhost  = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
)

// hostsOf makes a hosts(5) text this guest's: its name, unless another line has
// it, in the stead of what stood at ownAddress; and localhost, unless it is there.
func hostsOf(text, name string) string {
	named, local, after := false, false, 0
	var lines []string
	for line := range strings.Lines(text) {
		entry, _, _ := strings.Cut(line, "#")
		words := hostWords(entry)
		if len(words) > 0 && words[0] == ownAddress {
			continue
		}
		lines = append(lines, line)
		named = named || containsField(entry, name)
		local = local || isLoopback(words) && containsField(entry, "localhost")
		if after == 0 && len(words) > 0 && words[0] == "127.0.0.1" {
			after = len(lines)
		}
	}
	if n := len(lines); n > 0 && !strings.HasSuffix(lines[n-1], "\n") {
		lines[n-1] += "\n"
	}
	if !named {
		own := ownAddress + "\t" + name
		if short, _, cut := strings.Cut(name, "."); cut {
			own += " " + short
		}
		lines = slices.Insert(lines, after, own+"\n")
	}
	if !local {
		lines = slices.Insert(lines, 0, localhost)
	}
	return strings.Join(lines, "")
}
