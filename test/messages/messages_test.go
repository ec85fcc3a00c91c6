// Package messages holds what the program says when something is wrong: a list of all of
// it, which shows in review what changes, the rules that it keeps, and that the guide to it
// is true.
package messages

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the list of messages anew")

const list = "messages.txt"

// maxCondition is how much of a condition stands in the list.
const maxCondition = 100

func TestTheListOfMessagesIsUpToDate(t *testing.T) {
	all := source(t)
	var b strings.Builder
	dir := ""
	for _, m := range all {
		if m.dir != dir {
			dir = m.dir
			fmt.Fprintf(&b, "\n== %s\n", dir)
		}
		when := []rune(m.when)
		if len(when) > maxCondition {
			when = append(when[:maxCondition], '…')
		}
		place := fmt.Sprintf("%s, %s %s: %s", m.kind, m.file, m.function, string(when))
		fmt.Fprintf(&b, "%s\n    %s\n", strings.ReplaceAll(m.text, "\n", `\n`), strings.TrimRight(place, ": "))
	}
	if *update {
		if err := os.WriteFile(list, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != string(old) {
		t.Errorf("%s is out of date: write it by go test ./test/messages -update, and read the diff", list)
	}
	if len(all) < 1000 {
		t.Errorf("only %d messages", len(all))
	}
}

// rules are what no message is: each with a pattern, and what to do instead.
var rules = []struct{ pattern, instead string }{
	{`^\s|\s$|  |\t`, "no blanks around it, none doubled"},
	{`[.!]$`, "no full stop: more may follow"},
	{`^[A-Z][a-z]+ `, "begin it in lower case: it stands behind what was done"},
	{`(?i)\b(failed to|unable to|cannot|can not|please|sorry|oops|invalid|illegal|unexpected|bad [a-z]+ (name|value))\b`, "say what is wrong with what, as a colleague would"},
	{`(?i)\ban? (unknown )?error\b|\berror(s)? (in|while|when)\b|\berror:`, "say what went wrong: that it is an error, all know"},
	{`\b(nil|EOF|panic|goroutine|struct|stdlib)\b|%[+#]?v%|%T|%\+v|%#v`, "that is Go's, not the admin's"},
	{`\b(ioctl|fcntl|setns|statfs|prctl|open_tree|openat2?)\b|\b(LOOP|XFS_IOC|BLK|FIC|BTRFS_IOC)[A-Z_]*\b`, "that is the kernel's programming interface: say what was done"},
	{`(?i)\b(issue|bug|todo|fixme|xxx)\b`, "nothing for the admin"},
	{`\\n$|\n$`, "one line"},
}

func broken(text string) (instead []string) {
	for _, rule := range rules {
		if regexp.MustCompile(rule.pattern).MatchString(text) {
			instead = append(instead, rule.instead)
		}
	}
	return instead
}

func TestEachMessageKeepsTheRules(t *testing.T) {
	for _, m := range source(t) {
		for _, instead := range broken(m.text) {
			t.Errorf("%s: %q: %s", m.at(), m.text, instead)
		}
	}
}

func TestABrokenRuleIsSeen(t *testing.T) {
	for text, want := range map[string]int{
		"disk %s is in use: %s; stop what uses it first": 0,
		"GRUB's boot record: %w":                         0,
		"failed to open %s: %w":                          1,
		"Disk %s is too small":                           1,
		"disk %s is too small.":                          1,
		"ioctl LOOP_CLR_FD: %w":                          1,
		"disk  %s":                                       1,
		"unexpected EOF in %s ":                          3,
		"an error occurred: %v":                          1,
	} {
		if got := broken(text); len(got) != want {
			t.Errorf("%q: %q, want %d", text, got, want)
		}
	}
}
