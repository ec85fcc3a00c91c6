// Package mounts reads what is mounted.
package mounts

import (
	"os"
	"strings"
)

// Mount is a line of proc_pid_mountinfo(5).
type Mount struct {
	ID, Device string // Device is major:minor
	Point      string
	Type       string
	Source     string
}

// unescape undoes what the kernel writes in octal.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\043`, "#", `\134`, `\`)

// List returns the mounts of a namespace, in the kernel's order: a mount comes after those
// that it is mounted in or on. process is "self", or "thread-self" for the thread's own.
func List(process string) (list []Mount, err error) {
	text, err := os.ReadFile("/proc/" + process + "/mountinfo")
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		f, rest := strings.Fields(before), strings.Fields(after)
		if len(f) > 4 && len(rest) > 1 {
			list = append(list, Mount{f[0], f[2], unescape.Replace(f[4]), rest[0], unescape.Replace(rest[1])})
		}
	}
	return list, err
}
