package bootstrap

import (
	"fmt"
	"testing"
)

func TestWhatAptWouldDoToATree(t *testing.T) {
	for text, want := range map[string]string{
		"Reading package lists...\nBuilding dependency tree...\n":                                                                             "{false [] []}",
		"Inst libc6 [2.36-9+deb12u9] (2.36-9+deb12u10 Debian:12.9/stable [amd64])\nConf libc6 (2.36-9+deb12u10 Debian:12.9/stable [amd64])\n": "{true [] []}",
		"Inst linux-image-6.1.0-51-amd64 (6.1.200-1 Debian-Security:12/stable-security [amd64])\n":                                            "{false [linux-image-6.1.0-51-amd64] []}",
		"Remv exim4-daemon-light [4.96-15+deb12u6]\nInst postfix (3.7.11-0+deb12u1 Debian:12.9/stable [amd64])\n":                             "{false [postfix] [exim4-daemon-light]}",
	} {
		if got := fmt.Sprint(parseChanges(text)); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}
