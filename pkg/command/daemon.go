package command

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/cell"
)

// Daemon is a tool that works until it is told to end.
type Daemon struct {
	PID  int
	Done <-chan struct{} // closed when it has ended

	argv  []string
	lines *LineWriter
	err   error // how it ended; for who has seen Done
}

// Start starts a tool of the table of cells that goes on beside what the caller does. Of
// a Cmd it takes Args, In, Env, Files and Plain; what it prints goes to the context's logger. It
// is the caller's to end it: no context does.
func Start(ctx context.Context, c Cmd) (*Daemon, error) {
	path, err := Look(c.Args[0])
	if err != nil {
		return nil, &Error{Argv: c.Args, Err: err}
	}
	log := zerolog.Ctx(ctx)
	logged := &bounded{most: maxLogBytes, emit: func(s string) { log.Info().Str("tool", c.Args[0]).Msg(s) }}
	done := make(chan struct{})
	d := &Daemon{Done: done, argv: c.Args, lines: &LineWriter{Keep: tailLines, Emit: logged.line, Plain: c.Plain}}
	cmd := exec.Command(path, c.Args[1:]...)
	cmd.Args[0], cmd.Env, cmd.ExtraFiles = c.Args[0], append(slices.Clone(plainEnv), c.Env...), c.Files
	cmd.Stdout, cmd.Stderr = d.lines, d.lines
	if err := cell.Start(cmd, *c.In); err != nil {
		return nil, &Error{Argv: c.Args, Err: err}
	}
	d.PID = cmd.Process.Pid
	go func() {
		d.err = cmd.Wait()
		d.lines.Flush()
		logged.end()
		close(done)
	}()
	return d, nil
}

// Err is how a daemon ended that ended by itself, which none should.
func (d *Daemon) Err() error {
	<-d.Done
	err := d.err
	if err == nil {
		err = errors.New("it ended before it was told to")
	}
	return &Error{Argv: d.argv, Tail: d.lines.Tail(), Err: err}
}

// Stop tells the daemon to end (SIGTERM), and waits for that. It is told each second: a
// daemon that looks whether it was told just before it begins to wait has missed it, as
// qemu-storage-daemon may (QEMU's storage-daemon/qemu-storage-daemon.c: its handler
// wakes nobody). The error is that it had ended before, or did so with another status
// than 0, or had to be killed.
func (d *Daemon) Stop(patience time.Duration) error {
	select {
	case <-d.Done:
		return d.Err()
	default:
	}
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for late := time.After(patience); ; {
		_ = syscall.Kill(d.PID, syscall.SIGTERM) // it is waited for by us alone: the number is its own
		select {
		case <-d.Done:
			if d.err != nil {
				return &Error{Argv: d.argv, Tail: d.lines.Tail(), Err: d.err}
			}
			return nil
		case <-again.C:
		case <-late:
			d.Kill()
			return &Error{Argv: d.argv, Tail: d.lines.Tail(), Err: fmt.Errorf("it did not end %v after it was told to, and was killed", patience)}
		}
	}
}

// Kill ends the daemon at once.
func (d *Daemon) Kill() {
	select {
	case <-d.Done:
	default:
		_ = syscall.Kill(d.PID, syscall.SIGKILL)
		<-d.Done
	}
}
