//go:build root && slow

package libvirt

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// says runs a vm command that must succeed and say something.
func (l lab) says(says string, args ...string) {
	l.Helper()
	out, err := exec.Command(program, append([]string{"vm"}, args...)...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), says) {
		l.Errorf("vm %v: %v, and it does not say %q:\n%s", args, err, says, out)
	}
}

// isNow expects a guest in a state, and returns the number that libvirt has given it
// since it was started.
func (l lab) isNow(state, after string) string {
	l.Helper()
	if got := l.state("web2"); got != state {
		l.Errorf("it is %s after %s", got, after)
	}
	return l.try("virsh", "-q", "domid", "web2")
}

func TestAGuestIsStoppedStartedAndRestartedInOrder(t *testing.T) {
	l := newLab(t)
	l.machine(answers(1, 0))
	first := l.isNow("running", "its making")
	l.says("web2 is running already", "start", "web2")
	l.says("shut down the guest web2", "stop", "web2")
	l.isNow("shut off", "vm stop")
	l.says("web2 is shut off already", "stop", "web2")
	l.fails("web2 is shut off: instance-debootstrap vm start web2", program, "vm", "reboot", "web2")
	l.fails("web2 is shut off: instance-debootstrap vm start web2", program, "vm", "console", "web2")

	l.says("started the guest web2", "start", "web2")
	l.answers()
	second := l.isNow("running", "vm start")
	l.says("restarted the guest web2", "reboot", "web2")
	if third := l.isNow("running", "vm reboot"); first == second || second == third {
		t.Errorf("it was not started anew: it was %q, %q and %q", first, second, third)
	}

	l.tool("virsh", "-q", "suspend", "web2")
	for command, says := range map[string]string{"start": "can't be started", "stop": "can't shut down", "reboot": "can't shut down"} {
		l.fails("web2 is paused, and "+says+": virsh resume web2 first", program, "vm", command, "web2")
	}
	l.fails("web2 is paused, and is mounted with --read-only at most: virsh resume web2 first", program, "vm", "mount", "web2")
	l.isNow("paused", "what was refused")
	l.says("forced off the guest web2", "stop", "--force", "web2")
	l.isNow("shut off", "vm stop --force")
	l.vm("remove", "--yes", "web2")
	l.clean(0)
}

func TestAGuestThatDoesNotShutDownGoesOnUnlessForced(t *testing.T) {
	l := newLab(t)
	l.machine(nil)
	for _, command := range []string{"stop", "reboot"} {
		l.fails("it doesn't answer within 2s: see why (instance-debootstrap vm console web2), give it more time (--stop-time), or force it off (vm stop --force web2)",
			program, "vm", command, "--stop-time", "2s", "web2")
		l.isNow("running", "vm "+command)
	}
	l.fails("vm console: it needs a terminal", program, "vm", "console", "web2")
	cmd := exec.Command("script", "--quiet", "--return", "--command", program+" vm console web2", "/dev/null")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(3*time.Second, func() { in.Write([]byte{0x1d}) }) // Ctrl-]
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Connected to domain 'web2'") {
		t.Errorf("on its console: %v:\n%s", err, out)
	}
	l.says("forced off", "stop", "--force", "web2")
	l.isNow("shut off", "vm stop --force")
	l.vm("remove", "--yes", "web2")
	l.clean(0)
}
