package mounts

import "testing"

func TestTheKernelsEscapesAreUndone(t *testing.T) {
	for in, want := range map[string]string{`/a\040b`: "/a b", `/a\134040`: `/a\040`, `/x\012`: "/x\n", `/x\9`: `/x\9`, `/x\`: `/x\`} {
		if got := unescape.Replace(in); got != want {
			t.Errorf("%s: %q", in, got)
		}
	}
}
