package manual

import (
	"regexp"
	"strings"
)

// FromMarkdown is the text of a page of docs/ below its title, as man(7): headings,
// paragraphs, lists, tables of a name and its text, code.
func FromMarkdown(text string) string {
	var b strings.Builder
	var block []string // lines of one paragraph or item
	item, table, first := false, false, true
	flush := func() {
		if len(block) == 0 {
			return
		}
		if item {
			b.WriteString(".IP \\(bu 3\n")
		} else if !first {
			b.WriteString(".PP\n")
		}
		first = false
		b.WriteString(Paragraph(inline(strings.Join(block, " "))))
		block, item = nil, false
	}
	code := false
	for line := range strings.Lines(text + "\n\n") {
		line = strings.TrimRight(line, "\n")
		isCode := strings.HasPrefix(line, "    ") && len(block) == 0
		if code && !isCode && line != "" {
			b.WriteString(".fi\n.RE\n")
			code = false
		}
		switch {
		case isCode && !code:
			code = true
			b.WriteString(".PP\n.RS 4\n.nf\n" + Text(line[4:]) + "\n")
		case code:
			b.WriteString(Text(strings.TrimPrefix(line, "    ")) + "\n")
		case line == "":
			flush()
			table = false
		case strings.HasPrefix(line, "## "):
			b.WriteString(".SH " + strings.ToUpper(Text(line[3:])) + "\n")
			first = true
		case strings.HasPrefix(line, "# "):
		case strings.HasPrefix(line, "|"):
			if cells := strings.SplitN(strings.Trim(line, "| "), " | ", 2); len(cells) == 2 && table {
				b.WriteString(".TP\n" + inline(cells[0]) + "\n" + Paragraph(inline(cells[1])))
			}
			table = table || strings.HasPrefix(line, "|---")
		case strings.HasPrefix(line, "- "):
			flush()
			item, block = true, []string{line[2:]}
		default:
			block = append(block, strings.TrimSpace(line))
		}
	}
	return strings.ReplaceAll(b.String(), "\n\n.fi", "\n.fi")
}

var (
	linked   = regexp.MustCompile(`(\()?\[([^]]*)\]\(([^)#]*)(?:#[^)]*)?\)`)
	emphatic = regexp.MustCompile("\\*\\*[^*]*\\*\\*|`[^`]*`")
)

// inline is a line's links, code and emphasis.
func inline(text string) string {
	text = linked.ReplaceAllStringFunc(text, func(link string) string {
		m := linked.FindStringSubmatch(link)
		switch {
		case m[3] == "":
			return m[1] + m[2]
		case m[1] != "":
			return "(" + m[2] + ": docs/" + m[3]
		}
		return m[2] + " (docs/" + m[3] + ")"
	})
	return emphatic.ReplaceAllStringFunc(Text(text), func(found string) string {
		return `\fB` + strings.NewReplacer("`", "", "**", "").Replace(found) + `\fR`
	})
}
