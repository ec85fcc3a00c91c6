package main

import (
	"testing"

	"instance-debootstrap/pkg/cache"
)

// An imported entry brings them from another node.
func TestWhatAnEntryIsMadeOfMovesNoTerminalsCursor(t *testing.T) {
	got := describeInputs(cache.Listing{Inputs: &cache.Inputs{Suite: "trixie", Arch: "amd64", Tool: "debootstrap", ToolVersion: "1\x1b[2J\n", ExtraPkgs: []string{"a\r", "b"}}})
	if want := `trixie/amd64 by debootstrap "1\x1b[2J\n" with "a\r,b"`; got != want {
		t.Errorf("%q", got)
	}
}

func TestTreesThatDifferByTheirComponentsAreToldApart(t *testing.T) {
	for want, components := range map[string][]string{"noble/amd64 by debootstrap 1.0": {"main"}, "noble/amd64 main,universe by debootstrap 1.0": {"main", "universe"}} {
		if got := describeInputs(cache.Listing{Inputs: &cache.Inputs{Suite: "noble", Arch: "amd64", Components: components, Tool: "debootstrap", ToolVersion: "1.0"}}); got != want {
			t.Errorf("%q", got)
		}
	}
}
