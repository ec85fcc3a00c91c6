//go:build root

package root

import (
	"os"
	"strings"
	"testing"
)

// list is the parameters.list that Ganeti reads.
func (l *lab) list() string {
	l.Helper()
	b, err := os.ReadFile(base + "/os/parameters.list")
	must(l, err)
	return string(b)
}

func TestASitesOSParameterReachesItsHooks(t *testing.T) {
	l := newDoctorLab(t)
	plain := l.list()
	l.write("conf/parameters.list", "# ours\nsite-role What the guest is for\n", 0o600)
	text, exit := l.doctor()
	l.matches(text, `(?m)^warning +OS parameters +.*parameters\.list is not what .*parameters --update`)
	if log, _ := l.run("verify", "parameters"); exit != 0 || !strings.Contains(log, "parameters --update") {
		t.Errorf("exit status %d, verify: %s", exit, log)
	}

	if out := l.tool("sh", "-c", "umask 077 && "+program+" parameters --update 2>&1"); !strings.Contains(out, "made anew") {
		t.Error(out)
	}
	if got := l.list(); got != plain+"site-role What the guest is for\n" {
		t.Error(got)
	}
	if mode := l.tool("stat", "-c", "%a", base+"/os/parameters.list"); mode != "644" {
		t.Error(mode)
	}
	if out := l.tool(program, "parameters"); out+"\n" != l.list() {
		t.Error(out)
	}
	if left := l.tool("find", base+"/os", "-name", ".*"); left != "" {
		t.Error(left)
	}
	text, _ = l.doctor()
	l.matches(text, `(?m)^ok +OS parameters +\d+, list [0-9a-f]{12}, which must be alike on all nodes`)

	l.env["OSP_SITE_ROLE"] = "web"
	if log, exit := l.run("verify", "parameters"); exit != 0 {
		t.Error(log)
	}
	l.write("conf/hooks/role", "#!/bin/sh\nprintf %s \"$OSP_SITE_ROLE\" > \"$TARGET/etc/role\"\n", 0o755)
	l.create()
	l.mounted(func(tree string) {
		if got := l.tool("cat", tree+"/etc/role"); got != "web" {
			t.Errorf("the hook saw %q", got)
		}
	})
}

func TestASitesOSParameterThatIsTakenIsRefusedAndTheListStays(t *testing.T) {
	l := newDoctorLab(t)
	before := l.list()
	l.write("conf/parameters.list", "role What\nsuite Which\n", 0o644)
	for _, args := range [][]string{{"parameters"}, {"parameters", "--update"}} {
		if text, exit := l.here(args...); exit != 1 || !strings.Contains(text, "conf/parameters.list:2: OS parameter suite is taken") {
			t.Errorf("%v: exit status %d\n%s", args, exit, text)
		}
	}
	if l.list() != before {
		t.Error(l.list())
	}
	text, exit := l.doctor()
	l.matches(text, `(?m)^fault +OS parameters +.*:2: OS parameter suite is taken`)
	if log, status := l.run("verify", "parameters"); exit != 1 || status != 1 || !strings.Contains(log, "suite is taken") {
		t.Errorf("doctor: %d, verify: %d %s", exit, status, log)
	}
}

func TestAGuestWithoutTheAgentThatItsHypervisorAsksForIsWarnedOf(t *testing.T) {
	for value, want := range map[string]bool{"True": true, "False": false} {
		l := newLab(t, 600)
		l.tinyTree()
		l.env["INSTANCE_HV_use_guest_agent"] = value
		if log := l.create(); strings.Contains(log, "channel for QEMU's guest agent, and no qemu-guest-agent") != want {
			t.Errorf("%s: %s", value, log)
		}
	}
}
