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
