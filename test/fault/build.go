// Package fault is what the fault matrices of test/root and test/libvirt share: the program that
// says which steps, tools and locks it comes to, the cells that follow from that, how a run with a
// fault is made and what it has to say, and which cells are tried. docs/reliability.md says what
// is looked at, and what was seen.
package fault

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Line is a text that a file of the program has once, and what is in its place.
type Line struct{ File, Text, Instead string }

// lines are where a step, a tool, a hook and the bash that reads the settings are started, and what
// the fault matrix has in their place:
// with testdata/faulty, the program does the same, and says what it comes to.
var lines = []Line{
	{"pkg/session/session.go", "err := step.Run(ctx)\n", "err := faulty.Step(step.Name, func() error { return step.Run(ctx) })\n"},
	{"pkg/command/command.go", "err = start(cmd, c.In, c.OneCPU)\n", "err = faulty.Start(cmd, c.Stdout != nil, func() error { return start(cmd, c.In, c.OneCPU) })\n"},
	{"pkg/settings/bash/process.go", "err = p.cmd.Start()\n", "err = faulty.Start(p.cmd, true, p.cmd.Start)\n"},
	{"pkg/hooks/run.go", "err = cmd.Start()\n", "err = faulty.Start(cmd, false, cmd.Start)\n"},
	{"pkg/command/daemon.go", "err := cell.Start(cmd, *c.In);", "err := faulty.Start(cmd, false, func() error { return cell.Start(cmd, *c.In) });"},
}

// lockCall is how a lock is taken, wherever that is.
var lockCall = regexp.MustCompile(`\b(unix|syscall)\.(Flock|FcntlFlock)\(`)

// Faulty makes go's overlay, in a folder, of the program that says what it comes to; top is the
// project's folder. More lines may differ.
func Faulty(top, dir string, more ...Line) (overlay string, err error) {
	changed, err := change(top, append(slices.Clone(lines), more...))
	if err != nil {
		return "", err
	}
	for _, folder := range []string{"cmd", "os", "pkg"} {
		err := filepath.WalkDir(filepath.Join(top, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if before := cmp.Or(changed[path], string(text)); err == nil && lockCall.MatchString(before) {
				changed[path] = lockCall.ReplaceAllString(before, "faulty.$2(") + "\nvar _ unix.Flock_t\n"
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	for source, text := range changed {
		if strings.Contains(text, "faulty.") {
			changed[source] = strings.Replace(text, "import (\n", "import (\n\t\"instance-debootstrap/pkg/faulty\"\n", 1)
		}
	}
	return write(dir, changed, map[string]string{top + "/pkg/faulty/faulty.go": top + "/test/fault/testdata/faulty/faulty.go"})
}

// Changed makes go's overlay, in a folder, of a program of which only these lines differ.
func Changed(top, dir string, differ ...Line) (overlay string, err error) {
	changed, err := change(top, differ)
	if err != nil {
		return "", err
	}
	return write(dir, changed, map[string]string{})
}

// change returns the files that differ, by their paths.
func change(top string, differ []Line) (changed map[string]string, err error) {
	changed = map[string]string{}
	for _, line := range differ {
		source := filepath.Join(top, line.File)
		text, err := os.ReadFile(source)
		if err != nil {
			return nil, err
		}
		before := cmp.Or(changed[source], string(text))
		if strings.Count(before, line.Text) != 1 {
			return nil, fmt.Errorf("%s has no longer one line %q", line.File, line.Text)
		}
		changed[source] = strings.Replace(before, line.Text, line.Instead, 1)
	}
	return changed, nil
}

// write writes an overlay: texts, and files, in the place of others.
func write(dir string, changed, replace map[string]string) (overlay string, err error) {
	for _, source := range slices.Sorted(maps.Keys(changed)) {
		replace[source] = filepath.Join(dir, fmt.Sprint(len(replace), ".go"))
		if err := os.WriteFile(replace[source], []byte(changed[source]), 0o644); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o644)
}

const (
	garbageScript = "for i in 1 2 3; do echo -e '\\033[2J\\x00\\xff\\x9b garbage: \"{<(\\n0\\n-1 18446744073709551616 7:\\t='; done; echo >&2 -e '\\033]0;x\\007\\xff'"
	failsScript   = `echo "the reason of ${0##*/}" >&2; exit 5`
)

// StandIns makes the programs that stand in for each tool that fails, or whose output is garbage.
// One whose work is a daemon's, as virsh's is, has that done beside its garbage, or before it
// fails: nobody could tell otherwise.
func StandIns(dir string, tools []string) error {
	for _, tool := range tools {
		scripts := map[string]string{Fails: failsScript, Garbage: garbageScript}
		if real := ToolsOnPath(tool); tool == "virsh" && len(real) > 0 {
			scripts[Garbage] = garbageScript + "; exec " + real[0] + ` "$@" >/dev/null 2>&1`
			scripts[Lost] = real[0] + ` "$@" >/dev/null 2>&1; echo "error: Disconnected from ${0##*/} due to end of file" >&2; exit 1`
		}
		for kind, script := range scripts {
			path := filepath.Join(dir, kind, tool)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte("#!/bin/bash\n"+script+"\n"), 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

// ToolsOnPath are where the program finds a tool.
func ToolsOnPath(tool string) (paths []string) {
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"} {
		if _, err := os.Stat(dir + "/" + tool); err == nil {
			paths = append(paths, dir+"/"+tool)
		}
	}
	return paths
}
