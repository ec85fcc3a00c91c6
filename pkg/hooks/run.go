// Package hooks runs the admin's hooks in the way run-parts(8) runs them, without
// needing it: the same names in the same order, an empty stdin, and a failing hook
// doesn't keep the later ones from running. The umask is the session's, 022.
package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/command"
)

const (
	// drainTime is how long the output of a hook that has ended is waited for: a
	// daemon it left behind may hold it open for ever.
	drainTime = time.Second
	// killTime is how long a hook has between SIGTERM and SIGKILL.
	killTime = 3 * time.Second
	// tailLines is how many of a failed hook's last words its error repeats, each
	// of at most tailBytes, out of its lookBack last lines.
	tailLines, tailBytes, lookBack = 2, 200, 200
)

// Run is one run of all hooks of a folder. There is no time limit on a hook.
type Run struct {
	Dir     string   // the hooks' folder; "" or a missing one has none
	WorkDir string   // the hooks' working folder, absolute: the OS definition's
	Env     []string // the hooks' whole environment, NAME=value
	Strict  bool     // refuse hooks that a group or another user than root can change
}

// failure is a hook that failed.
type failure struct {
	name string
	err  error
	tail []string
}

func (f failure) String() string {
	s := f.name + " (" + f.err.Error()
	for i, line := range f.tail {
		if len(line) > tailBytes {
			line = strings.ToValidUTF8(line[:tailBytes], "") + "…"
		}
		s += []string{": ", " | "}[min(i, 1)] + line
	}
	return s + ")"
}

// All runs the hooks one after the other, each with its output logged line by
// line, tagged hook=NAME. A relative Dir is below WorkDir. The error, one line,
// names all that failed, each with its exit status or signal and its last words.
// When ctx is cancelled the hook that runs, with its children, gets SIGTERM and 3
// seconds later SIGKILL, and no other is started.
func (r Run) All(ctx context.Context) error {
	dir := r.Dir
	if dir != "" && !filepath.IsAbs(dir) {
		dir = filepath.Join(r.WorkDir, dir)
	}
	hooks, skipped, err := Look(dir)
	if err != nil {
		return err
	}
	log := zerolog.Ctx(ctx)
	for _, s := range skipped {
		log.Info().Msg("hook not run: " + s)
	}
	if len(hooks) == 0 {
		return nil
	}
	if st, err := os.Stat(r.WorkDir); err != nil {
		return fmt.Errorf("run hooks: working folder: %w", err)
	} else if !st.IsDir() {
		return fmt.Errorf("run hooks: working folder %s is not a folder: install the OS definition again", r.WorkDir)
	}
	warnings, err := Trusted(dir, r.Strict)
	for _, text := range warnings {
		log.Warn().Msg(text)
	}
	if err != nil {
		return fmt.Errorf("no hook is run: %w", err)
	}
	var failed []string
	for _, hook := range hooks {
		if ctx.Err() != nil {
			break
		}
		if f := r.one(ctx, hook); f != nil {
			log.Error().Str("hook", f.name).Msg(f.err.Error())
			failed = append(failed, f.String())
		}
	}
	return result(ctx, failed)
}

// result makes one line of all failures.
func result(ctx context.Context, failed []string) error {
	all := strings.Join(failed, ", ")
	switch {
	case ctx.Err() != nil && len(failed) > 0:
		return fmt.Errorf("hooks stopped: %w: %s", context.Cause(ctx), all)
	case ctx.Err() != nil:
		return fmt.Errorf("hooks stopped: %w", context.Cause(ctx))
	case len(failed) == 1:
		return errors.New("hook failed: " + all)
	case len(failed) > 1:
		return fmt.Errorf("%d hooks failed: %s", len(failed), all)
	}
	return nil
}

// one runs one hook to its end; nil when it succeeded.
func (r Run) one(ctx context.Context, hook string) *failure {
	name := filepath.Base(hook)
	log := zerolog.Ctx(ctx).With().Str("hook", name).Logger()
	trace := newTrace(hook)
	lines := &command.LineWriter{Keep: lookBack, Emit: func(s string) { trace.see(s); log.Info().Msg(s) }}
	out, in, err := os.Pipe()
	if err != nil {
		return &failure{name: name, err: err}
	}
	defer out.Close()
	cmd := exec.Command(hook)
	cmd.Env = append([]string{}, r.Env...) // not nil, which would be our own
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.WorkDir, in, in
	// Of its own process group, so that a cancelled hook's children end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log.Info().Msg("running " + hook)
	began := time.Now()
	err = cmd.Start()
	in.Close()
	if err != nil {
		return &failure{name: name, err: explain(hook, err)}
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(lines, out)
	}()
	err = wait(ctx, cmd, copied)
	select {
	case <-copied:
	case <-time.After(drainTime):
		log.Warn().Msg("left a process running that holds its output open; what that prints is not logged")
		out.Close()
		<-copied
	}
	lines.Flush()
	log.Debug().Msgf("ended after %s", time.Since(began).Round(time.Millisecond))
	if err != nil {
		return &failure{name: name, err: err, tail: trace.lastWords(lines.Tail())}
	}
	return nil
}

// wait waits for a hook's end, or ends it with its process group when ctx is
// cancelled. The end of its output (copied) tells that its children are gone too.
func wait(ctx context.Context, cmd *exec.Cmd, copied <-chan struct{}) error {
	group := -cmd.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	_ = syscall.Kill(group, syscall.SIGTERM)
	defer func() { _ = syscall.Kill(group, syscall.SIGKILL) }()
	late := time.After(killTime)
	select {
	case err := <-ended:
		select {
		case <-copied:
		case <-late:
		}
		return err
	case <-late:
		_ = syscall.Kill(group, syscall.SIGKILL)
		return <-ended
	}
}
