package bootstrap

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// fetching starts the script for a process that stands for mmdebstrap, and has the file open.
func fetching(t *testing.T, socket *os.File) (mmdebstrap *os.Process, ended <-chan error) {
	t.Helper()
	tree := t.TempDir()
	must(t, os.MkdirAll(tree+"/"+later, 0o755))
	sleep := exec.Command("sleep", "60")
	must(t, sleep.Start())
	script := exec.Command("bash", "-c", Spec{Suite: "trixie", NodeArch: "amd64"}.fetchLater(nil), "fetch", tree, strconv.Itoa(sleep.Process.Pid))
	script.Env, script.ExtraFiles = append(os.Environ(), "MMDEBSTRAP_HOOKSOCK=3"), []*os.File{socket}
	must(t, script.Start())
	end := make(chan error, 1)
	go func() { end <- script.Wait() }()
	t.Cleanup(func() {
		script.Process.Kill()
		sleep.Process.Kill()
		sleep.Wait()
	})
	return sleep.Process, end
}

// Where this program is killed, too, nobody else would end it.
func TestTheScriptThatFetchesEndsWithMmdebstrap(t *testing.T) {
	mmdebstrap, ended := fetching(t, nil)
	select {
	case err := <-ended:
		t.Fatalf("it doesn't wait for apt's lists: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	mmdebstrap.Kill() // a zombie from now on
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it runs on")
	}
}

// mmdebstrap's main process would wait for the end of what is fetched before it fails.
func TestTheScriptThatFetchesHasMmdebstrapsSocketClosed(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	_, ended := fetching(t, w)
	must(t, w.Close())
	must(t, r.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	select {
	case err := <-ended:
		t.Errorf("it has ended: %v", err)
	default:
	}
}
