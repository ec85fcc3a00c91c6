package bash

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestACharacterThatOnlyLooksRightIsNamedWithItsPlace(t *testing.T) {
	for _, c := range []struct {
		text   string
		line   int
		column string
		want   string
	}{
		{"\ufeffSUITE=trixie\n", 1, "column 1: ", "a byte-order mark (U+FEFF)"},
		{"\ufeff# a comment\nSUITE=trixie\n", 1, "column 1: ", "a byte-order mark (U+FEFF)"},
		{"\xff\xfeS\x00U\x00", 1, "column 1: ", "UTF-16"},
		{"A=1\nB=\u00a02\n", 2, "column 3: ", "a no-break space, which is no blank to bash: write a plain one in its place (U+00A0)"},
		{"A='x\u00a0y'\n", 1, "column 5: ", "(U+00A0)"},
		{"A=\"über\u202fx\"\n", 1, "column 8: ", "(U+202F)"},
		{"A=1\u3000# x\n", 1, "column 4: ", "(U+3000)"},
		{"A=x\u200b\n", 1, "column 4: ", "an invisible character"},
		{"A=1\nB=x\ufeff\n", 2, "column 4: ", "byte-order mark"},
		{"SUITE=“trixie”\n", 1, "column 7: ", "a curly quote “"},
		{"SUITE=\"trixie”\nARCH=\"amd64\"\n", 1, "column 14: ", "a curly quote ”"},
		{"SUITE=\"trixie”\nARCH=”amd64\"\n", 1, "column 14: ", "a curly quote ”"},
		{"# it’s\nA=‘it's’\n", 2, "column 3: ", "a curly quote ‘"},
		{"[ –f /etc/x ] && A=1\n", 1, "column 3: ", "a dash –"},
	} {
		_, err := ours(t, "settings", c.text)
		var e *Error
		if !errors.As(err, &e) || filepath.Base(e.File) != "settings" || e.Line != c.line || !strings.HasPrefix(e.Msg, c.column) || !strings.Contains(e.Msg, c.want) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}

func TestACommentMayHoldAnything(t *testing.T) {
	for text, want := range map[string]string{
		"# it’s “quoted” – and\u00a0so on \ufeff\u200b\nA=1 # \u00a0\nB=2\n": "1 2",
		"# caf\xe9\r\nA=1 # caf\xe9\nB=2\n":                                  "1 2",
		"A='l’été – “x”'\nB=\"it’s\"\n":                                      "l’été – “x” it’s",
		"A=$(cat <<EOF\nit’s\nEOF\n)\nB='#x'\n":                              "it’s #x",
		"A=é\nB=日本\n": "é 日本",
	} {
		s := newShell(t)
		err := source(t, s, "settings", text)
		a, _ := s.Get("A")
		b, _ := s.Get("B")
		if err != nil || a+" "+b != want {
			t.Errorf("%q: %q, %q, %v", text, a, b, err)
		}
	}
	for _, text := range []string{"A='#\u00a0'\n", "A=x#\u00a0\n", "A=$(cat <<EOF\n# \u00a0\nEOF\n)\n"} {
		if _, err := ours(t, "settings", text); err == nil || !strings.Contains(err.Error(), "U+00A0") {
			t.Errorf("%q is not in a comment: %v", text, err)
		}
	}
}
