//go:build root && slow

package root

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestAGuestBootsAgainFromItsFilesAlone: a dump says nothing of GRUB, and the
// imported guest boots by whatever firmware finds it, Secure Boot included.
func TestAGuestBootsAgainFromItsFilesAlone(t *testing.T) {
	l := realGuest(t)
	for _, verb := range []string{"export", "import"} {
		if err := os.Symlink(program, filepath.Join(base, "os", verb)); !errors.Is(err, os.ErrExist) {
			must(t, err)
		}
	}
	l.env["OSP_PARTITION_STYLE"], l.env["EXPORT_FORMAT"] = "gpt", "dump"
	l.create()
	stream := l.export(0, l.disk)
	l.target(4096)
	t.Log(l.importFile(stream))
	for _, firmware := range []string{"secure", "bios"} {
		m := l.start(firmware)
		m.says("inst1 login:", guestPatience)
		m.cmd.Process.Kill()
		<-m.ended
	}
}
