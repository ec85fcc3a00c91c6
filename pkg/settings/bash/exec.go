package bash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
)

// tokenPrefix names the checked texts of files that are sourced; no file can
// have such a name.
const tokenPrefix = "/dev/null/checked-"

// status2 stands for a command that fails as test does on a wrong expression.
const status2 = "/dev/null/status-2"

// onOpen opens the files of redirections, and the texts of source.
func (s *Shell) onOpen(ctx context.Context, path string, flag int, perm os.FileMode) (io.ReadWriteCloser, error) {
	s.mu.Lock()
	text, ok := s.sources[path]
	s.mu.Unlock()
	if ok {
		return textFile{bytes.NewReader(text)}, nil
	}
	if flag&os.O_CREATE != 0 {
		perm = 0o666 // as bash; the umask takes away
	}
	return interp.DefaultOpenHandler()(ctx, path, flag, perm)
}

// textFile is a file in memory that can only be read.
type textFile struct{ io.Reader }

func (textFile) Write([]byte) (int, error) { return 0, fs.ErrPermission }
func (textFile) Close() error              { return nil }

// onExec runs programs with the shell's own exported variables, as bash does:
// these are the admin's commands, not tools of ours.
func (s *Shell) onExec(interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	return func(ctx context.Context, args []string) error {
		hc := interp.HandlerCtx(ctx)
		if args[0] == status2 {
			return interp.ExitStatus(2)
		}
		path, err := interp.LookPathDir(hc.Dir, hc.Env, args[0])
		if err != nil {
			fmt.Fprintf(hc.Stderr, "%s: command not found\n", args[0])
			return interp.ExitStatus(127)
		}
		cmd := exec.CommandContext(ctx, path, args[1:]...)
		cmd.Args[0], cmd.Dir, cmd.Env = args[0], hc.Dir, commandEnv(hc)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = hc.Stdin, hc.Stdout, hc.Stderr
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 2 * time.Second
		err = cmd.Run()
		var exit *exec.ExitError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &exit) && exit.Exited():
			return interp.ExitStatus(exit.ExitCode())
		case errors.As(err, &exit):
			return interp.ExitStatus(128 + exit.Sys().(syscall.WaitStatus).Signal())
		case errors.Is(err, exec.ErrWaitDelay):
			return nil // it left a process behind that keeps its output open
		}
		fmt.Fprintf(hc.Stderr, "%s: %v\n", args[0], err)
		return interp.ExitStatus(126)
	}
}

// commandEnv returns the environment of a program.
func commandEnv(hc interp.HandlerContext) []string {
	vars := map[string]expand.Variable{}
	hc.Env.Each(func(name string, v expand.Variable) bool {
		vars[name] = v
		return true
	})
	var env []string
	for name, v := range vars {
		if isExported(name, v, vars[exportMark+name]) {
			env = append(env, name+"="+v.Str)
		}
	}
	return env
}
