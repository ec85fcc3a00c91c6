//go:build root && slow

package libvirt

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// refusal is the exit status and the output of a vm create of web1 that is refused.
func (l lab) refusal(options string) (status int, says string) {
	l.Helper()
	out, err := exec.Command(program, append(append([]string{"vm"}, createByDHCP...), strings.Split(options, "|")...)...).CombinedOutput()
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		l.Fatalf("%s: %v\n%s", options, err, out)
	}
	return ended.ExitCode(), string(out)
}

var createByDHCP = []string{"create", "web1", "--ssh-key", key + ".pub", "--root-size", "3G"}

func TestWhatIsAskedForWronglyIsToldByItsOptionAndWhatCantBeByItsReason(t *testing.T) {
	l := newLab(t)
	l.write("/srv/lan.xml", "<network><name>lan</name><bridge name='virbr9'/><ip address='192.0.2.1' netmask='255.255.255.0'/></network>")
	l.tool("virsh", "-q", "net-define", "/srv/lan.xml")
	l.tool("virsh", "-q", "net-start", "lan")
	l.Cleanup(func() { l.try("virsh", "-q", "net-destroy", "lan"); l.try("virsh", "-q", "net-undefine", "lan") })
	// What is wrong is told all at once.
	for _, row := range []struct {
		options string
		says    []string
	}{
		{"--network|lan|--ip|192.0.2.300|--dns-search|a b;c|--domain|ex ample|--memory|abc|--vcpus|0|--root-size|0|--boot-size|abc|--arch|vax", []string{
			`--ip "192.0.2.300": not an address`, `--dns-search "a b;c": "b;c" is not a domain`, `--domain "ex ample": not a domain`,
			`--memory "abc": must be at least 128M`, `--vcpus "0": must be a number of virtual CPUs`, `--root-size "0": must be more than nothing`, `--boot-size "abc": must be a number`,
			`--arch "vax": must be x86_64 or i686`,
		}},
		{"--network|lan|--ip|192.0.2.9|--gateway|198.51.100.1|--dns|192.0.2.1,fe80,foo|--domain|-a.example|--disk|1G,mount=srv|--disk|1G,mount=/a,mount=/b|--disk|1G,pool=|--disk|1G,mount=/srv data2=/x", []string{
			"--gateway 198.51.100.1: in no network", `"fe80" is not an address`, `"foo" is not an address of a name server`, `--domain "-a.example": not a domain`,
			"mount=srv: must be a folder from / on", "may be given once", "with a value", "without blanks",
		}},
		{"--network|lan|--ip|", []string{`--ip "": not an address`}},
		{"--network|lan,mac=xx", []string{"mac=xx: not the MAC address of one card"}},
		{"--network|lan|--gateway|192.0.2.1", []string{"--gateway needs --ip"}},
		{"--user-net|--ip|192.0.2.9", []string{"--user-net excludes"}},
		{"--ip|192.0.2.9|--dhcp", []string{"--ip and --dhcp exclude each other"}},
		{"--user-net|--autostart|--no-autostart", []string{"--autostart and --no-autostart exclude each other"}},
		{"--user-net|--pool|default|--vg|vg0", []string{"--pool and --vg exclude each other"}},
		{"--user-net|--rollback", []string{"--rollback needs --wait"}},
		{"--user-net|--wait|--wait-time|0s", []string{"--wait-time 0s: must be more than nothing"}},
	} {
		status, out := l.refusal(row.options)
		for _, says := range row.says {
			if status != 2 || !strings.Contains(out, says) || strings.Contains(out, "two kernels need") {
				t.Errorf("%s: exit status %d, and it does not say %q:\n%s", row.options, status, says, out)
			}
		}
	}
	for options, says := range map[string]string{
		"--network|nosuch":                      "libvirt has no network nosuch; it has ",
		"--user-net|--pool|nosuch":              "no active pool nosuch",
		"--user-net|--extra-pkgs|foo;bar":       "--extra-pkgs (or EXTRA_PKGS of the settings): ",
		"--user-net|--disk|1G,mount=/etc":       "--disk (or DATA_DISKS of the settings): ",
		"--user-net|--memory|900000G|--dry-run": "the node has ",
		"--user-net|--vcpus|5000|--dry-run":     "5000 virtual CPUs: this QEMU's machines have at most",
		"--user-net|--root-size|900T|--dry-run": "pool default has ",
	} {
		status, out := l.refusal(options)
		if status != 1 || !strings.Contains(out, says) || strings.Contains(out, "OS parameter") || strings.Contains(out, "Ganeti") {
			t.Errorf("%s: exit status %d:\n%s", options, status, out)
		}
	}
	l.tool("virsh", "-q", "net-destroy", "lan")
	if _, out := l.refusal("--network|lan"); !strings.Contains(out, "libvirt has no active network lan: virsh net-start lan") {
		t.Errorf("a network that isn't active:\n%s", out)
	}
	l.clean(0)
	l.vm("create", "web1", "--user-net", "--ssh-key", key+".pub", "--root-size", "3g", "--swap-size", "64m", "--dry-run") // options behind the guest, small letters
}
