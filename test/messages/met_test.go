package messages

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var profile = flag.String("profile", "", "list the messages that no test came to: coverage `FILES`, with commas between")

// block is a part of a file that a test came to, in lines.
type block struct{ first, last int }

// reached are the parts of the program's files that tests came to, by their profiles.
func reached(t *testing.T, paths string) map[string]map[block]bool {
	t.Helper()
	blocks := map[string]map[block]bool{}
	for path := range strings.SplitSeq(paths, ",") {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			file, rest, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "instance-debootstrap/"), ":")
			var b block
			var column, statements, count int
			n, _ := fmt.Sscanf(rest, "%d.%d,%d.%d %d %d", &b.first, &column, &b.last, &column, &statements, &count)
			if blocks[file] == nil {
				blocks[file] = map[block]bool{}
			}
			if n == 6 && count > 0 {
				blocks[file][b] = true
			}
		}
	}
	return blocks
}

// isMet reports whether a test came to a message. One outside of functions is only named.
func (m message) isMet(blocks map[string]map[block]bool) bool {
	for b := range blocks[m.dir+"/"+m.file] {
		if b.first <= m.line && m.line <= b.last {
			return true
		}
	}
	return m.function == ""
}

func TestAMessageIsMetWhereAProfileSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "profile")
	if err := os.WriteFile(path, []byte("mode: set\ninstance-debootstrap/pkg/a/b.go:3.4,5.2 1 1\ninstance-debootstrap/pkg/a/b.go:7.4,9.2 1 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	blocks := reached(t, path)
	for line, want := range map[int]bool{2: false, 3: true, 5: true, 6: false, 8: false} {
		if got := (message{dir: "pkg/a", file: "b.go", function: "f", line: line}).isMet(blocks); got != want {
			t.Errorf("line %d: %v", line, got)
		}
	}
	if *profile == "" {
		return
	}
	met, all := 0, source(t)
	blocks = reached(t, *profile)
	for _, m := range all {
		if m.isMet(blocks) {
			met++
		} else {
			t.Logf("%s: %s", m.at(), m.text)
		}
	}
	t.Logf("met: %d of %d", met, len(all))
}
