package command

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLogBytes is how much of one tool's output goes to the log: some ten times
// what a bootstrap prints.
const maxLogBytes = 1 << 20

// bounded hands lines on until there are too many of them, and counts the rest.
type bounded struct {
	emit       func(string)
	most, left int // bytes; lines that were left out
	used       int // bytes
}

func (b *bounded) line(s string) {
	if b.used += len(s) + 1; b.used > b.most {
		b.left++
		return
	}
	b.emit(s)
}

func (b *bounded) end() {
	if b.left > 0 {
		b.emit(fmt.Sprintf("(printed too much for the log: %d more lines are left out)", b.left))
	}
}

// Printable returns a line with what can't be printed written as Go would, such as
// \x1b: a guest's file names are in what tools print, and must not reach a terminal
// as commands. Tabs stay; a backslash stands for itself.
func Printable(line string) string {
	if !strings.ContainsFunc(line, unprintable) {
		return line
	}
	var out strings.Builder
	for len(line) > 0 {
		r, n := utf8.DecodeRuneInString(line)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&out, `\x%02x`, line[0])
		case !unprintable(r):
			out.WriteString(line[:n])
		case r <= 0xff:
			fmt.Fprintf(&out, `\x%02x`, r)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
		line = line[n:]
	}
	return out.String()
}

// unprintable tells of controls, also those that only turn the direction of a
// line, and of bytes that are no text.
func unprintable(r rune) bool { return r == utf8.RuneError || r != '\t' && !unicode.IsPrint(r) }
