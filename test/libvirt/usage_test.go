//go:build root

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
	for options, says := range map[string]string{
		"--network|lan|--ip|192.0.2.300":                      `--ip "192.0.2.300": not an address`,
		"--network|lan|--ip|":                                 `--ip "": not an address`,
		"--network|lan|--ip|192.0.2.9|--dns|foo":              `--dns "foo": "foo" is not an address of a name server`,
		"--network|lan|--ip|192.0.2.9|--dns|192.0.2.1,fe80":   `"fe80" is not an address`,
		"--network|lan|--ip|192.0.2.9|--dns-search|a b;c":     `--dns-search "a b;c": "b;c" is not a domain`,
		"--user-net|--domain|ex ample":                        `--domain "ex ample": not a domain`,
		"--user-net|--domain|-a.example":                      `--domain "-a.example": not a domain`,
		"--network|lan,mac=xx":                                "mac=xx: not the MAC address of one card",
		"--network|lan|--gateway|192.0.2.1":                   "--gateway needs --ip",
		"--network|lan|--ip|192.0.2.9|--gateway|198.51.100.1": "--gateway 198.51.100.1: in no network",
		"--user-net|--ip|192.0.2.9":                           "--user-net excludes",
		"--ip|192.0.2.9|--dhcp":                               "--ip and --dhcp exclude each other",
		"--user-net|--autostart|--no-autostart":               "--autostart and --no-autostart exclude each other",
		"--user-net|--pool|default|--vg|vg0":                  "--pool and --vg exclude each other",
		"--user-net|--rollback":                               "--rollback needs --wait",
		"--user-net|--wait|--wait-time|0s":                    "--wait-time 0s: must be more than nothing",
		"--user-net|--memory|abc":                             `--memory "abc": must be at least 128M`,
		"--user-net|--vcpus|0":                                `--vcpus "0": must be a number of virtual CPUs`,
		"--user-net|--root-size|0":                            `--root-size "0": must be more than nothing`,
		"--user-net|--boot-size|abc":                          `--boot-size "abc": must be a number`,
		"--user-net|--disk|1G,mount=srv":                      "mount=srv: must be a folder from / on",
		"--user-net|--disk|1G,mount=/a,mount=/b":              "may be given once",
		"--user-net|--disk|1G,pool=":                          "with a value",
		"--user-net|--disk|1G,mount=/srv data2=/x":            "without blanks",
		"--user-net|--arch|vax":                               `--arch "vax": must be x86_64 or i686`,
	} {
		if status, out := l.refusal(options); status != 2 || !strings.Contains(out, says) || strings.Contains(out, "two kernels need") {
			t.Errorf("%s: exit status %d:\n%s", options, status, out)
		}
	}
	for options, says := range map[string]string{
		"--network|nosuch":                      "libvirt has no network nosuch; it has ",
		"--user-net|--pool|nosuch":              "no active pool nosuch",
		"--user-net|--extra-pkgs|foo;bar":       "--extra-pkgs (or EXTRA_PKGS of the settings) ",
		"--user-net|--disk|1G,mount=/etc":       "--disk (or DATA_DISKS of the settings) ",
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
