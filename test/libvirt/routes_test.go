//go:build root && slow

package libvirt

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestAFixedAddressOnTheNATReachesTheWorldAndAGuestThatCannotIsNoticed(t *testing.T) {
	l := newLab(t)
	l.networks()
	create := []string{"vm", "create", "--wait", "--wait-time", "20m", "--ssh-key", key + ".pub", "--root-size", "3G", "--swap-size", "64M"}
	out, err := exec.Command(program, append(create, "--network", "default", "--ip", "192.0.2.7,2001:db8:5::7", "web1")...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "gateway") {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := l.ssh("web1", "ip -o addr show scope global; ip route show default; ip -6 route show default"); !strings.Contains(got, "192.0.2.7/24") ||
		!strings.Contains(got, "2001:db8:5::7/64") || !strings.Contains(got, "default via 192.0.2.1 ") || !strings.Contains(got, "default via 2001:db8:5::1 ") {
		t.Errorf("the guest's network is\n%s", got)
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(os.Getenv("TEST_MIRROR"), "http://"), "/")
	l.ssh("web1", "timeout 60 bash -c '</dev/tcp/"+host+"/80'") // by name, through the NAT
	l.vm("remove", "--yes", "--stop", "--stop-time", "0s", "web1")

	l.tool("virsh", "-q", "net-update", "closed", "add", "ip-dhcp-range", "<range start='198.51.100.100' end='198.51.100.200'/>", "--live", "--config")
	out, err = exec.Command(program, append(create, "--network", "closed", "web2")...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "web2 answers, and has no gateway") {
		t.Errorf("a guest without a gateway: %v\n%s", err, out)
	}
	l.vm("remove", "--yes", "--stop", "--stop-time", "0s", "web2")
	l.clean(5 * time.Second)
}
