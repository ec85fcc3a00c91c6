package manual

import (
	"regexp"
	"strings"
)

// Code is a piece of code in a page of docs/: a line of a block, with those that a
// backslash continues it by, or a span of a text.
type Code struct {
	Line int
	Text string
	Span bool
	Row  bool // of a table; a span
}

var span = regexp.MustCompile("`([^`]+)`")

// CodeIn are a page's pieces of code.
func CodeIn(page string) (list []Code) {
	fenced, blank, block, continued := false, true, false, false
	text, number := "", 0 // of the paragraph so far: a span may go on in the next line
	flush := func() {
		for _, m := range span.FindAllStringSubmatchIndex(text, -1) {
			list = append(list, Code{number + strings.Count(text[:m[0]], "\n"), strings.Join(strings.Fields(text[m[2]:m[3]]), " "), true, text[0] == '|'})
		}
		text = ""
	}
	n := 0
	for line := range strings.Lines(page) {
		n++
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			flush()
			fenced, continued = !fenced, false
			continue
		}
		block = fenced || strings.HasPrefix(line, "    ") && (blank || block) && line != ""
		blank = strings.TrimSpace(line) == ""
		switch {
		case block && continued:
			last := &list[len(list)-1]
			last.Text += " " + strings.TrimSpace(strings.TrimSuffix(line, `\`))
		case block:
			flush()
			list = append(list, Code{n, strings.TrimSpace(strings.TrimSuffix(line, `\`)), false, false})
		case blank || strings.HasPrefix(line, "|") || strings.HasPrefix(line, "- "):
			flush()
			fallthrough
		default:
			if text == "" {
				number = n
			}
			text += line + "\n"
		}
		continued = block && strings.HasSuffix(line, `\`)
	}
	flush()
	return list
}
