package settings

import (
	"fmt"
	"strings"
)

// DefaultsFile returns the annotated defaults file: every setting commented
// out, with its default or an example.
func DefaultsFile() string {
	var b strings.Builder
	b.WriteString(`# Settings of instance-debootstrap, the Ganeti OS definition "debootstrap".
#
# This file is read as bash, for each instance that is installed: it sees what
# Ganeti says of the instance (INSTANCE_NAME, DISK_1_PATH, …), and what it
# exports reaches the hooks. A command in it that fails stops the installation.
# A variant's file, variants/VARIANT.conf, is read after it and wins, and OS
# parameters (gnt-instance add -O suite=…) win over both.
#
# Only root may be able to write to this file.
`)
	for _, s := range Table() {
		b.WriteString("\n")
		name := s.Name
		if s.Param != "" {
			name += " (OS parameter " + s.Param + ")"
		}
		values := s.Range
		if s.Default != "" {
			values += "; the default is " + s.Default
		}
		for _, line := range wrap(name+": "+s.Text+" Values: "+values+".", 76) {
			b.WriteString("# " + line + "\n")
		}
		value := s.Default
		if s.Example != "" {
			value = s.Example
		}
		fmt.Fprintf(&b, "#%s=\"%s\"\n", s.Name, value)
	}
	return b.String()
}

func firstSentence(text string) string {
	first, _, _ := strings.Cut(text, ". ")
	first, _, _ = strings.Cut(first, "; ")
	return first
}

// wrap breaks a text into lines of at most width letters.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
