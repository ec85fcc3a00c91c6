//go:build root

package libvirt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const credentials = "/var/lib/libvirt/instance-debootstrap"

func (l lab) secret(name, text string) string {
	l.Helper()
	l.write(name, text)
	l.tool("chmod", "600", name)
	return name
}

func TestACredentialIsInAFileOfTheDomainsAndGoesWithIt(t *testing.T) {
	l := newLab(t)
	token := l.secret("/srv/token", "tell-nobody")
	create := func(more ...string) []string { return append([]string{program, "vm"}, small(more...)...) }
	if plan := l.vm(small("--credential", "site.token="+token, "--dry-run", "web1")...); !strings.Contains(plan, "keep the credentials: site.token") || strings.Contains(plan, "tell-nobody") {
		t.Errorf("the plan is\n%s", plan)
	}
	l.write("/srv/open", "x")
	for option, says := range map[string]string{
		"site.token": "must be NAME=FILE", "a/b=" + token: "a credential's name", "a=/srv/none": "--credential a=/srv/none: no such file", "a=/srv/open": "others may read it (mode 0644)", "a=/srv": "not a regular file",
	} {
		l.fails(says, create("--credential", option, "web1")...)
	}
	l.fails("--credential: bullseye has no systemd of version 251", create("--credential", "a="+token, "--suite", "bullseye", "--dry-run", "web1")...)

	l.hook("#!/bin/sh\nexit 3\n")
	l.fails("50-test", create("--credential", "site.token="+token, "web1")...)
	os.Remove("/etc/ganeti/instance-debootstrap/hooks/50-test")
	l.fails("site.token is given twice", create("--credential", "site.token="+token, "--credential", "site.token="+token, "web1")...)
	if _, err := os.Stat(credentials); err == nil {
		t.Errorf("%s is there after creates that failed", credentials)
	}

	l.vm(small("--credential", "site.token="+token, "web1")...)
	files, _ := filepath.Glob(credentials + "/*/*")
	if len(files) != 1 || filepath.Base(files[0]) != "site.token" {
		t.Fatalf("files %q", files)
	}
	if st, err := os.Stat(files[0]); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if xml := l.tool("virsh", "dumpxml", "web1"); !strings.Contains(xml, "file='"+files[0]+"'") || strings.Contains(xml, "tell-nobody") {
		t.Errorf("the domain is\n%s", xml)
	}
	if shown := l.vm("show", "web1"); !strings.Contains(shown, "\ncredential: site.token\n") || strings.Contains(shown, "tell-nobody") {
		t.Errorf("vm show:\n%s", shown)
	}
	l.vm("remove", "--yes", "web1")
	if _, err := os.Stat(credentials); err == nil {
		t.Errorf("%s is there after the guest", credentials)
	}
	l.clean(0)
}

// TestACredentialIsGoneWhenItsDomainIs has libvirt undefine the domain, and virsh fail.
func TestACredentialIsGoneWhenItsDomainIs(t *testing.T) {
	l := newLab(t)
	l.tool("virsh", "-q", "vol-create-as", "default", "web1-root", "1M", "--format", "raw")
	l.domain("web1", pool+"/web1-root")
	l.secret(filepath.Join(credentials, strings.TrimSpace(l.virsh("domuuid", "web1")), "site.token"), "tell-nobody")
	t.Run("lost", func(t *testing.T) {
		l := lab{t}
		l.losing(`"$real" "$@"; status=$?
case "$*" in *undefine*) echo "error: Disconnected from qemu:///system due to end of file" >&2; exit 1 ;; esac
exit $status
`)
		l.fails("Disconnected", program, "vm", "remove", "--yes", "web1")
	})
	if files, _ := filepath.Glob(credentials + "/*"); len(files) > 0 {
		t.Errorf("nobody finds %q any longer", files)
	}
	l.fails("libvirt has no guest web1", program, "vm", "remove", "--yes", "web1")
	l.clean(0)
}
