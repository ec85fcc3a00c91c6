//go:build root

package root

import (
	"bytes"
	"os"
	"testing"
)

// TestADumpWithANameThatLeadsOutIsRefused: restore(8) would make what is below it in
// another folder, as far up as there are any.
func TestADumpWithANameThatLeadsOutIsRefused(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	delete(l.env, "OLD_INSTANCE_NAME")
	b, err := os.ReadFile(l.madeStreams("dump")["dump"])
	must(t, err)
	// An entry for etc has its length, its type, its name's length and its name.
	at := bytes.Index(b, []byte("\x04\x03etc\x00"))
	if at < 0 {
		t.Fatal("the dump has no etc")
	}
	copy(b[at:], "\x04\x02..\x00\x00")
	l.target(600)
	l.importFails(bytes.NewReader(b), `folder 2: the name ".." leads out of it$`)
}
