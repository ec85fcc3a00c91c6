//go:build root

package userspace

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/session"
)

// within sets a time for the test.
func within(t *testing.T, which *time.Duration, most time.Duration) {
	t.Helper()
	before := *which
	*which = most
	t.Cleanup(func() { *which = before })
}

// nothingLeft of a run whose server doesn't answer.
func nothingLeft(t *testing.T, s *session.Session) {
	t.Helper()
	if left, err := os.ReadDir(s.WorkDir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestAServerThatTakesAConnectionAndSaysNothingIsGivenUp, and the log says meanwhile what the
// run waits for.
func TestAServerThatTakesAConnectionAndSaysNothingIsGivenUp(t *testing.T) {
	within(t, &openTime, 4*time.Second)
	socket := filepath.Join(t.TempDir(), "socket")
	server, err := net.Listen("unix", socket)
	must(t, err)
	defer server.Close()
	d, err := Parse("nbd:unix:"+socket, "")
	must(t, err)
	s := newSession(t)
	var said bytes.Buffer
	_, err = d.Open(zerolog.New(&said).WithContext(context.Background()), s, false)
	if want := "disk " + d.Name + ": its storage does not answer: see whether it works (waited for 4s)"; err == nil || err.Error() != want {
		t.Errorf("%v, not %s", err, want)
	}
	if want := "waiting for " + d.Name + " to answer"; !strings.Contains(said.String(), want) {
		t.Errorf("the log is without %s:\n%s", want, said.String())
	}
	must(t, s.UndoTo(context.Background(), 0))
	nothingLeft(t, s)
}

// TestAnInterruptedRunDoesNotWaitForAServerThatHangs, whatever it is at.
func TestAnInterruptedRunDoesNotWaitForAServerThatHangs(t *testing.T) {
	within(t, &overdueTime, time.Second)
	uri, server := serveBy(t, raw(file(t, 8)))
	d, err := Parse(uri, "")
	must(t, err)
	ctx, interrupt := context.WithCancel(context.Background())
	s := newSession(t)
	path, err := d.Open(ctx, s, false)
	must(t, err)
	must(t, server.Process.Signal(unix.SIGSTOP))
	ended := make(chan error)
	go func() {
		_, err := os.ReadFile(path)
		ended <- err
	}()
	time.Sleep(100 * time.Millisecond)
	interrupt()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a server that hangs was read")
		}
	case <-time.After(20 * time.Second):
		t.Error("who reads waits for the server")
		server.Process.Kill()
		<-ended
	}
	if err := s.UndoTo(ctx, 0); err == nil {
		t.Error("a daemon that was killed is no failure")
	}
	nothingLeft(t, s)
}

// TestAMountDoesNotEndBecauseItIsInterrupted: others use it.
func TestAMountDoesNotEndBecauseItIsInterrupted(t *testing.T) {
	within(t, &overdueTime, time.Second)
	d, err := Parse(serve(t, raw(file(t, 8))), "")
	must(t, err)
	ctx, interrupt := context.WithCancel(context.Background())
	s := newSession(t)
	_, ended, err := d.Serve(ctx, s, false)
	must(t, err)
	interrupt()
	select {
	case <-ended:
		t.Error("its daemon has ended")
	case <-time.After(3 * time.Second):
	}
	must(t, s.UndoTo(ctx, 0))
}

func TestAGlanceAtAServerThatHangsEnds(t *testing.T) {
	within(t, &glanceTime, 2*time.Second)
	uri, server := serveBy(t, raw(file(t, 8)))
	d, err := Parse(uri, "")
	must(t, err)
	s := newSession(t)
	ended := make(chan error)
	go func() {
		ended <- d.Glance(context.Background(), s, func(path string) {
			server.Process.Signal(unix.SIGSTOP)
			os.ReadFile(path)
		})
	}()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "no answer within 2s") {
			t.Errorf("%v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it waits for the server")
		server.Process.Kill()
		<-ended
	}
	nothingLeft(t, s)
}
