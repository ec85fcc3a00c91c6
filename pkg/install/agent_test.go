package install

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/settings"
)

func TestUseGuestAgentPutsTheAgentIntoTheTreeAndItsKey(t *testing.T) {
	for _, c := range []struct {
		hypervisor, value, suite string
		components               []string
		want                     bool
	}{
		{"kvm", "True", "trixie", nil, true},
		{"kvm", "False", "trixie", nil, false},
		{"kvm", "", "trixie", nil, false},
		{"xen-hvm", "True", "trixie", nil, false},
		{"kvm", "True", "wheezy", nil, false},
		{"kvm", "True", "noble", []string{"main"}, false}, // it is in universe there
		{"kvm", "True", "noble", []string{"main", "universe"}, true},
	} {
		order := &Order{
			Request:  &osapi.Request{Hypervisor: c.hypervisor, HV: map[string]string{"use_guest_agent": c.value}},
			Settings: &settings.Settings{Suite: c.suite, Components: c.components},
		}
		choice := Choice{Order: order}
		if c.suite == "noble" {
			choice.Tool.Keyring = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
		}
		if got := slices.Contains(choice.cacheInputs().ExtraPkgs, "qemu-guest-agent"); got != c.want || got != slices.Contains(choice.bootstrapSpec().ExtraPkgs, "qemu-guest-agent") {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestAGuestThatHasUniverseIsNotToldToAddIt(t *testing.T) {
	for universe, remedy := range map[string]string{"main": "add that to COMPONENTS", "universe": "install qemu-guest-agent in it"} {
		choice := Choice{Order: &Order{
			Request:  &osapi.Request{Hypervisor: "kvm", HV: map[string]string{"use_guest_agent": "True"}},
			Settings: &settings.Settings{Suite: "noble", Components: []string{universe}},
		}}
		choice.Tool.Keyring = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
		var said bytes.Buffer
		dir := t.TempDir()
		err := guest.Edit(t.Context(), dir, func(root *guest.Root) error {
			choice.lookForAgent(zerolog.New(&said).WithContext(t.Context()), root)
			return nil
		})
		if err != nil || !strings.Contains(said.String(), remedy) {
			t.Errorf("%s: %v\n%s", universe, err, &said)
		}
	}
}
