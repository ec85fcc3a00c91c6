//go:build root

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The shells themselves read the files of contrib/completions, and ask the program.
func TestTheShellsCompleteCommandLines(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "instance-debootstrap"), ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files, err := filepath.Abs("../../contrib/completions")
	if err != nil {
		t.Fatal(err)
	}
	// zsh shows its candidates on a terminal only: a stand-in for the function that shows
	// them prints what it is given.
	for _, c := range []struct{ shell, script, want string }{
		{"bash", `. "$FILES/instance-debootstrap.bash"
			COMP_WORDS=(instance-debootstrap vm gr) COMP_CWORD=2; _instance_debootstrap; echo "${COMPREPLY[*]}"
			COMP_WORDS=(instance-debootstrap install --suite tr) COMP_CWORD=3; _instance_debootstrap; echo "${COMPREPLY[*]}"`, "grub grow\ntrixie"},
		{"fish", `source $FILES/instance-debootstrap.fish
			complete -C 'instance-debootstrap vm gr' | string replace -r '\t.*' ''
			complete -C 'instance-debootstrap install --suite tr'`, "grow\ngrub\ntrixie"},
		{"zsh", `compdef() { : }; _files() { echo files }
			_describe() { local f; for f in "${found[@]}"; do echo "${f%%:*}"; done }
			ask() { words=("$@"); CURRENT=$#; . "$FILES/_instance-debootstrap" }
			ask instance-debootstrap vm gr; ask instance-debootstrap install --suite tr; ask instance-debootstrap install --size ''`, "grub\ngrow\ntrixie\nfiles"},
	} {
		cmd := exec.Command(c.shell, "-c", c.script)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "FILES="+files, "HOME="+dir)
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
			t.Errorf("%s: %v, %q; want %q", c.shell, err, got, c.want)
		}
	}
}
