package guest

import (
	"errors"
	"io/fs"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// powerEvent is a line of an acpid rule for the power button, itself an expression:
// event=button[ /]power (acpid(8)).
var powerEvent = pattern.New(`(?m)^\s*event\s*=.*(button.{0,5}power|PBTN|PWRF)`)

// maxAcpiEvents is how many of acpid's rules are read; Debian's acpid has one.
const maxAcpiEvents = 100

// AnswersPowerButton tells whether something in the guest shuts it down when its
// power button is pressed: systemd-logind, which needs a system bus, or acpid with
// an event for it, which is all that other inits have. What can't be read is no
// answer.
func AnswersPowerButton(r *Root) bool {
	const folder = "/etc/acpi/events"
	if r.anyOf("/usr/sbin/acpid", "/sbin/acpid") != "" {
		names, _ := r.ReadDir(folder)
		for _, name := range names[:min(len(names), maxAcpiEvents)] {
			if text, err := r.ReadFile(folder+"/"+name, maxConfig); err == nil && powerEvent().Match(text) {
				return true
			}
		}
	}
	return initSystem(r) == "systemd" &&
		r.anyOf("/usr/lib/systemd/systemd-logind", "/lib/systemd/systemd-logind") != "" &&
		r.anyOf("/usr/bin/dbus-daemon", "/usr/bin/dbus-broker-launch", "/usr/bin/dbus-broker") != ""
}

// RootIsOpen tells whether root's password is blank: the field of /etc/shadow, or
// of /etc/passwd where there is no shadow.
func RootIsOpen(r *Root) (bool, error) {
	for _, name := range []string{"/etc/shadow", "/etc/passwd"} {
		text, err := r.ReadFile(name, maxConfig)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Split(line, ":"); f[0] == "root" && len(f) > 2 {
				return f[1] == "", nil
			}
		}
	}
	return false, nil
}
