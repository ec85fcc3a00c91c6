//go:build root && slow

package libvirt

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestAVolumeThatVirshMadeAndLostIsRemoved has libvirt carry out one call, and virsh fail.
func TestAVolumeThatVirshMadeAndLostIsRemoved(t *testing.T) {
	newLab(t)
	for _, call := range []string{"vol-create-as default web3-boot", "vol-list default", "vol-create-as default web3-root", "define --validate"} {
		t.Run(call, func(t *testing.T) {
			l := lab{t}
			l.losing(`"$real" "$@"; status=$?
case "$*" in
*"` + call + `"*) [ -e /srv/lost ] || [ ! -e ` + pool + `/web3-boot ] || { : >/srv/lost; echo "error: Disconnected from qemu:///system due to end of file" >&2; exit 1; } ;;
esac
exit $status
`)
			l.fails("Disconnected", append(append([]string{program, "vm"}, small()...), "web3")...)
			l.clean(0)
		})
	}
}

func TestAVolumeThatSomebodyMadeMeanwhileStays(t *testing.T) {
	l := newLab(t)
	l.losing(`case "$*" in
*"vol-create-as default web3-root"*) "$real" -q vol-create-as default web3-root 4G --allocation 0 --format raw ;;
esac
exec "$real" "$@"
`)
	l.fails("it exists already", append(append([]string{program, "vm"}, small()...), "web3")...)
	if found := l.remnants(); len(found) != 2 || !strings.Contains(found[0], "web3-root") {
		t.Errorf("on the node are %v", found)
	}
	l.tool("virsh", "-q", "vol-delete", "--pool", "default", "web3-root")
}

func TestACreateThatLosesLibvirtEndsWithThatAndIsSweptLater(t *testing.T) {
	l := newLab(t)
	t.Run("lost", func(t *testing.T) {
		l := lab{t}
		l.losing(`case "$*" in *define*) : >/srv/lost ;; esac
[ ! -e /srv/lost ] || { echo "error: failed to connect to the hypervisor" >&2; exit 1; }
exec "$real" "$@"
`)
		begin := time.Now()
		out, err := exec.Command(program, append([]string{"vm"}, append(small(), "web3")...)...).CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if last := lines[len(lines)-1]; err == nil || !strings.Contains(string(out), "define the domain: ") || strings.Contains(string(out), "another run works") || !strings.Contains(last, "vm list tries again") {
			t.Errorf("%v:\n%s", err, out)
		}
		if took := time.Since(begin); took > 25*time.Second {
			t.Errorf("it took %v", took)
		}
	})
	l.vm("list")
	l.clean(0)
}

func TestADiskThatWasGivenToAnotherGuestStaysAlsoWhenItHasItOnlyWhileItRuns(t *testing.T) {
	l := newLab(t)
	l.vm(small("--disk", "64M", "web1")...)
	l.tool("virsh", "-q", "detach-disk", "web1", "vdd", "--config")
	l.machine(nil)
	l.tool("virsh", "-q", "attach-disk", "web2", pool+"/web1-data1", "sdz", "--targetbus", "usb", "--live")
	l.vm("remove", "--yes", "web1")
	if _, err := os.Stat(pool + "/web1-data1"); err != nil {
		t.Error(err)
	}
	l.vm("remove", "--yes", "--stop", "--stop-time", "0s", "web2")
	l.tool("virsh", "-q", "vol-delete", "--pool", "default", "web1-data1")
	l.clean(0)
}
