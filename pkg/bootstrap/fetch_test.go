package bootstrap

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// Where this program is killed, too, nobody else would end it.
func TestTheScriptThatFetchesEndsWithMmdebstrap(t *testing.T) {
	tree := t.TempDir()
	if err := os.MkdirAll(tree+"/"+later, 0o755); err != nil {
		t.Fatal(err)
	}
	mmdebstrap := exec.Command("sleep", "60")
	if err := mmdebstrap.Start(); err != nil {
		t.Fatal(err)
	}
	defer mmdebstrap.Wait()
	defer mmdebstrap.Process.Kill()
	script := exec.CommandContext(t.Context(), "bash", "-c", Spec{Suite: "trixie", NodeArch: "amd64"}.fetchLater(nil), "fetch", tree, strconv.Itoa(mmdebstrap.Process.Pid))
	if err := script.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- script.Wait() }()
	select {
	case err := <-ended:
		t.Fatalf("it doesn't wait for apt's lists: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	mmdebstrap.Process.Kill() // a zombie from now on
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		script.Process.Kill()
		t.Error("it runs on")
	}
}
