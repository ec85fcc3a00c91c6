package install

import (
	"net/url"
	"path/filepath"
	"strings"
	"unicode"

	"instance-debootstrap/pkg/pattern"
)

var (
	// sourceLine is a line of sources.list(5) and its options, of which a quoted one may
	// have blanks and brackets in it.
	sourceLine   = pattern.New(`^[ \t]*deb(?:-src)?[ \t]+(?:\[((?:"[^"]*"|[^]"])*)\])?`)
	sourceOption = pattern.New(`(?:"[^"]*"|[^ \t"])+`)
	// notEnabled is what apt takes for no (StringToBool).
	notEnabled = pattern.New(`(?i)^(no|false|without|off|disable|0+)$`)
)

// aptSources reads a file of sources as apt does, by its name in stanzas or in lines
// (sources.list(5)): how many sources are in use, and the files of keys that these name.
// What is no source at all is apt's to refuse.
func aptSources(path, text string) (count int, keys []string) {
	if filepath.Ext(path) == ".sources" {
		for _, fields := range aptStanzas(text) {
			if fields["types"] != "" && !notEnabled().MatchString(fields["enabled"]) {
				count++
				keys = append(keys, keyFiles(fields["signed-by"])...)
			}
		}
		return count, keys
	}
	for line := range strings.Lines(text) {
		m := sourceLine().FindStringSubmatch(line)
		if m == nil {
			continue
		}
		count++
		for _, option := range sourceOption().FindAllString(m[1], -1) {
			option = strings.ReplaceAll(option, `"`, "")
			if plain, err := url.PathUnescape(option); err == nil {
				option = plain
			}
			if value, ok := strings.CutPrefix(option, "signed-by="); ok {
				keys = append(keys, keyFiles(value)...)
			}
		}
	}
	return count, keys
}

// aptStanzas are the stanzas of a file in deb822(5)'s format: its fields by their names
// in small letters. A line that begins with a blank goes on with the field above it, a
// line that begins with # is none.
func aptStanzas(text string) (stanzas []map[string]string) {
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
