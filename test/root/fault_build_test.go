//go:build root

package root

import (
	"os"
	"path/filepath"
	"testing"

	"instance-debootstrap/test/fault"
)

// scratchLines have the scratch that a tree is built in have as many bytes as FAULTY_MEMORY says, 0 is
// none in memory, or FAULTY_SCRATCH of the one on the cache's disk.
var scratchLines = []fault.Line{
	{File: "pkg/install/scratch.go", Text: "if size < minMemory {\n", Instead: "size = faulty.Bytes(\"FAULTY_MEMORY\", size)\n\tif size == 0 {\n"},
	{File: "pkg/install/scratch.go", Text: "min(free&^4095, 64<<30)", Instead: `faulty.Bytes("FAULTY_SCRATCH", min(free&^4095, 64<<30))`},
}

// buildFaulty builds the program that says what it comes to, and has the lab use it until the
// test's end.
func buildFaulty(t *testing.T) {
	t.Helper()
	overlay, err := fault.Faulty(absolute(t, "../.."), t.TempDir(), scratchLines...)
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
