package main

import (
	"strings"
	"testing"

	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/receipt"
)

// TestWhatAReceiptDoesntHaveLeavesNoBlanks: an admin's own tree has no key, and a guest without
// a boot loader no firmware.
func TestWhatAReceiptDoesntHaveLeavesNoBlanks(t *testing.T) {
	var out strings.Builder
	in := guestdisk.Inspection{Receipt: &receipt.Receipt{Suite: "trixie", Arch: "amd64", Variant: "web"}}
	in.Receipt.Tree.Source, in.Receipt.Boot.Loader = "admin", "none"
	if err := printInspection(&out, inspection{Inspection: &in}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"trixie, amd64, variant web", "admin", "none"} {
		if !strings.Contains(out.String(), " "+want+"\n") {
			t.Errorf("no line ends with %q:\n%s", want, out.String())
		}
	}
}
