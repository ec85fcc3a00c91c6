// Package script runs the testscript tests of building, installing and calling
// the tool by its names. Each script has a copy of the source in $SRC and may
// build, configure and install in it as it likes.
package script

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// goEnv is what the go command needs to know of the real environment, where a
// script has neither a home nor the caller's variables.
var goEnv = []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GOTOOLCHAIN", "GOROOT"}

// source is what a build needs, from the project's folder.
var source = []string{
	"Makefile", "configure.ac", "config.mk.in", "VERSION", "go.mod", "go.sum", "tools", "cmd", "os", "pkg",
	"ganeti_api_version", "variants.list", "parameters.list", "common.sh.in", "defaults", "hooks", "docs", "contrib", "examples",
}

func TestScripts(t *testing.T) {
	names, err := exec.Command("go", append([]string{"env"}, goEnv...)...).Output()
	if err != nil {
		t.Fatalf("go env: %v", err)
	}
	values := strings.Split(string(names), "\n")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"static": isStatic,
			"tree":   listTree,
		},
		Setup: func(env *testscript.Env) error {
			src := filepath.Join(env.WorkDir, "src")
			if err := os.Mkdir(src, 0o755); err != nil {
				return err
			}
			for _, name := range source {
				out, err := exec.Command("cp", "-a", filepath.Join("../..", name), src).CombinedOutput()
				if err != nil {
					return fmt.Errorf("%s: %w", out, err)
				}
			}
			root, err := filepath.Abs("../..")
			if err != nil {
				return err
			}
			env.Setenv("ROOT", root)
			env.Setenv("SRC", src)
			for i, name := range goEnv {
				env.Setenv(name, values[i])
			}
			return nil
		},
	})
}

// isStatic: static FILE: an ELF program that needs neither a dynamic loader nor
// a library.
func isStatic(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: static FILE")
	}
	f, err := elf.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			ts.Fatalf("%s has a %v segment", args[0], p.Type)
		}
	}
}

// listTree: tree DIR OUT: lists what is in DIR, a line each, in order: mode,
// path, and a link's target. Every link has to lead to something inside DIR.
func listTree(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: tree DIR OUT")
	}
	root, err := filepath.EvalSymlinks(ts.MkAbs(args[0]))
	ts.Check(err)
	var out bytes.Buffer
	var lines []string
	ts.Check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%v %s", info.Mode(), strings.TrimPrefix(path, root))
		if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			real, err := filepath.EvalSymlinks(path)
			if err != nil || !strings.HasPrefix(real, root+"/") {
				return fmt.Errorf("%s -> %s leads outside: %s %v", path, target, real, err)
			}
			line += " -> " + target
		}
		lines = append(lines, line)
		return nil
	}))
	slices.SortFunc(lines, func(a, b string) int {
		return strings.Compare(strings.SplitN(a, " ", 2)[1], strings.SplitN(b, " ", 2)[1])
	})
	for _, line := range lines {
		fmt.Fprintln(&out, line)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), out.Bytes(), 0o644))
}
