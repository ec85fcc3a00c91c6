package pattern

import (
	"strings"
	"testing"
)

func TestAGuestsTextIsQuotedAndCutInAMessage(t *testing.T) {
	for text, want := range map[string]string{
		"web.example.org":           "web.example.org",
		"two words":                 "two words",
		"\x1b[2J\a":                 `"\x1b[2J\a"`,
		"a\nb":                      `"a\nb"`,
		`a"b`:                       `"a\"b"`,
		"\u202e":                    `"\u202e"`,
		strings.Repeat("a", 900000): `"` + strings.Repeat("a", 256) + `"… (900000 bytes)`,
	} {
		if got := Plain(text); got != want {
			t.Errorf("%.20q: %q, want %q", text, got, want)
		}
	}
}
