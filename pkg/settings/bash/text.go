package bash

import (
	"bytes"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"

	"mvdan.cc/sh/v3/syntax"
)

// oddity is a character that bash takes for another than its writer did.
type oddity struct {
	offset, line, column int // in bytes from 0; from 1, columns in characters
	msg                  string
	fineQuoted           bool // it may be meant, within quotes
}

// checkText refuses what the parser drops or can't read, and what looks like a blank,
// a quote or a dash and is none to bash. In a comment all may stand, but for a NUL.
// The text that it returns is UTF-8, with every byte in its old place.
func checkText(name string, src []byte) ([]byte, error) {
	fail := func(line int, msg string) error { return &Error{File: name, Line: uint(line), Msg: msg} }
	switch {
	case bytes.HasPrefix(src, []byte("\ufeff")):
		return nil, fail(1, `column 1: a byte-order mark (U+FEFF), which bash takes for a part of the first word: remove it (sed -i '1s/^\xef\xbb\xbf//')`)
	case bytes.HasPrefix(src, []byte("\xff\xfe")), bytes.HasPrefix(src, []byte("\xfe\xff")):
		return nil, fail(1, "column 1: a byte-order mark of UTF-16, which bash can't read: convert the file (iconv -f UTF-16 -t UTF-8)")
	}
	if before, _, found := bytes.Cut(src, []byte{0}); found {
		return nil, fail(1+bytes.Count(before, []byte("\n")), "not a text file: it holds a NUL byte")
	}
	odd, text := oddities(src)
	if len(odd) == 0 {
		return src, nil
	}
	harmless := places(text)
	for _, o := range odd {
		if !harmless(o) {
			return nil, fail(o.line, o.msg)
		}
	}
	return text, nil
}

// oddities lists the odd characters of a text, and returns the text with a ? for each
// byte that isn't UTF-8.
func oddities(src []byte) (odd []oddity, text []byte) {
	text = slices.Clone(src)
	line, column := 1, 1
	for at := 0; at < len(src); {
		r, n := utf8.DecodeRune(src[at:])
		o := oddity{offset: at, line: line, column: column}
		switch {
		case r == '\r' && (at+1 == len(src) || src[at+1] == '\n'):
			o.msg = "the line ends with a carriage return, which bash takes for a part of it: save the file with Unix line ends (sed -i 's/\\r$//')"
		case r == utf8.RuneError && n == 1:
			o.msg = "the line isn't UTF-8: convert the file (iconv -f ISO-8859-1 -t UTF-8)"
			text[at] = '?'
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
	return odd, text
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

// span is a part of a text, in bytes.
type span struct{ from, to uint }

// places returns what tells whether a character stands where it does no harm: in a
// comment, or one that may be meant within quotes that end on their line, or in a
// here-document. Where a text can't be parsed a comment is what looks like one.
func places(text []byte) func(oddity) bool {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash), syntax.KeepComments(true)).Parse(bytes.NewReader(text), "")
	if err != nil {
		return func(o oddity) bool {
			line := text[bytes.LastIndexByte(text[:o.offset], '\n')+1 : o.offset]
			return bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte("#"))
		}
	}
	var comments, quoted []span
	add := func(to *[]span, n syntax.Node) { *to = append(*to, span{n.Pos().Offset(), n.End().Offset()}) }
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Comment:
			comments = append(comments, span{n.Hash.Offset(), n.Hash.Offset() + 1 + uint(len(n.Text))})
		case *syntax.SglQuoted, *syntax.DblQuoted:
			if n.Pos().Line() == n.End().Line() {
				add(&quoted, n)
			}
		case *syntax.Redirect:
			if n.Hdoc != nil {
				add(&quoted, n.Hdoc)
			}
		}
		return true
	})
	return func(o oddity) bool {
		in := func(s span) bool { return s.from <= uint(o.offset) && uint(o.offset) <= s.to }
		return slices.ContainsFunc(comments, in) || o.fineQuoted && slices.ContainsFunc(quoted, in)
	}
}
