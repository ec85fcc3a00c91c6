package guest

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// WriteHostname writes /etc/hostname: the instance's name, as Ganeti has it.
func WriteHostname(r *Root, name string) error {
	return r.WriteFile("/etc/hostname", []byte(name+"\n"), 0o644, Reset)
}

// WriteMailname writes /etc/mailname, the domain of mail sent from the guest.
func WriteMailname(r *Root, name string) error {
	return r.WriteFile("/etc/mailname", []byte(name+"\n"), 0o644, Reset)
}

// WriteHosts gives the guest this node's /etc/hosts, but for the node's own name;
// nil leaves the guest's. The guest's name is in it in any case.
func WriteHosts(r *Root, content []byte, name string) error {
	if content == nil {
		own, err := r.ReadFile("/etc/hosts", maxConfig)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		content = own
	}
	return r.WriteFile("/etc/hosts", []byte(hostsOf(string(content), name)), 0o644, Reset)
}

// ownAddress is what Debian gives to a machine's own name (Debian Reference,
// 5.1.1, "The hostname resolution").
const ownAddress = "127.0.1.1"

// hostsOf makes a hosts(5) text this guest's: its name, unless another line has
// it, in the stead of what stood at ownAddress.
func hostsOf(text, name string) string {
	named, after := false, 0
	var lines []string
	for line := range strings.Lines(text) {
		entry, _, _ := strings.Cut(line, "#")
		words := hostWords(entry)
		if len(words) > 0 && words[0] == ownAddress {
			continue
		}
		lines = append(lines, line)
		named = named || containsField(entry, name)
		if after == 0 && len(words) > 0 && words[0] == "127.0.0.1" {
			after = len(lines)
		}
	}
	if named {
		return strings.Join(lines, "")
	}
	if n := len(lines); n > 0 && !strings.HasSuffix(lines[n-1], "\n") {
		lines[n-1] += "\n"
	}
	own := ownAddress + "\t" + name
	if short, _, cut := strings.Cut(name, "."); cut {
		own += " " + short
	}
	return strings.Join(slices.Insert(lines, after, own+"\n"), "")
}
