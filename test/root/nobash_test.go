//go:build root

package root

import (
	"os"
	"path/filepath"
	"testing"
)

// TestVerifyFailsWhereBashItselfDoes: what a settings file has, nobody knows then; only of a command
// of the file that failed may an instance's absence be the reason.
func TestVerifyFailsWhereBashItselfDoes(t *testing.T) {
	l := newLab(t, 600)
	l.write("default", "SUITE=trixie\n", 0o644)
	for script, want := range map[string]string{
		"echo no luck >&2; exit 5": `verify: settings: .*/default: bash can't read it: no luck`,
		`[ "$4" = -n ] || exit 5`:  `verify: settings: .*/default: bash, which reads the file, ended with exit status 5 before the first command: install the package bash again`,
		"kill -9 $$":               `verify: settings: .*/default: bash, which reads the file, was ended by SIGKILL before the first command: run it again; dmesg says whether the node had too little memory`,
	} {
		stand := filepath.Join(t.TempDir(), "bash")
		must(t, os.WriteFile(stand, []byte("#!/bin/dash\n"+script+"\n"), 0o755))
		cmd := l.command("verify", "parameters")
		cmd.Args = append(cmd.Args[:1:1], append([]string{"--mount", "sh", "-c", "mount --bind " + stand + ` /bin/bash && exec "$0" "$@"`, "unshare"}, cmd.Args[1:]...)...)
		out, _ := cmd.CombinedOutput()
		l.matches(string(out), want)
		if exit := cmd.ProcessState.ExitCode(); exit != 1 {
			t.Errorf("%s: exit status %d", script, exit)
		}
	}
}
