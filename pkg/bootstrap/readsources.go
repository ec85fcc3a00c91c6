package bootstrap

import (
	"errors"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/pattern"
)

const (
	// maxSources bounds a file of sources in bytes, and maxSourceLines what is taken of all.
	maxSources     = 1 << 20
	maxSourceLines = 100
)

// ReadSources returns what the guest's apt installs packages from, as "URI SUITE
// COMPONENT…" without options. Sources of source packages alone are left out.
func ReadSources(r *guest.Root) (out []string, err error) {
	names := []string{"/" + sourcesList}
	parts, err := r.ReadDir("/" + sourcesParts)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	slices.Sort(parts)
	for _, name := range parts {
		if strings.HasSuffix(name, ".list") || strings.HasSuffix(name, ".sources") {
			names = append(names, "/"+sourcesParts+"/"+name)
		}
	}
	for _, name := range names {
		if st, err := r.Stat(name); err != nil || !st.Mode().IsRegular() || len(out) > maxSourceLines {
			continue
		}
		text, err := r.ReadFile(name, maxSources)
		if err != nil {
			return nil, err
		}
		out = append(out, listSources(ParseSources(name, string(text)))...)
	}
	return out[:min(len(out), maxSourceLines)], nil
}

func listSources(entries []Entry) (out []string) {
	for _, e := range entries {
		if !slices.Contains(e.types, "deb") {
			continue
		}
		for _, uri := range e.uris {
			for _, suite := range e.suites {
				if len(out) > maxSourceLines {
					return out
				}
				out = append(out, strings.Join(append([]string{uri, suite}, e.components...), " "))
			}
		}
	}
	return out
}

// Entry is a line or a stanza of a file of sources that is in use.
type Entry struct {
	types, uris, suites, components []string
	// Keys are the files of keys that it names.
	Keys []string
}

var (
	// sourceLine is a line of sources.list(5) with its options, of which a quoted one may
	// have blanks and brackets in it, and what comes after them.
	sourceLine   = pattern.New(`^[ \t]*(deb(?:-src)?)[ \t]+(?:\[((?:"[^"]*"|[^]"])*)\])?([^#]*)`)
	sourceOption = pattern.New(`(?:"[^"]*"|[^ \t"])+`)
	// notEnabled is what apt takes for no (StringToBool).
	notEnabled = pattern.New(`(?i)^(no|false|without|off|disable|0+)$`)
)

// ParseSources reads a file of sources as apt does, by its name in stanzas or in lines
// (sources.list(5)). What is no source at all is apt's to refuse.
func ParseSources(name, text string) (entries []Entry) {
	if filepath.Ext(name) == ".sources" {
		for _, fields := range parseStanzas(text) {
			if fields["types"] != "" && !notEnabled().MatchString(fields["enabled"]) {
				words := func(name string) []string { return strings.Fields(fields[name]) }
				entries = append(entries, Entry{words("types"), words("uris"), words("suites"), words("components"), keyFiles(fields["signed-by"])})
			}
		}
		return entries
	}
	for line := range strings.Lines(text) {
		m := sourceLine().FindStringSubmatch(line)
		if m == nil {
			continue
		}
		e := Entry{types: m[1:2]}
		if words := strings.Fields(m[3]); len(words) > 1 {
			e.uris, e.suites, e.components = words[:1], words[1:2], words[2:]
		}
		for _, option := range sourceOption().FindAllString(m[2], -1) {
			option = strings.ReplaceAll(option, `"`, "")
			if plain, err := url.PathUnescape(option); err == nil {
				option = plain
			}
			if value, ok := strings.CutPrefix(option, "signed-by="); ok {
				e.Keys = append(e.Keys, keyFiles(value)...)
			}
		}
		entries = append(entries, e)
	}
	return entries
}

// parseStanzas are the stanzas of a file in deb822(5)'s format: its fields by their names
// in small letters. A line that begins with a blank goes on with the field above it, a
// line that begins with # is none.
func parseStanzas(text string) (stanzas []map[string]string) {
	fields, last := map[string]string{}, ""
	for line := range strings.Lines(text + "\n\n") {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case line == "":
			if len(fields) > 0 {
				stanzas = append(stanzas, fields)
			}
			fields, last = map[string]string{}, ""
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				fields[last] = strings.TrimSpace(fields[last] + "\n" + line)
			}
		default:
			name, value, _ := strings.Cut(line, ":")
			last = strings.ToLower(strings.TrimSpace(name))
			fields[last] = strings.TrimSpace(value)
		}
	}
	return stanzas
}

// keyFiles are the files in a value of Signed-By, which can also have fingerprints, or
// be a key itself.
func keyFiles(value string) (out []string) {
	if strings.HasPrefix(value, "-----BEGIN") {
		return nil
	}
	for _, key := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }) {
		if strings.HasPrefix(key, "/") {
			out = append(out, filepath.Clean(key))
		}
	}
	return out
}
