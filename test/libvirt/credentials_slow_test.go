//go:build root && slow

package libvirt

import (
	"os"
	"testing"
)

func TestAGuestsSystemdHasTheCredentialsAndNobodyOnTheNodeReadsThem(t *testing.T) {
	l := newLab(t)
	token := l.secret("/srv/token", "tell-nobody")
	l.vm(small("--credential", "site.token="+token, "--wait", "web1")...)
	got := l.vm("ssh", "-i", key, "web1", "cat /run/credentials/@system/site.token; echo; systemd-run --quiet --pipe --wait --property LoadCredential=site.token systemd-creds cat site.token; echo; systemctl is-system-running --wait")
	if got != "tell-nobody\ntell-nobody\nrunning\n" {
		t.Errorf("the guest has %q", got)
	}
	if found := l.try("sh", "-c", "grep -laE 'tell-nobod[y]' /proc/[0-9]*/cmdline /proc/[0-9]*/environ; virsh dumpxml --security-info web1 | grep -E 'tell-nobod[y]'; grep -rlE 'tell-nobod[y]' /var/log/libvirt /etc/libvirt "+stateDir); found != "" {
		t.Errorf("it is in\n%s", found)
	}
	l.vm("stop", "web1")
	l.vm("start", "web1")
	l.vm("remove", "--yes", "--stop", "web1")
	if _, err := os.Stat(credentials); err == nil {
		t.Errorf("%s is there after the guest", credentials)
	}
	l.clean(0)
}
