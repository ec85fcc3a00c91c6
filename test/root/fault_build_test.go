//go:build root

package root

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// faultyLines are the program's lines that a step and a tool are started by, and what the
// fault matrix has in their place: with testdata/faulty, the program does the same, and says
// what it comes to.
var faultyLines = []struct{ file, line, instead string }{
	{"pkg/session/session.go", "err := step.Run(ctx)\n", "err := faulty.Step(step.Name, func() error { return step.Run(ctx) })\n"},
	{"pkg/command/command.go", "err = start(cmd, c.In)\n", "err = faulty.Start(cmd, c.Stdout != nil, func() error { return start(cmd, c.In) })\n"},
	{"pkg/command/daemon.go", "err := cell.Start(cmd, *c.In);", "err := faulty.Start(cmd, false, func() error { return cell.Start(cmd, *c.In) });"},
}

// lockCall is how a lock is taken, wherever that is.
var lockCall = regexp.MustCompile(`\b(unix|syscall)\.(Flock|FcntlFlock)\(`)

// faultySources are the program's files that differ, by their paths.
func faultySources(t *testing.T, top string) map[string]string {
	t.Helper()
	changed := map[string]string{}
	for _, c := range faultyLines {
		source := filepath.Join(top, c.file)
		text, err := os.ReadFile(source)
		must(t, err)
		if strings.Count(string(text), c.line) != 1 {
			t.Fatalf("%s has no longer one line %q", c.file, c.line)
		}
		changed[source] = strings.Replace(string(text), c.line, c.instead, 1)
	}
	for _, dir := range []string{"cmd", "os", "pkg"} {
		must(t, filepath.WalkDir(filepath.Join(top, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if before := cmp.Or(changed[path], string(text)); err == nil && lockCall.MatchString(before) {
				changed[path] = lockCall.ReplaceAllString(before, "faulty.$2(") + "\nvar _ unix.Flock_t\n"
			}
			return err
		}))
	}
	return changed
}

// buildFaulty builds that program, and has the lab use it until the test's end.
func buildFaulty(t *testing.T) {
	t.Helper()
	top := absolute(t, "../..")
	added := map[string]string{top + "/pkg/faulty/faulty.go": absolute(t, "testdata/faulty/faulty.go")}
	changed := faultySources(t, top)
	for source, text := range changed {
		changed[source] = strings.Replace(text, "import (\n", "import (\n\t\"instance-debootstrap/pkg/faulty\"\n", 1)
	}
	buildOverlaid(t, added, changed)
}

// buildChanged builds a program that has another text in the place of one in each of some files,
// and has the lab use it until the test's end.
func buildChanged(t *testing.T, lines map[string][2]string) {
	t.Helper()
	changed := map[string]string{}
	for file, line := range lines {
		source := filepath.Join(absolute(t, "../.."), file)
		text, err := os.ReadFile(source)
		must(t, err)
		if strings.Count(string(text), line[0]) != 1 {
			t.Fatalf("%s has no longer one line %q", file, line[0])
		}
		changed[source] = strings.Replace(string(text), line[0], line[1], 1)
	}
	buildOverlaid(t, map[string]string{}, changed)
}

// buildOverlaid builds the program with files in the place of others, and with other texts in
// the place of files'.
func buildOverlaid(t *testing.T, replace, changed map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for source, text := range changed {
		replace[source] = filepath.Join(dir, fmt.Sprint(len(replace), ".go"))
		must(t, os.WriteFile(replace[source], []byte(text), 0o644))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	must(t, err)
	must(t, os.WriteFile(dir+"/overlay.json", overlay, 0o644))
	before := program
	t.Cleanup(func() { program = before })
	program = filepath.Join(base, "changed", "instance-debootstrap")
	must(t, os.MkdirAll(filepath.Dir(program), 0o755))
	t.Cleanup(func() { os.RemoveAll(filepath.Join(base, "changed")) })
	must(t, buildProgram(program, "-overlay", dir+"/overlay.json"))
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	must(t, err)
	return path
}

// helpers makes the programs that stand in for each tool that fails, or whose output is
// garbage.
func (l *lab) helpers(dir string, tools []string) {
	l.Helper()
	const garbage = "for i in 1 2 3; do echo -e '\\033[2J\\x00\\xff\\x9b garbage: \"{<(\\n0\\n-1 18446744073709551616 7:\\t='; done; echo >&2 -e '\\033]0;x\\007\\xff'"
	for kind, script := range map[string]string{"fails": `echo "the reason of ${0##*/}" >&2; exit 5`, "garbage": garbage} {
		must(l, os.MkdirAll(filepath.Join(dir, kind), 0o755))
		for _, tool := range tools {
			must(l, os.WriteFile(filepath.Join(dir, kind, tool), []byte("#!/bin/bash\n"+script+"\n"), 0o755))
		}
	}
}

// toolsOnPath are where the program finds a tool.
func toolsOnPath(tool string) (paths []string) {
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"} {
		if _, err := os.Stat(dir + "/" + tool); err == nil {
			paths = append(paths, dir+"/"+tool)
		}
	}
	return paths
}
