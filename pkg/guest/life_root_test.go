//go:build root

package guest

import (
	"regexp"
	"testing"
)

func TestWhoAnswersThePowerButton(t *testing.T) {
	systemd := []string{"sbin/init->/lib/systemd/systemd", "lib/systemd/systemd-logind="}
	sysvinit := []string{"etc/inittab=", "usr/sbin/acpid="}
	for _, c := range []struct {
		name    string
		entries []string
		want    bool
	}{
		{"systemd", append(systemd, "usr/bin/dbus-daemon="), true},
		{"systemd with the other broker", append(systemd, "usr/bin/dbus-broker-launch="), true},
		{"systemd without a bus", systemd, false},
		{"acpid", append(sysvinit, "etc/acpi/events/powerbtn-acpi-support=# x\nevent=button[ /]power\naction=/etc/acpi/powerbtn.sh\n"), true},
		{"acpid without an event", sysvinit, false},
		{"acpid with another event", append(sysvinit, "etc/acpi/events/lid=event=button/lid\naction=x\n"), false},
		{"a bus without systemd", []string{"etc/inittab=", "usr/bin/dbus-daemon="}, false},
	} {
		r, _, _ := tree(t, c.entries...)
		if got := AnswersPowerButton(r); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestWhetherRootIsOpen(t *testing.T) {
	for shadow, want := range map[string]bool{"root::19000:0:99999:7:::\n": true, "root:*:19000:0:99999:7:::\n": false, "daemon::1::::::\nroot:$y$x:1::::::\n": false} {
		r, _, _ := tree(t, "etc/passwd=root:x:0:0:root:/root:/bin/bash\n", "etc/shadow="+shadow)
		if got, err := RootIsOpen(r); got != want || err != nil {
			t.Errorf("%q: %v, %v", shadow, got, err)
		}
	}
	r, _, _ := tree(t, "etc/passwd=root::0:0:root:/root:/bin/bash\n")
	if got, err := RootIsOpen(r); !got || err != nil {
		t.Errorf("without shadow passwords: %v, %v", got, err)
	}
}

func TestAnInitThatFillsNoMachineIDGetsOne(t *testing.T) {
	ids := map[string]bool{}
	for range 2 {
		r, top, _ := tree(t, "etc/inittab=", "etc/machine-id=0123456789abcdef0123456789abcdef\n")
		must(t, ResetMachineID(r))
		id := text(t, top, "etc/machine-id")
		if !regexp.MustCompile(`^[0-9a-f]{32}\n$`).MatchString(id) || ids[id] {
			t.Errorf("%q", id)
		}
		ids[id] = true
	}
}
