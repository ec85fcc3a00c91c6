//go:build root && slow

package libvirt

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// screen takes what a terminal shows.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// waiting makes a guest that will not answer for long on a terminal of its own, waits
// until it is waited for, types keys with pauses between them, and returns what the
// terminal has shown, and the exit status.
func (l lab) waiting(keys int, options ...string) (shown string, status int) {
	l.Helper()
	args := append([]string{program, "vm"}, append(small("--wait"), append(options, "web1")...)...)
	cmd := exec.Command("script", "--quiet", "--return", "--command", strings.Join(args, " "), "/dev/null")
	var out screen
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err != nil {
		l.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(out.String(), "wait until it answers: by ssh"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.Fatalf("it is never waited for:\n%s", out.String())
		}
	}
	time.Sleep(2 * time.Second) // the guest's console speaks meanwhile
	for range keys {
		io.WriteString(in, "\x03")
		time.Sleep(time.Second)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	}
	return out.String(), status
}

// lastLine is the last line that a terminal has shown.
func lastLine(shown string) string {
	lines := strings.Split(strings.TrimSpace(shown), "\n")
	return lines[len(lines)-1]
}

// stays expects a guest that is whole and runs, and that nothing sweeps.
func (l lab) stays(status, want int, shown string) {
	l.Helper()
	l.vm("list")
	if state := l.state("web1"); status != want || state != "running" {
		l.Errorf("exit status %d, not %d, and the guest is %q:\n%s", status, want, state, shown)
	}
	if left, err := os.ReadDir(stateDir); err != nil || len(left) != 0 {
		l.Errorf("it is still in the making: %v %v", left, err)
	}
	if last := lastLine(shown); !strings.Contains(last, "The guest web1 is whole, and stays. ") || !strings.Contains(last, "vm remove --stop web1") {
		l.Errorf("its last line does not say what to do: %q", last)
	}
	if _, words, _ := strings.Cut(shown, "its console said"); strings.Contains(strings.ReplaceAll(words, "\x1b[K", ""), "\x1b") || words == "" {
		l.Errorf("the console's last words: %q", words)
	}
	l.vm("remove", "--yes", "--stop", "--stop-time", "0s", "web1")
	l.clean(0)
}

func TestAGuestThatIsWholeStaysWhenItsWaitingIsInterruptedOrTooLong(t *testing.T) {
	l := newLab(t)
	shown, status := l.waiting(0, "--wait-time", "5s")
	l.stays(status, 1, shown)
	shown, status = l.waiting(1)
	if !strings.Contains(shown, "Ctrl-C once more within 3s removes it") {
		t.Errorf("it does not say what a second Ctrl-C does:\n%s", shown)
	}
	l.stays(status, 130, shown)
}

func TestASecondInterruptOrRollbackRemovesAGuestThatDoesNotAnswer(t *testing.T) {
	l := newLab(t)
	shown, status := l.waiting(2)
	if last := lastLine(shown); status != 130 || !strings.Contains(last, "interrupted by SIGINT") && !strings.Contains(shown, "twice: the guest web1 is removed") {
		t.Errorf("exit status %d, and at the end %q", status, shown)
	}
	l.clean(0)
	if shown, status = l.waiting(1, "--rollback"); status != 130 {
		t.Errorf("with --rollback: exit status %d:\n%s", status, shown)
	}
	l.clean(0)
}

func TestASignalThatEndsAVMCommandIsItsExitStatus(t *testing.T) {
	l := newLab(t)
	options := small("--wait")
	steps := l.steps(options...)
	for name, signal := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGHUP": syscall.SIGHUP} {
		var said screen
		// A signal that the caller ignores, as nohup(1) does, stays ignored.
		cmd := exec.Command("env", append(append([]string{"--default-signal=HUP", program, "--log-format", "json", "vm"}, options...), "web1")...)
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(5 * time.Minute); !strings.Contains(said.String(), `"step":"`+steps[1]+`"`); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(said.String())
			}
		}
		cmd.Process.Signal(signal)
		cmd.Wait()
		if status := cmd.ProcessState.ExitCode(); status != 128+int(signal) {
			t.Errorf("%s while it is made: exit status %d\n%s", name, status, said.String())
		}
		l.clean(0)
	}
}
