package install

import (
	"strings"
	"testing"

	"instance-debootstrap/pkg/receipt"
)

func TestTheLastLineNamesEachFirmware(t *testing.T) {
	for want, firmware := range map[string][]string{"GRUB for BIOS and UEFI, in": {"bios", "uefi"}, "GRUB for UEFI, in": {"uefi"}} {
		r := Report{Receipt: receipt.Receipt{Boot: receipt.Boot{Firmware: firmware}}}
		if !strings.Contains(r.String(), want) {
			t.Errorf("%s\nwant %s", r, want)
		}
	}
}

func TestAHooksBootLoaderIsNotCalledAGuestWithoutAKernel(t *testing.T) {
	for loader, want := range map[string]string{"hook": ", a hook's boot loader,", "none": ", no kernel, which the hypervisor must bring,"} {
		r := Report{Receipt: receipt.Receipt{Boot: receipt.Boot{Loader: loader}}}
		if got := r.String(); !strings.Contains(got, want) {
			t.Errorf("%s: %q", loader, got)
		}
	}
}
