// Command instance-debootstrap is a Ganeti OS definition and a tool by hand in
// one: called create, import, export, rename or verify it does what Ganeti
// asks of an OS script; called by its own name it has commands for admins.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/userspace"
)

func main() { os.Exit(run(os.Args)) }

// run returns the exit status. There is one table from error to status: 0 done,
// 1 failed (what Ganeti expects of every failure), and by hand also 2 wrong usage,
// 130 and the like interrupted by a signal.
func run(args []string) int {
	if filepath.Base(args[0]) == userspace.Helper {
		return session.ExitStatus(userspace.Hand(environment().FUSESocket))
	}
	if err := mayOpenFiles(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(args[0]), err)
		return 1
	}
	p := &program{inner: session.Inner()}
	p.verb, p.isVerb = osapi.ParseVerb(filepath.Base(args[0]))
	sizeFD := -1
	if p.isVerb && p.verb == osapi.Export {
		sizeFD = p.openSizeFile()
	}
	if !p.inner {
		session.CloseInherited(sizeFD)
	}
	var app *cli.App
	switch {
	case p.isVerb:
		app = p.verbApp()
	case filepath.Base(args[0]) == oldName:
		app = p.oldApp()
	default:
		app = p.toolApp()
	}
	if !p.isVerb && (len(args) < 2 || args[1] != completeName) {
		args = append(args[:1:1], optionsFirst(app.Flags, app.Commands, args[1:])...)
	}
	app.ExitErrHandler = func(*cli.Context, error) {} // exit here only, after every defer
	err := app.RunContext(p.logContext(context.Background()), args)
	var done *session.ExitError
	if errors.As(err, &done) {
		return done.Code // the inner process has said why
	}
	if err != nil && !errors.Is(err, session.ErrWantsHost) {
		p.fail(app.Name, err)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return 2
	}
	if p.isVerb && session.InterruptedBy(err) != 0 {
		return 1
	}
	return session.ExitStatus(err)
}

// leastFiles is how many files a run may have to have open at a time. With fewer than some
// ten, Go's runtime ends the process, whatever it is at.
const leastFiles = 64

// mayOpenFiles says why this process can't have as many files open as it needs.
func mayOpenFiles() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Max < leastFiles {
		return fmt.Errorf("only %d files may be open at a time, and %d are needed: raise the limit (ulimit -n, LimitNOFILE=)", limit.Max, leastFiles)
	}
	return nil
}

// program is what the commands share.
type program struct {
	inner   bool // this is pid 1 of the namespace
	verb    osapi.Verb
	isVerb  bool
	verbose bool
	json    bool
	screen  screen
	said    saying   // by a step's tools, on a terminal
	warned  warnings // of this run
	size    *os.File // export: takes the stream's length; nil is none

	settingsWarning func(string) // takes the settings files' warnings; nil is the log
}

// sizeVariable has the number of the descriptor that takes the length of the
// stream (ganeti-os-interface(7)).
const sizeVariable = "EXP_SIZE_FD"

// openSizeFile takes over the descriptor, if there is one, and returns its number.
func (p *program) openSizeFile() int {
	fd, err := strconv.Atoi(environment().SizeFD)
	if err != nil || fd < 3 {
		return -1
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		return -1
	}
	unix.CloseOnExec(fd)
	p.size = os.NewFile(uintptr(fd), sizeVariable)
	return fd
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// sandboxed runs a job in namespaces of its own, or on the node itself when
// the settings say NAMESPACE=host.
func (p *program) sandboxed(ctx context.Context, job func(context.Context, *session.Session) error) error {
	if p.inner {
		return session.Run(ctx, true, p.naming(job))
	}
	err := session.Outer(p.size, sizeVariable)
	if errors.Is(err, session.ErrWantsHost) {
		return session.Run(ctx, false, p.naming(job))
	}
	return err
}

// naming is the job, with disks called in messages as they were given.
func (p *program) naming(job func(context.Context, *session.Session) error) func(context.Context, *session.Session) error {
	return func(ctx context.Context, s *session.Session) error {
		s.Named = p.screen.names.call
		return job(ctx, s)
	}
}

// watched is sandboxed, with the progress of its steps on a terminal.
func (p *program) watched(ctx context.Context, job func(context.Context, *session.Session) error) error {
	return p.sandboxed(ctx, func(ctx context.Context, s *session.Session) error {
		s.Observe = p.progress()
		return job(ctx, s)
	})
}

// apart runs a job that reads the settings and changes nothing: in namespaces of its
// own, so that what a settings file has started ends with it. Who isn't root can't make
// them, and then a signal is needed for that, and the session is an empty one.
func (p *program) apart(ctx context.Context, job func(context.Context, *session.Session) error) error {
	if p.inner || os.Geteuid() == 0 {
		return p.sandboxed(ctx, job)
	}
	ctx, stop := session.WithSignals(ctx)
	defer stop()
	return session.BecauseOf(ctx, job(ctx, &session.Session{}))
}
