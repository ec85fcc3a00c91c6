package fault

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// What is run is ended by SIGHUP, also if the tests are run by nohup, which has all that they start
// ignore it.
func init() {
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
}

// Ran is how a run ended.
type Ran struct {
	Log     string
	Exit    int
	Reached bool // it came to the cell's point, and stopped there if it was to
	Late    bool // it didn't end
	Points  []string
}

// Last is the last line of what it said.
func (r Ran) Last() string {
	lines := strings.Split(strings.TrimSpace(r.Log), "\n")
	return lines[len(lines)-1]
}

// Dir is a folder of the runs of a case: its trace, and the tools' stand-ins.
type Dir string

func (d Dir) trace() string { return filepath.Join(string(d), "trace") }

// Stopped waits until the run has stopped at its point, or has ended.
func (d Dir) Stopped(done chan struct{}) bool {
	for {
		text, _ := os.ReadFile(d.trace())
		if bytes.Contains(text, []byte("stopped\n")) {
			return true
		}
		select {
		case <-done:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Run runs a command with a cell's fault, of which the program does a part inside itself. What it
// says goes to the log, unless the command has its Stdout. act is done when until has returned,
// unless that was false.
func (d Dir) Run(cmd *exec.Cmd, cell Cell, inside string, until func(done chan struct{}) bool, act func(pid int)) (r Ran, err error) {
	if err := os.WriteFile(d.trace(), nil, 0o600); err != nil {
		return r, err
	}
	os.Remove(filepath.Join(string(d), "go"))
	h := fnv.New32()
	h.Write([]byte(cell.Point))
	cmd.Env = append(cmd.Env, "FAULTY_TRACE="+d.trace(), "FAULTY_DIR="+string(d), "FAULTY_POINT="+cell.Point, "FAULTY_KIND="+inside, fmt.Sprint("FAULTY_MS=", h.Sum32()%12))
	var log bytes.Buffer
	cmd.Stderr = &log
	if cmd.Stdout == nil {
		cmd.Stdout = &log
	}
	if err := cmd.Start(); err != nil {
		return r, err
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	if until(done) {
		r.Reached = true
		act(cmd.Process.Pid)
		time.Sleep(20 * time.Millisecond) // a signal is on its way
	}
	if err := os.WriteFile(filepath.Join(string(d), "go"), nil, 0o600); err != nil {
		return r, err
	}
	r.Late = !Ends(cmd, done)
	r.Log, r.Exit = log.String(), cmd.ProcessState.ExitCode()
	text, _ := os.ReadFile(d.trace())
	for line := range strings.Lines(string(text)) {
		if point, ok := strings.CutPrefix(strings.TrimSpace(line), "point\t"); ok {
			r.Points = append(r.Points, point)
		}
	}
	return r, nil
}

// Patience is how long a run's end is waited for: as long as the longest orderly end takes.
var Patience = 40 * time.Second

// Ends waits for a run's end.
func Ends(cmd *exec.Cmd, done chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-time.After(Patience):
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
		return false
	}
}
