// Package manual writes manual pages: man(7) of plain text, of the folders that the build
// puts in, and of a page of docs/.
package manual

import (
	"regexp"
	"strings"

	"instance-debootstrap/pkg/paths"
)

var startsLikeARequest = regexp.MustCompile(`(?m)^([.'])`)

// Text has groff print a text as it is (groff_char(7)).
func Text(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "’", "'", "→", `\->`, "×", `\(mu`, "–", `\(en`).Replace(text)
	return startsLikeARequest.ReplaceAllString(text, `\&$1`)
}

// Wrap breaks a text into lines of at most width letters.
func Wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// Paragraph is a text of man(7) in lines of the page's source.
func Paragraph(text string) string {
	return startsLikeARequest.ReplaceAllString(strings.Join(Wrap(text, 96), "\n"), `\&$1`) + "\n"
}

// WithFolders names the compiled-in folders as FILE.in does.
func WithFolders(text string) string {
	for _, f := range []struct{ path, name string }{
		{paths.DefaultsFile, "@DEFAULTS_FILE@"}, {paths.OSDir, "@OS_DIR@"}, {paths.ConfDir, "@CONF_DIR@"}, {paths.CacheDir, "@CACHE_DIR@"},
	} {
		text = strings.ReplaceAll(text, Text(f.path), f.name)
	}
	return text
}
