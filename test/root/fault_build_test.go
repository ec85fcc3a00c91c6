//go:build root

package root

import (
	"os"
	"path/filepath"
	"testing"

	"instance-debootstrap/test/fault"
)

// buildFaulty builds the program that says what it comes to, and has the lab use it until the
// test's end.
func buildFaulty(t *testing.T) {
	t.Helper()
	overlay, err := fault.Faulty(absolute(t, "../.."), t.TempDir())
	must(t, err)
	buildOverlaid(t, overlay)
}

// buildChanged builds a program that has another text in the place of one in each of some files,
// and has the lab use it until the test's end.
func buildChanged(t *testing.T, lines map[string][2]string) {
	t.Helper()
	var differ []fault.Line
	for file, line := range lines {
		differ = append(differ, fault.Line{File: file, Text: line[0], Instead: line[1]})
	}
	overlay, err := fault.Changed(absolute(t, "../.."), t.TempDir(), differ...)
	must(t, err)
	buildOverlaid(t, overlay)
}

func buildOverlaid(t *testing.T, overlay string) {
	t.Helper()
	before := program
	t.Cleanup(func() { program = before })
	program = filepath.Join(base, "changed", "instance-debootstrap")
	must(t, os.MkdirAll(filepath.Dir(program), 0o755))
	t.Cleanup(func() { os.RemoveAll(filepath.Join(base, "changed")) })
	must(t, buildProgram(program, "-overlay", overlay))
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	must(t, err)
	return path
}
