//go:build root

package command

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"instance-debootstrap/pkg/cell"
)

// fakeTool is a script of nothing but bash that is called as a tool of the table.
func fakeTool(t *testing.T, name, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/bash\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestACellIsNotToldOfTheProxyAndItsPassword(t *testing.T) {
	SetProxy("http://user:CANARY@proxy.example:3128/")
	t.Cleanup(func() { proxyEnv = nil })
	out, err := OutputIn(t.Context(), cell.Place{}, fakeTool(t, "find", "export -p"))
	if err != nil || !strings.Contains(out, "LC_ALL") || strings.Contains(out, "CANARY") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A tool that has no handler for SIGTERM is the first process of its namespace, which
// the kernel spares.
func TestACancelledToolInACellEndsAtOnce(t *testing.T) {
	for _, script := range []string{"coproc read; wait", "trap 'exit 3' TERM; coproc read; wait"} {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		began := time.Now()
		err := Run(ctx, Cmd{Args: []string{fakeTool(t, "tar", script)}, In: &cell.Place{}})
		if took := time.Since(began); err == nil || took > 2500*time.Millisecond {
			t.Errorf("%q: %v after %v", script, err, took)
		}
		if want := strings.HasPrefix(script, "trap"); want != (ExitStatus(err) == 3) {
			t.Errorf("%q: %v", script, err)
		}
	}
}

func TestADaemonThatMissesTheFirstSignalEndsByTheNext(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "ready")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(ready, nil, 0o600))
	d, err := Start(t.Context(), Cmd{
		Args: []string{fakeTool(t, "tar", "trap 'trap \"exit 0\" TERM' TERM; echo ready >&3; coproc read; while true; do wait; done")},
		In:   &cell.Place{}, Files: []*os.File{openToWrite(t, ready)},
	})
	must(err)
	t.Cleanup(d.Kill)
	for st, err := os.Stat(ready); st.Size() == 0; st, err = os.Stat(ready) {
		must(err)
		time.Sleep(10 * time.Millisecond)
	}
	began := time.Now()
	if err := d.Stop(time.Minute); err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func openToWrite(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
