package bootstrap

import (
	"errors"
	"strings"
	"testing"

	"instance-debootstrap/pkg/command"
)

func TestOfAllThatAToolPrintsItsReasonStandsInTheError(t *testing.T) {
	for name, c := range map[string]struct{ said, want string }{
		"a package that there isn't": {
			"Reading package lists...\nE: Unable to locate package nosuch\nE: apt-get --yes install failed: process exited with 100\nI: removing tempdir /tmp/x...\nE: mmdebstrap failed to run",
			"mmdebstrap: exit status 25: E: Unable to locate package nosuch"},
		"a package's script": {
			"Setting up site-tools (1.0) ...\nmv: cannot stat '/etc/site': No such file or directory\ndpkg: error processing package site-tools (--configure):\n installed site-tools package post-installation script subprocess returned error exit status 1\nSetting up vim (9) ...\nSetting up zsh (5) ...\nErrors were encountered while processing:\n site-tools\nE: Sub-process env returned an error code (1)\nE: apt-get install failed: process exited with 100",
			"mmdebstrap: exit status 25: mv: cannot stat '/etc/site': No such file or directory; dpkg: error processing package site-tools (--configure):"},
		"a mirror that isn't there": {
			"Ign:1 http://nosuch.example/debian trixie InRelease\nErr:1 http://nosuch.example/debian trixie InRelease\n  502  could not resolve 'nosuch.example' [IP: 127.0.0.1 39411]\nE: Failed to fetch http://nosuch.example/debian/dists/trixie/InRelease  502  could not resolve 'nosuch.example' [IP: 127.0.0.1 39411]\nE: The repository 'http://nosuch.example/debian trixie InRelease' is not signed.",
			"mmdebstrap: exit status 25: E: Failed to fetch http://nosuch.example/debian/dists/trixie/InRelease  502  could not resolve 'nosuch.example'"},
		"a signature": {
			"Get:1 http://a bookworm InRelease\nErr:1 http://a bookworm InRelease\n  The following signatures were invalid: BADSIG 0123\nReading package lists...\nE: The repository 'http://a bookworm InRelease' is not signed.",
			"mmdebstrap: exit status 25: The following signatures were invalid: BADSIG 0123; E: The repository 'http://a bookworm InRelease' is not signed."},
		"only what is always said": {"Setting up vim (9) ...\nE: Sub-process env returned an error code (1)\nI: cleaning up", "mmdebstrap: exit status 25: E: Sub-process env returned an error code (1)"},
		"nothing that is known":    {"it is\nbroken", "mmdebstrap: exit status 25: it is; broken"},
	} {
		var why reasons
		lines := strings.Split(c.said, "\n")
		for _, line := range lines {
			why.line(line)
		}
		err := why.of(&command.Error{Argv: []string{"mmdebstrap"}, Tail: lines, Err: errors.New("exit status 25")})
		if err.Error() != c.want {
			t.Errorf("%s: %s\nwant %s", name, err, c.want)
		}
	}
}

func TestThePackagesThatThereAreNotAreKnownByWhatTheToolsSay(t *testing.T) {
	packages := []string{"linux-image-amd64", "grub-pc", "dbus", "qemu-guest-agent"}
	for said, want := range map[string]string{
		"mmdebstrap: exit status 25: E: Unable to locate package linux-image-amd64; E: Unable to locate package dbus": "linux-image-amd64 dbus",
		"debootstrap: exit status 1: E: Couldn't find these debs: grub-pc qemu-guest-agent":                           "grub-pc qemu-guest-agent",
		"apt-get install in the new tree: env: exit status 100: E: Package 'dbus' has no installation candidate":      "dbus",
		"E: Unable to locate package linux-image-amd64-dbg":                                                           "",
		"E: Unable to locate package nosuch; dbus was not configured":                                                 "",
		"debootstrap: exit status 1: E: Couldn't download dbus":                                                       "",
	} {
		if got := strings.Join(Lacking(errors.New(said), packages), " "); got != want {
			t.Errorf("%s: %q, want %q", said, got, want)
		}
	}
	if got := Lacking(nil, packages); got != nil {
		t.Errorf("of no error: %q", got)
	}
}
