package bash

import (
	"bytes"
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

// names returns the variables that a text may set: its words.
func names(text string) []string {
	set := map[string]bool{"EMPTY": true, "DISK_1_PATH": true}
	for _, n := range regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`).FindAllString(text, -1) {
		if !shellsOwn(n) && n != "HOSTNAME" && n != "PATH" {
			set[n] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// realBash evaluates a file by bash itself, with errexit, and reads its state.
func realBash(t testing.TB, path, text string) state {
	t.Helper()
	ns := names(text)
	const report = `
trap '' EXIT; set +eu +f; IFS=' 	
'
for __n in $NAMES_TO_SHOW; do
  eval "__a=\${$__n@a} __is=\${$__n[*]+x}"
  if [[ -n $__is ]]; then printf '%s\0%s\0%s\0' "$__n" "${__a//[!aAx]/}" "${!__n}"
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
		st.Vars[f[i]] = strings.Replace(f[i+1], "A", "a", 1) + "|" + f[i+2]
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
	s := New(Config{Environ: testEnv, Stderr: &said})
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Source(ctx, file); err != nil {
		return state{Failed: true}, err
	}
	st := state{Vars: map[string]string{}}
	for _, n := range names(text) {
		v, set := s.vars[n]
		attr := ""
		switch {
		case !set:
			attr = "unset"
		case v.array:
			attr = "a"
		}
		if v.exported {
			attr += "x"
		}
		st.Vars[n] = attr + "|" + v.value
	}
	for name, v := range s.vars {
		if v.exported && !v.array {
			st.Env = append(st.Env, name+"="+v.value)
		}
	}
	st.Env = cleanEnv(st.Env)
	return st, nil
}

// compare runs a text by both. The result is "" when they agree, and otherwise how they
// differ.
func compare(t testing.TB, text string) string {
	t.Helper()
	got, err := ours(t, "settings", text)
	want := realBash(t, "settings", text)
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
