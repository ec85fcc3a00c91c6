package bootstrap

import (
	"errors"
	"testing"
)

func TestOfWhatAptPrintsTheReasonIsTaken(t *testing.T) {
	const url = "http://deb.example/debian/dists/trixie/InRelease"
	for text, want := range map[string]string{
		"/usr/lib/apt/apt-helper: exit status 100: Err:1 " + url + ";   Could not resolve 'deb.example'; E: Failed to fetch " + url + "  Could not resolve 'deb.example'; E: Download Failed": "Could not resolve 'deb.example'",
		"E: Failed to fetch " + url + "  403  Forbidden [IP: 192.0.2.1 80]": "403  Forbidden [IP: 192.0.2.1 80]",
		"wget: exit status 4: failed: Network is unreachable.":              "wget: exit status 4: failed: Network is unreachable.",
	} {
		if got := briefly(errors.New(text)).Error(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
