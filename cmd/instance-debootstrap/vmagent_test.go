package main

import (
	"strings"
	"testing"

	"instance-debootstrap/pkg/vm"
)

// As a package of EXTRA_PKGS it would have to be in the guest's components, and in Ubuntu's main
// it isn't.
func TestTheAgentOfAVMIsNoPackageThatSomebodyAskedFor(t *testing.T) {
	b := &vmBuilder{vm: &vm.Wanted{}}
	b.vm.Layout = vm.LayoutThree
	b.guest, b.suite = "web1", "noble"
	request, err := b.request("", "locked")
	if err != nil {
		t.Fatal(err)
	}
	if got := request.OSParams["extra_pkgs"]; strings.Contains(got, "agent") || request.HV["use_guest_agent"] != "True" {
		t.Errorf("%q, %q", got, request.HV)
	}
}
