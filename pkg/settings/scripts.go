package settings

import (
	"fmt"
	"path/filepath"

	"instance-debootstrap/pkg/settings/bash"
)

// The files were written for the shell scripts, which read them in the midst of their own
// code: what they find there is found here too.

// logError is the scripts' function for messages.
const logError = `log_error() { builtin echo "$@" >&2; }
`

// newShell makes the shell that the files are evaluated by.
func newShell(src Sources) *bash.Shell {
	sh := bash.New(bash.Config{
		Environ: src.Environ, Stderr: src.Stderr, ReadFile: readTrusted, Secrets: secrets(),
		Name: src.Script, Functions: logError,
	})
	sh.Set("DEFAULT_FILE", src.DefaultsFile)
	return sh
}

// scriptVariables gives variants the names that the shell scripts had set by
// the time they read them.
func (l *loader) scriptVariables() {
	for name, from := range map[string]string{"instance": "INSTANCE_NAME", "old_name": "OLD_INSTANCE_NAME", "blockdev": fmt.Sprintf("DISK_%d_PATH", l.src.Root)} {
		if value, ok := l.sh.Get(from); ok {
			l.sh.Set(name, value)
		}
	}
	l.sh.Set("SCRIPT_NAME", filepath.Base(l.src.Script))
	l.sh.Set("VOL_ID", "/sbin/blkid -p -o value -s UUID")
	l.sh.Set("VOL_TYPE", "/sbin/blkid -p -o value -s TYPE")
}

// warnScriptsOwn warns of what had an effect in the scripts' code, and has none here.
func (l *loader) warnScriptsOwn() {
	for _, own := range [][2]string{
		{"instance", "the guest is called as Ganeti calls the instance; a hook can change that"},
		{"CLEANUP", "what is in it is not run; a hook has one of its own"},
	} {
		if at, set := l.sh.SetBy(own[0]); set {
			l.warn(fmt.Sprintf("%s: %s is the shell scripts' own: %s", at, own[0], own[1]))
		}
	}
}
