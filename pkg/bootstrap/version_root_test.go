//go:build root

package bootstrap

import (
	"strings"
	"testing"

	"instance-debootstrap/pkg/command"
)

func TestVersionIsReadFromTheScriptAndIsWhatTheToolSays(t *testing.T) {
	for _, tool := range []string{Debootstrap, Mmdebstrap} {
		said, err := command.Output(t.Context(), tool, "--version")
		if err != nil {
			t.Fatal(err)
		}
		got, err := version(t.Context(), tool)
		if err != nil || !strings.HasSuffix(said, " "+got) {
			t.Errorf("%s: %q, %v; it says %q", tool, got, err, said)
		}
	}
}
