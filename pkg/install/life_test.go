package install

import (
	"errors"
	"strings"
	"testing"

	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/settings"
)

func TestWhichDisplaysReachBeyondTheNode(t *testing.T) {
	for bind, want := range map[string]bool{
		"": false, "None": false, "127.0.0.1": false, "127.0.0.5": false, "::1": false, "lo": false, "/var/run/vnc": false,
		"0.0.0.0": true, "192.0.2.1": true, "::": true, "eth0": true,
	} {
		if reachesFurther(bind) != want {
			t.Errorf("%q: %v", bind, !want)
		}
	}
}

func TestAPackageThatNobodyAskedForByNameIsMissedWithAWayToDoWithout(t *testing.T) {
	choice := Choice{Order: &Order{
		Request:  &osapi.Request{Hypervisor: "kvm", HV: map[string]string{"use_guest_agent": "True"}},
		Settings: &settings.Settings{Suite: "trixie", ExtraPkgs: []string{"ngnix", "vim"}},
	}}
	choice.Boot.Services = []string{"dbus"}
	for said, want := range map[string]string{
		"E: Unable to locate package qemu-guest-agent":                "use_guest_agent=False",
		"E: Couldn't find these debs: dbus":                           "dbus is there for GUEST_SERVICES, which may name less",
		"E: Unable to locate package nosuch; dbus was not set up":     "E: Unable to locate package nosuch; dbus was not set up",
		"E: Unable to locate package ngnix":                           "; EXTRA_PKGS names ngnix: correct it",
		"E: Package 'qemu-guest-agent' has no installation candidate": "use_guest_agent=False",
	} {
		if got := choice.blameServices(errors.New(said)).Error(); !strings.HasPrefix(got, said) || !strings.Contains(got, want) {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	if err := choice.blameServices(nil); err != nil {
		t.Error(err)
	}
	choice.Settings.KernelPkg = "linux-image-amd65"
	if got := choice.blameServices(errors.New("E: Unable to locate package linux-image-amd65")).Error(); !strings.Contains(got, "; KERNEL_PKG names linux-image-amd65: correct it, or set auto") {
		t.Error(got)
	}
	choice.Tool.Keyring = "/usr/share/keyrings/ubuntu-archive-keyring.gpg" // most of whose packages are in universe
	if got := choice.blameServices(errors.New("E: Unable to locate package ngnix")).Error(); !strings.Contains(got, "add universe to COMPONENTS") {
		t.Error(got)
	}
	choice.Settings.Components = []string{"main", "universe"}
	if got := choice.blameServices(errors.New("E: Unable to locate package ngnix")).Error(); !strings.Contains(got, "in COMPONENTS or EXTRA_SOURCES") {
		t.Error(got)
	}
}
