package hooks

import (
	"os"
	"regexp"
	"slices"
	"strings"
)

// trace follows what a hook's shell traces (set -x), to know what is only that of
// what the hook runs when it ends.
type trace struct {
	atExit string // the commands that the hook runs when it ends; "" is none
}

// exitTrap is a trap on the shell's end, as a script or a trace has it.
var exitTrap = regexp.MustCompile(`(?m)(?:^|;|&&)[ \t]*trap (?:-- )?(.+?)((?: (?:EXIT|0|SIG[A-Z]+|[A-Z]+|[0-9]+))+)[ \t]*(?:#.*)?$`)

// newTrace begins with what the hook's text says of its end, for one that traces only
// a part of itself.
func newTrace(hook string) (t trace) {
	text, err := os.ReadFile(hook)
	first, _, _ := strings.Cut(string(text), "\n")
	if err != nil || tracesAll.MatchString(first) {
		return t
	}
	if strings.Contains(string(text), "common.sh") {
		t.atExit = "cleanup"
	}
	t.note(string(text))
	return t
}

// tracesAll is the first line of a shell's script that is traced from its beginning.
var tracesAll = regexp.MustCompile(`^#!.* -[a-z]*x`)

// see looks at a line that the hook has printed.
func (t *trace) see(line string) {
	if command, ok := traced(line); ok && strings.HasPrefix(command, "trap ") {
		t.note(command)
	}
}

func (t *trace) note(text string) {
	for _, found := range exitTrap.FindAllStringSubmatch(text, -1) {
		if signals := strings.Fields(found[2]); !slices.Contains(signals, "EXIT") && !slices.Contains(signals, "0") {
			continue
		}
		t.atExit = strings.Trim(found[1], `'"`)
		if t.atExit == "-" {
			t.atExit = ""
		}
	}
}

// lastWords are the lines that say why a hook failed: its last ones, but for the
// trace of what it runs when it ends. That begins with the first of these commands,
// or, where it isn't found, after the last line that isn't trace.
func (t *trace) lastWords(lines []string) []string {
	if t.atExit == "" {
		return last(lines)
	}
	first, times := "", 0 // the first command's name, and how often it is there
	for command := range strings.FieldsFuncSeq(t.atExit, func(r rune) bool { return strings.ContainsRune(";&|\n", r) }) {
		name := commandName(command)
		if first == "" {
			first = name
		}
		if name == first {
			times++
		}
	}
	for i, line := range slices.Backward(lines) {
		if command, ok := traced(line); ok && commandName(command) == first {
			if times--; times == 0 {
				return last(lines[:i])
			}
		}
	}
	for i, line := range slices.Backward(lines) {
		if _, ok := traced(line); !ok {
			return last(lines[:i+1])
		}
	}
	return last(lines)
}

// commandName is a command's first word, of an assignment what it assigns to.
func commandName(command string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(command), " ")
	name, _, _ := strings.Cut(word, "=")
	return name
}

func last(lines []string) []string { return lines[max(0, len(lines)-tailLines):] }

// traced returns the command of a line that a shell has traced: PS4, "+ ", whose
// first character stands as often as substitutions are nested.
func traced(line string) (command string, ok bool) {
	rest := strings.TrimLeft(line, "+")
	command, ok = strings.CutPrefix(rest, " ")
	return strings.TrimSpace(command), ok && rest != line
}
