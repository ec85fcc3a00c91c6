package bash

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"mvdan.cc/sh/v3/syntax"
)

// testEnv is a part of what Ganeti passes to create.
var testEnv = []string{
	"PATH=/usr/bin:/bin", "INSTANCE_NAME=web1.example.com", "DISK_COUNT=2", "DISK_0_PATH=/dev/vg/root", "DISK_1_PATH=/dev/vg/swap",
	"DISK_0_SIZE=20480", "OS_VARIANT=default", "NIC_0_IP=192.0.2.7", "EMPTY=", "OSP_FILESYSTEM=xfs",
	"INSTANCE_HV_serial_console=True",
}

// state is what a file leaves behind.
type state struct {
	Vars   map[string]string // "unset", or attributes and value
	Env    []string          // what a command would see, without the shell's own
	Failed bool
}

// names returns the variables that a text may set.
func names(text string) []string {
	set := map[string]bool{"EMPTY": true, "DISK_1_PATH": true}
	f, err := parse("test", []byte(text))
	if err != nil {
		return nil
	}
	syntax.Walk(f, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Assign:
			if n.Name != nil {
				set[n.Name.Value] = true
			}
		case *syntax.ParamExp:
			if n.Param != nil && validName(n.Param.Value) {
				set[n.Param.Value] = true
			}
		case *syntax.WordIter:
			set[n.Name.Value] = true
		}
		return true
	})
	for _, m := range regexp.MustCompile(`read -r ([A-Za-z_ ]+)`).FindAllStringSubmatch(text, -1) {
		for _, n := range strings.Fields(m[1]) {
			set[n] = true
		}
	}
	for _, own := range []string{"BASH_REMATCH", "HOSTNAME", "HOME", "PATH", "PWD", "LINENO"} {
		delete(set, own)
	}
	var out []string
	for n := range set {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// realBash evaluates a file by bash itself, with errexit, and reads its state.
func realBash(t testing.TB, path, text string) state {
	t.Helper()
	ns := names(text)
	const report = `
trap '' EXIT; set +eu +f; IFS=' 	
'
for __n in $NAMES_TO_SHOW; do
  if [[ -n ${!__n+x} ]] || eval "[[ \${$__n@a} == *a* ]]"; then
    eval "__a=\${$__n@a}"; printf '%s\0%s\0' "$__n" "${__a//[!ax]/}"; eval "printf '%s\\x1f' \"\${$__n[@]}\""; printf '\0'
  else printf '%s\0unset\0\0' "$__n"; fi
done >"$REPORT.vars"
env -0 >"$REPORT.env"
`
	dir := t.TempDir()
	main := filepath.Join(dir, "main")
	// "." is not in a condition, so that errexit holds in the file; a file whose
	// last command is false doesn't fail, since Source says so.
	body := "set -e\n. \"$FILE_TO_READ\"\n"
	if err := os.WriteFile(main, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	whole := text + "\n" + report
	file := filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	rep := filepath.Join(dir, "report")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "--norc", "--noprofile", main)
	cmd.Env = append(slices.Clone(testEnv), "FILE_TO_READ="+file, "REPORT="+rep, "NAMES_TO_SHOW="+strings.Join(ns, " "))
	cmd.Dir = dir
	out, _ := cmd.CombinedOutput()
	vars, err := os.ReadFile(rep + ".vars")
	if err != nil {
		return state{Failed: true}
	}
	env, err := os.ReadFile(rep + ".env")
	if err != nil {
		t.Fatalf("bash: %v\n%s", err, out)
	}
	st := state{Vars: map[string]string{}}
	f := strings.Split(string(vars), "\x00")
	for i := 0; i+2 < len(f); i += 3 {
		st.Vars[f[i]] = f[i+1] + "|" + strings.TrimSuffix(f[i+2], "\x1f")
	}
	st.Env = cleanEnv(strings.Split(string(env), "\x00"))
	return st
}

// cleanEnv leaves out what a shell sets for itself or the test for its own use.
func cleanEnv(env []string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "", "_", "SHLVL", "PWD", "OLDPWD", "FILE_TO_READ", "REPORT", "NAMES_TO_SHOW":
		default:
			out = append(out, kv)
		}
	}
	slices.Sort(out)
	return out
}

// ours evaluates the same file by this package.
func ours(t testing.TB, path, text string) (state, error) {
	t.Helper()
	var said bytes.Buffer
	file := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Environ: testEnv, Stderr: &said})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Source(ctx, file); err != nil {
		return state{Failed: true}, err
	}
	st := state{Vars: map[string]string{}}
	env := map[string]string{}
	for name, v := range s.runner.Vars {
		if s.exported(name) {
			env[name] = v.Str
		}
	}
	for _, n := range names(text) {
		v := s.runner.Vars[n]
		attr := ""
		switch {
		case s.IsArray(n):
			st.Vars[n] = "a|" + strings.Join(v.List, "\x1f")
			continue
		case !v.IsSet():
			st.Vars[n] = "unset|"
			continue
		case s.exported(n):
			attr = "x"
		}
		st.Vars[n] = attr + "|" + v.Str
	}
	for name, value := range env {
		st.Env = append(st.Env, name+"="+value)
	}
	st.Env = cleanEnv(st.Env)
	return st, nil
}

// compare runs a text by both. The result is "" when they agree, "refused" when
// ours doesn't take the text, and otherwise how they differ.
func compare(t testing.TB, text string) string {
	t.Helper()
	got, err := ours(t, "settings", text)
	want := realBash(t, "settings", text)
	var e *Error
	if err != nil && !(errors.As(err, &e) && e.AtRunTime) {
		return "refused: " + err.Error()
	}
	if got.Failed != want.Failed {
		return "ours failed: " + boolText(got.Failed) + ", bash: " + boolText(want.Failed) + " (" + errText(err) + ")"
	}
	return cmp.Diff(want, got)
}

func boolText(b bool) string { return map[bool]string{true: "yes", false: "no"}[b] }
func errText(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}
