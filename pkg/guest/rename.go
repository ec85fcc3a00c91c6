package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// Rename changes the guest's host name from one to another, in /etc/hostname,
// which must have the old one, in /etc/mailname where that has it too (else it
// is the admin's own), in /etc/hosts, and in what cloud-init was told. Nothing is written unless all that
// has to be read could be read.
func Rename(r *Root, from, to string) error {
	name, err := r.ReadFile("/etc/hostname", maxConfig)
	if err != nil {
		return err
	}
	// One that has the new name already comes from a run that was ended before it was done.
	if got := strings.TrimSpace(string(name)); got != from && got != to {
		return fmt.Errorf("the guest's /etc/hostname is %s, not %q: it was renamed inside; set it right there first", pattern.Quote(got), from)
	}
	mail, mailErr := r.ReadFile("/etc/mailname", maxConfig)
	hosts, hostsErr := r.ReadFile("/etc/hosts", maxConfig)
	for _, err := range []error{mailErr, hostsErr} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := r.WriteFile("/etc/hostname", []byte(to+"\n"), 0o644); err != nil {
		return err
	}
	if mailErr == nil && strings.TrimSpace(string(mail)) == from {
		if err := r.WriteFile("/etc/mailname", []byte(to+"\n"), 0o644); err != nil {
			return err
		}
	}
	if edited := renameInHosts(string(hosts), from, to); hostsErr == nil && edited != string(hosts) {
		if err := r.WriteFile("/etc/hosts", []byte(edited), 0o644); err != nil {
			return err
		}
	}
	return renameSeed(r, from, to)
}

// field is a word of hosts(5), whose blanks are C's: neither Go's patterns nor
// strings.Fields has the same.
var field = pattern.New(`[^ \t\n\v\f\r]+`)

func hostWords(entry string) []string { return field().FindAllString(entry, -1) }

// renameInHosts changes a host name in a hosts(5) text: where a line has the
// old name, that and its short form on the same line. Comments, spacing and
// all other names stay.
func renameInHosts(text, from, to string) string {
	short := func(name string) string { s, _, _ := strings.Cut(name, "."); return s }
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		entry, comment, commented := strings.Cut(line, "#")
		if !containsField(entry, from) {
			continue
		}
		first := true
		entry = field().ReplaceAllStringFunc(entry, func(word string) string {
			address := first
			first = false
			switch {
			case address:
				return word
			case word == from:
				return to
			case word == short(from):
				return short(to)
			}
			return word
		})
		if commented {
			entry += "#" + comment
		}
		lines[i] = entry
	}
	return strings.Join(lines, "")
}

// containsField reports whether one of a line's names is name.
func containsField(entry, name string) bool {
	words := hostWords(entry)
	for i, word := range words {
		if i > 0 && word == name {
			return true
		}
	}
	return false
}
