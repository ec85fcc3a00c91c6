package bootstrap

import "testing"

func TestTheLogHasNoScriptOfAHook(t *testing.T) {
	for said, want := range map[string]string{
		"I: running --setup-hook in shell: sh -c 'echo 1' exec /t":           "I: running --setup-hook",
		"I: running --essential-hook in shell: sh -c 'cd \"$1\"; a' exec /t": "I: running --essential-hook",
		"I: running apt-get update...":                                       "I: running apt-get update...",
		"a script's: -hook in shell: x":                                      "a script's: -hook in shell: x",
	} {
		if got := withoutScript(said); got != want {
			t.Errorf("%s: %q", said, got)
		}
	}
}
