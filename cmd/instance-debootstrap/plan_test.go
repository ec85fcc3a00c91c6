package main

import (
	"bytes"
	"testing"

	"instance-debootstrap/pkg/session"
)

// TestAPlanHasNothingThatATerminalObeys, whatever Ganeti was told that disks and hypervisors are
// called.
func TestAPlanHasNothingThatATerminalObeys(t *testing.T) {
	var out bytes.Buffer
	const name = "x\x1b[2J\ry"
	step := session.PlanStep{Name: "a", Detail: name, Why: name, Refused: name, Needed: true}
	printPlan(&out, session.Plan{Verb: "create", Instance: "web1", Disk: name, Steps: []session.PlanStep{step}, Refused: []string{name + "z"}})
	const quoted = `x\x1b[2J\x0dy`
	want := "create of web1 on " + quoted + ":\n 1. a: " + quoted + " (" + quoted + ") (refused: " + quoted + ")\nrefused: " + quoted + "z\n"
	if out.String() != want {
		t.Errorf("%q, not %q", out.String(), want)
	}
}
