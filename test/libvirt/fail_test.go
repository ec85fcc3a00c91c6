//go:build root && slow

package libvirt

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// failing is the program with one thing more: a step whose name is in FAIL fails
// when it has done all its work.
const failing = "/srv/failing"

func init() { prepare = append(prepare, buildFailing) }

func buildFailing(srv string) error {
	return os.WriteFile(filepath.Join(srv, filepath.Base(failing)), []byte(`#!/bin/sh
FAULTY_POINT="$FAIL|end" FAULTY_KIND=fails exec `+faulty+` "$@"
`), 0o755)
}

// TestAFailureOfAnyStepLeavesNothing has each step but the last fail after its
// work; when the last one's is done the guest stays.
func TestAFailureOfAnyStepLeavesNothing(t *testing.T) {
	l := newLab(t)
	l.hook("#!/bin/sh\n")
	failed := map[string]bool{}
	for _, options := range [][]string{small("--wait", "--rollback"), small("--layout", "single", "--firmware", "both", "--wait", "--rollback")} {
		steps := l.steps(options...)
		for _, step := range steps[:len(steps)-1] {
			if failed[step] {
				continue
			}
			failed[step] = true
			t.Run(step, func(t *testing.T) {
				l := lab{t}
				t.Setenv("FAIL", step)
				l.fails(step+": made to fail", append([]string{failing, "vm"}, append(options, "web3")...)...)
				l.clean(0)
			})
		}
	}
	t.Logf("%d steps failed", len(failed))
}

// TestAGuestRunsAgainHoweverItsGrowingEnds has each step fail that comes after the guest
// was shut down, and a signal come then.
func TestAGuestRunsAgainHoweverItsGrowingEnds(t *testing.T) {
	l := newLab(t)
	l.machine(answers(1, 0))
	grow := []string{"grow", "--stop", "--root-size", "+8M", "web2"}
	runs := func(t *testing.T) {
		if state := l.state("web2"); state != "running" {
			t.Fatalf("it is %s", state)
		}
		l.answers()
	}
	for _, step := range []string{"make the volume larger", "claim the disk", "probe the disk", "check the filesystem", "grow the filesystem", "release the disk"} {
		t.Run(step, func(t *testing.T) {
			t.Setenv("FAIL", step)
			lab{t}.fails(step+": made to fail", append([]string{failing, "vm"}, grow...)...)
			runs(t)
		})
	}
	t.Run("SIGTERM", func(t *testing.T) {
		if !(lab{t}).ended(grow, []string{"shut down the guest"}, 1, func(outer, _, _ int) { syscall.Kill(outer, syscall.SIGTERM) }) {
			t.Error("it ended before it was ended")
		}
		runs(t)
	})
	l.removedInOrder("web2")
	l.clean(0)
}

// TestWhatReallyFailsLeavesNothing has steps fail by themselves.
func TestWhatReallyFailsLeavesNothing(t *testing.T) {
	for _, row := range []struct {
		step, says string
		options    []string
		hook       string
	}{
		{"find or build the root tree", "no-such-suite", []string{"--suite", "no-such-suite"}, ""},
		{"check the node", "MiB in all", []string{"--root-size", "100000T"}, ""},
		{"check that it fits", "too small", []string{"--root-size", "600M"}, ""},
		{"run the hooks", "50-test", nil, "#!/bin/sh\nexit 7\n"},
		{"start the guest", "web3-swap", []string{"--start"}, "#!/bin/sh\nrm " + pool + "/web3-swap\n"},
		{"wait until it answers", "no answer by ssh within 5s; its console said", []string{"--wait", "--wait-time", "5s", "--rollback"}, ""},
	} {
		t.Run(row.step, func(t *testing.T) {
			l := newLab(t)
			if row.hook != "" {
				l.hook(row.hook)
			}
			begin := time.Now()
			said := l.fails(row.step+": ", append([]string{program, "vm"}, append(small(row.options...), "web3")...)...)
			if !strings.Contains(said, row.says) || time.Since(begin) > 30*time.Second {
				t.Errorf("after %v it does not say %q:\n%s", time.Since(begin), row.says, said)
			}
			l.clean(0)
		})
	}
}

// TestAGuestOnLibvirtsNetwork has libvirt's NAT, and an address by its DHCP server.
func TestAGuestOnLibvirtsNetwork(t *testing.T) {
	l := newLab(t)
	l.write("/srv/network.xml", "<network><name>default</name><forward mode='nat'/><bridge name='virbr0'/>"+
		"<ip address='192.0.2.1' netmask='255.255.255.0'><dhcp><range start='192.0.2.100' end='192.0.2.200'/></dhcp></ip></network>")
	create := []string{"create", "--network", "default", "--wait-time", "20m", "--ssh-key", key + ".pub", "--root-size", "3G", "--swap-size", "64M"}
	l.try("virsh", "-q", "net-destroy", "default") // the machine's libvirt may have brought one
	l.try("virsh", "-q", "net-undefine", "default")
	l.fails("libvirt has no network default", append([]string{program, "vm"}, append(create, "web4")...)...)
	l.tool("virsh", "-q", "net-define", "/srv/network.xml")
	l.fails("no active network default: virsh net-start default", append([]string{program, "vm"}, append(create, "web4")...)...)
	l.tool("virsh", "-q", "net-start", "default")
	defer l.try("virsh", "-q", "net-destroy", "default")

	l.vm(append(create, "--wait", "web4")...)
	if got := l.ssh("web4", "ip -4 -o addr show scope global; ip route show default"); !strings.Contains(got, " 192.0.2.") || !strings.Contains(got, "default via 192.0.2.1 ") {
		t.Errorf("the guest's network is\n%s", got)
	}
	if got := l.vm("list"); !strings.Contains(got, "running") || !strings.Contains(got, " 192.0.2.1") {
		t.Errorf("list:\n%s", got)
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(os.Getenv("TEST_MIRROR"), "http://"), "/")
	l.ssh("web4", "timeout 60 bash -c '</dev/tcp/"+host+"/80'") // by name, through the NAT
	l.vm("remove", "--yes", "--stop", "web4")
	l.clean(5 * time.Second)
}
