//go:build root

package libvirt

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheProfileThatConfinesAGuestHasEachOfItsFiles asks libvirt's helper for it, which needs
// no kernel with AppArmor for its answer.
func TestTheProfileThatConfinesAGuestHasEachOfItsFiles(t *testing.T) {
	l := newLab(t)
	token := l.secret("/srv/token", "tell-nobody")
	l.vm(small("--layout", "single", "--firmware", "uefi", "--graphics", "vnc", "--credential", "site.token="+token, "--disk", "64M", "web1")...)
	uuid := strings.TrimSpace(l.virsh("domuuid", "web1"))
	cmd := exec.Command("/usr/lib/libvirt/virt-aa-helper", "--dryrun", "--create", "--uuid", "libvirt-"+uuid)
	cmd.Stdin = strings.NewReader(l.virsh("dumpxml", "web1"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for path, may := range map[string]string{
		pool + "/web1": "rwk", pool + "/web1-data1": "rwk", filepath.Join(credentials, uuid, "site.token"): "r",
	} {
		if !strings.Contains(string(out), `  "`+path+`" `+may+",\n") {
			t.Errorf("%s: not %s by\n%s", path, may, out)
		}
	}
	l.vm("remove", "--yes", "web1")
	l.clean(0)
}
