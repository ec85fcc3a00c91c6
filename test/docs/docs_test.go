// Package docs holds the tests of how the pages are written. That what they say of the
// command line and the settings is so, cmd/instance-debootstrap and pkg/settings test.
package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

const columns = 100

// tooLong are the numbers of a page's lines that could be wrapped, and aren't.
func tooLong(page string) (numbers []int) {
	fenced, blank, n := false, true, 0
	for line := range strings.Lines(page) {
		n++
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		code := fenced || strings.HasPrefix(line, "    ") && blank
		blank = line == "" || code // what follows code is code
		words := strings.Fields(strings.TrimLeft(line, "-*0123456789. "))
		if utf8.RuneCountInString(line) > columns && !code && !strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "#") && len(words) > 1 {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

func TestThePagesAreWrapped(t *testing.T) {
	seen := 0
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../hooks/*.md", "../../examples/hooks/*.md"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			seen++
			for _, n := range tooLong(string(text)) {
				t.Errorf("%s:%d: more than %d columns", path, n, columns)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d pages", seen)
	}
}

func TestALineThatCouldBeWrappedIsSeen(t *testing.T) {
	long := strings.Repeat("word ", 21)
	for page, want := range map[string]int{
		long: 1, "- " + long: 1, "  " + long: 1, "| " + long + " |": 0, "# " + long: 0, "    " + long: 0, "text\n    " + long: 1,
		"```\n" + long + "\n```": 0, "```\nx\n```\n" + long: 1, "- [x](" + strings.Repeat("w", 110) + ")": 0, strings.Repeat("ä", 100): 0, strings.Repeat("ä ", 51): 1,
	} {
		if got := tooLong(page); len(got) != want {
			t.Errorf("%q: %v, want %d", page, got, want)
		}
	}
}
