package bash

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"instance-debootstrap/pkg/pattern"
)

// oddity is a character that bash takes for another than its writer did.
type oddity struct {
	offset, line, column int // in bytes from 0; from 1, columns in characters
	msg                  string
	fineQuoted           bool // it may be meant, within quotes
}

// checkText refuses what looks like a blank, a quote, a dash or a line's end and is none
// to bash. In a comment all may stand, but for a NUL, after which bash reads on as if
// it weren't there.
func checkText(name string, src []byte) error {
	fail := func(line int, msg string) error { return &Error{File: name, Line: line, Msg: msg} }
	switch {
	case bytes.HasPrefix(src, []byte("\ufeff")):
		return fail(1, `column 1: a byte-order mark (U+FEFF), which bash takes for a part of the first word: remove it (sed -i '1s/^\xef\xbb\xbf//')`)
	case bytes.HasPrefix(src, []byte("\xff\xfe")), bytes.HasPrefix(src, []byte("\xfe\xff")):
		return fail(1, "column 1: a byte-order mark of UTF-16, which bash can't read: convert the file (iconv -f UTF-16 -t UTF-8)")
	}
	if before, _, found := bytes.Cut(src, []byte{0}); found {
		return fail(1+bytes.Count(before, []byte("\n")), "not a text file: it holds a NUL byte")
	}
	harmless := places(src)
	for _, o := range oddities(src) {
		if !harmless(o) {
			return fail(o.line, o.msg)
		}
	}
	return nil
}

// oddities lists the odd characters of a text.
func oddities(src []byte) (odd []oddity) {
	line, column := 1, 1
	for at := 0; at < len(src); {
		r, n := utf8.DecodeRune(src[at:])
		o := oddity{offset: at, line: line, column: column}
		switch {
		case r == '\r' && (at+1 == len(src) || src[at+1] == '\n'):
			o.msg = "the line ends with a carriage return, which bash takes for a part of it: save the file with Unix line ends (sed -i 's/\\r$//')"
		case r > unicode.MaxASCII:
			var what string
			if what, o.fineQuoted = lookalike(r); what != "" {
				o.msg = fmt.Sprintf("column %d: %s (U+%04X)", column, what, r)
			}
		}
		if o.msg != "" {
			odd = append(odd, o)
		}
		at, column = at+n, column+1
		if r == '\n' {
			line, column = line+1, 1
		}
	}
	return odd
}

// lookalike says what a character beyond ASCII is, and what to write in its place; ""
// is one that nobody takes for another.
func lookalike(r rune) (what string, fineQuoted bool) {
	const blank = ", which is no blank to bash: write a plain one in its place"
	switch {
	case r == '\u00a0', r == '\u202f':
		return "a no-break space" + blank, false
	case r == '\ufeff':
		return "a byte-order mark within the text: remove it", false
	case unicode.Is(unicode.Z, r):
		return "a blank of a printer's" + blank, false
	case unicode.Is(unicode.Cf, r), unicode.Is(unicode.Cc, r):
		return "an invisible character, which is a part of the word to bash: remove it", false
	case unicode.Is(unicode.Pi, r), unicode.Is(unicode.Pf, r), r == '‚', r == '„':
		return "a curly quote " + string(r) + `, which is no quote to bash: write " or ' in its place`, true
	case unicode.Is(unicode.Pd, r):
		return "a dash " + string(r) + " that is none to bash: write - in its place", true
	}
	return "", false
}

// places returns what tells whether a character stands where it does no harm: in a
// comment, or one that may be meant within quotes that end on its line, or in a here-document.
func places(text []byte) func(oddity) bool {
	var documents [][2]int
	at, word := 0, "" // word ends the here-document that begins at
	for offset, rest := 0, text; len(rest) > 0; {
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		next := min(offset+len(line)+1, len(text))
		switch m := hereDocument().FindSubmatch(line); {
		case word != "" && strings.TrimLeft(string(line), "\t") == word:
			documents, word = append(documents, [2]int{at, offset}), ""
		case word == "" && m != nil:
			at, word = next, string(m[1])
		}
		offset, rest = next, text[next:]
	}
	return func(o oddity) bool {
		for _, d := range documents {
			if d[0] <= o.offset && o.offset < d[1] {
				return o.fineQuoted
			}
		}
		quote, comment := before(text[bytes.LastIndexByte(text[:o.offset], '\n')+1 : o.offset])
		rest, _, _ := bytes.Cut(text[o.offset:], []byte("\n"))
		return comment || o.fineQuoted && quote != 0 && bytes.IndexByte(rest, quote) >= 0
	}
}

var hereDocument = pattern.New(`<<-?[ \t]*["'\\]?([A-Za-z_][A-Za-z0-9_]*)`)

// before tells by which quote what follows on a line is quoted (0 is none), or whether
// it is a comment.
func before(line []byte) (quote byte, comment bool) {
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quote == 0 && c == '#' && (i == 0 || bytes.IndexByte([]byte(" \t;&|()"), line[i-1]) >= 0):
			return 0, true
		case c == '\\' && quote != '\'':
			i++
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == quote:
			quote = 0
		}
	}
	return quote, false
}
