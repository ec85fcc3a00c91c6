package hooks

import (
	"slices"
	"strings"
)

// lastWords are the lines that say why a hook failed: its last ones, but for the
// trace (set -x) of what it cleans up when it ends. That begins with the call of
// cleanup, as in `trap cleanup EXIT`; in a hook that cleans up otherwise, after the
// last line that isn't trace, where there is one.
func lastWords(lines []string) []string {
	for i, line := range slices.Backward(lines) {
		if words, traced := traced(line); traced && words == "cleanup" {
			return last(lines[:i])
		}
	}
	for i, line := range slices.Backward(lines) {
		if _, traced := traced(line); !traced {
			return last(lines[:i+1])
		}
	}
	return last(lines)
}

func last(lines []string) []string { return lines[max(0, len(lines)-tailLines):] }

// traced returns the command of a line that a shell has traced: PS4, "+ ", whose
// first character stands as often as substitutions are nested.
func traced(line string) (command string, ok bool) {
	rest := strings.TrimLeft(line, "+")
	command, ok = strings.CutPrefix(rest, " ")
	return strings.TrimSpace(command), ok && rest != line
}
