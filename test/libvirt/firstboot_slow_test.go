//go:build root && slow

package libvirt

import (
	"strings"
	"testing"
)

func TestAGuestRunsItsUserDataAndItsScript(t *testing.T) {
	l := newLab(t)
	l.write("/srv/user-data", "#cloud-config\nusers:\n- default\n- name: ann\n")
	l.write("/srv/first-boot", "#!/bin/sh\necho hello from $(hostname)\n")
	if out := l.vm(small("--cloud-init", "/srv/user-data", "--first-boot", "/srv/first-boot", "--dry-run", "web1")...); !strings.Contains(out, "USER_DATA, by cloud-init, FIRST_BOOT") {
		t.Errorf("the plan is\n%s", out)
	}
	l.fails("USER_DATA: file /srv/first on this node", append(append([]string{program, "vm"}, small("--cloud-init", "/srv/first")...), "web1")...)
	l.vm(small("--cloud-init", "/srv/user-data", "--first-boot", "/srv/first-boot", "--wait", "web1")...)
	got := l.vm("ssh", "-i", key, "web1", "cloud-init status --wait | tail -n 1; id -un ann; until grep -o 'ended.*' /var/log/instance-debootstrap-first-boot.log; do sleep 1; done; grep hello /var/log/instance-debootstrap-first-boot.log")
	if !strings.HasSuffix(got, "status: done\nann\nended with exit status 0\nhello from web1\n") {
		t.Errorf("in the guest: %q", got)
	}
	l.vm("remove", "--yes", "--stop", "web1")
	l.clean(0)
}
