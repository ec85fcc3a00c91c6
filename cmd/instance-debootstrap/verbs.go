package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"instance-debootstrap/os/debootstrap"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
)

// verbUsage is what each OS script does, for --help.
var verbUsage = map[osapi.Verb]string{
	osapi.Create: "install the instance's root disk (Ganeti's add and reinstall)",
	osapi.Import: "read a backup of one disk from stdin",
	osapi.Export: "write a backup of one disk to stdout",
	osapi.Rename: "change the host name inside the guest",
	osapi.Verify: "check the OS parameters",
}

// verbApp is the program under one of the five names Ganeti calls it by. It
// has no flags of its own: API 5's getopt form goes to osapi as it is.
func (p *program) verbApp() *cli.App {
	return &cli.App{
		Name:            string(p.verb),
		Usage:           verbUsage[p.verb],
		UsageText:       string(p.verb) + " [--help]\n\nCalled by Ganeti, which says in environment variables what to do: see ganeti-os-interface(7).",
		HideHelpCommand: true,
		SkipFlagParsing: true,
		HideHelp:        true,
		Writer:          os.Stderr, // export's stdout is the backup
		ErrWriter:       os.Stderr,
		Action: func(c *cli.Context) error {
			args := c.Args().Slice()
			if slices.Contains(args, "--help") || slices.Contains(args, "-h") {
				return cli.ShowAppHelp(c)
			}
			return p.runVerb(c.Context, args)
		},
	}
}

func (p *program) runVerb(ctx context.Context, args []string) error {
	switch p.verb {
	case osapi.Verify:
		return p.apart(ctx, func(ctx context.Context, _ *session.Session) error {
			order, err := p.readOrder(ctx, args)
			if err != nil {
				return err
			}
			return debootstrap.Verify(ctx, order)
		})
	case osapi.Create:
		return p.runSandboxed(ctx, args, p.create)
	case osapi.Rename:
		return p.runSandboxed(ctx, args, p.telling("is the name of the guest now, on", debootstrap.Rename))
	case osapi.Export:
		if err := stdoutIsOpen(); err != nil {
			return err
		}
		// A reader that goes away is an error of write(2), not the end of us.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
		return p.runSandboxed(ctx, args, p.telling("is exported from", func(ctx context.Context, s *session.Session, o *install.Order) error {
			return debootstrap.Export(ctx, s, o, os.Stdout, p.size)
		}))
	case osapi.Import:
		err := p.runSandboxed(ctx, args, p.telling("is imported to", func(ctx context.Context, s *session.Session, o *install.Order) error {
			return debootstrap.Import(ctx, s, o, os.Stdin)
		}))
		var inner *session.ExitError // which has drained it
		if !errors.As(err, &inner) && !errors.Is(err, session.ErrWantsHost) {
			drain(os.Stdin, err)
		}
		return err
	}
	return fmt.Errorf("verb %s is unknown", p.verb)
}

// stdoutIsOpen is an error where the caller has closed stdout. Go's runtime then opens
// /dev/null in its place, for reading and writing (runtime/fds_unix.go), as no shell does.
func stdoutIsOpen() error {
	var st unix.Stat_t
	flags, err := unix.FcntlInt(1, unix.F_GETFL, 0)
	if err == nil {
		err = unix.Fstat(1, &st)
	}
	if err != nil || st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3) && flags&unix.O_ACCMODE == unix.O_RDWR {
		return errors.New("stdout is closed: there is nothing to write the backup to")
	}
	return nil
}

// telling is a verb whose last line is a sentence for the admin: what became of the
// instance, its disk, and how long that took.
func (p *program) telling(became string, verb func(context.Context, *session.Session, *install.Order) error) func(context.Context, *session.Session, *install.Order) error {
	return func(ctx context.Context, s *session.Session, o *install.Order) error {
		began := time.Now()
		if err := verb(ctx, s, o); err != nil {
			return err
		}
		if err := s.UndoTo(ctx, 0); err != nil { // which a debugging log tells of, too
			return err
		}
		p.done(fmt.Sprintf("%s %s %s, in %.1f s", o.Request.InstanceName, became, command.Printable(cmp.Or(o.Disk(), "its disk")), time.Since(began).Seconds()))
		return nil
	}
}

// create installs what the order says. Its last line is for the admin, the one before it
// for programs.
func (p *program) create(ctx context.Context, s *session.Session, o *install.Order) error {
	report, err := debootstrap.Create(ctx, s, o)
	if err != nil {
		return err
	}
	return p.report(ctx, s, report, nil)
}

// report ends a run: nothing is left to be undone, which a debugging log tells of, too. What
// more there is to say comes before the last two lines.
func (p *program) report(ctx context.Context, s *session.Session, report install.Report, more []string) error {
	if err := s.UndoTo(ctx, 0); err != nil {
		return err
	}
	for _, sentence := range more {
		p.tell("%s", command.Printable(sentence))
	}
	if err := report.Log(ctx); err != nil {
		return err
	}
	p.done(command.Printable(report.String())) // a kernel is called what its package says
	return nil
}

// drainTime is how long the rest of a stream is read after an import failed.
const drainTime = 5 * time.Second

// drain reads a stream to its end: leaving before it fails the programs that
// write it, and Ganeti then blames them. What hangs is not waited for.
func drain(in *os.File, err error) {
	done := make(chan struct{})
	go func() {
		io.Copy(io.Discard, in)
		close(done)
	}()
	if err == nil {
		<-done
		return
	}
	select {
	case <-done:
	case <-time.After(drainTime):
	}
}

// runSandboxed reads the order where it then runs.
func (p *program) runSandboxed(ctx context.Context, args []string, recipe func(context.Context, *session.Session, *install.Order) error) error {
	return p.sandboxed(ctx, func(ctx context.Context, s *session.Session) error {
		order, err := p.readOrder(ctx, args)
		if err != nil {
			return err
		}
		if s.WantsHostNamespace(order.Settings.Namespace) {
			return session.ErrWantsHost
		}
		return recipe(ctx, s, order)
	})
}

// readOrder reads the request and the settings from the process's environment.
func (p *program) readOrder(ctx context.Context, args []string) (*install.Order, error) {
	req, err := osapi.Parse(p.verb, args, os.Environ())
	if req == nil {
		return nil, err
	}
	return p.orderFor(ctx, req, err)
}

// orderFor reads the settings for a request, and reports all faults of both at once.
func (p *program) orderFor(ctx context.Context, req *osapi.Request, reqErr error) (*install.Order, error) {
	set, err := p.settingsFor(ctx, req, reqErr)
	if err != nil {
		return nil, err
	}
	return &install.Order{Request: req, Settings: set}, nil
}

func (p *program) settingsFor(ctx context.Context, req *osapi.Request, reqErr error) (*settings.Settings, error) {
	if req.DebugLevel > 0 {
		debug(ctx)
	}
	load := settings.Load
	if req.Verb == osapi.Verify { // which sees the parameters, but no instance and no disk
		load = settings.Check
	}
	set, err := load(ctx, p.sources(ctx, req))
	return set, errors.Join(reqErr, err)
}

// guestFsck is GUEST_FSCK, the one setting that matters to a command that only works on a
// guest's disk: auto or full. The rest of the caller's environment is no setting to it.
// Settings that can't be read keep nobody from looking at a disk.
func (p *program) guestFsck(ctx context.Context) (guestdisk.Fsck, error) {
	environ := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return !strings.HasPrefix(entry, "PATH=") && !strings.HasPrefix(entry, "GUEST_FSCK=")
	})
	set, err := settings.Check(ctx, p.sources(ctx, &osapi.Request{APIVersion: 20, Environ: environ}))
	if err == nil {
		return guestdisk.Fsck(set.GuestFsck), nil
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	switch wanted := environment().GuestFsck; wanted {
	case "auto", "full":
		return guestdisk.Fsck(wanted), nil
	case "":
		zerolog.Ctx(ctx).Warn().Msgf("%v: so GUEST_FSCK is taken for auto; in the environment it can be full", err)
		return "auto", nil
	}
	return "", err
}

// sources names the settings files of this installation.
func (p *program) sources(ctx context.Context, req *osapi.Request) settings.Sources {
	warn := p.settingsWarning
	if warn == nil {
		warn = func(s string) { zerolog.Ctx(ctx).Warn().Msg(s) }
	}
	return settings.Sources{
		DefaultsFile: paths.DefaultsFile, VariantsDir: paths.VariantsDir(), VariantsList: paths.VariantsList(),
		Script: filepath.Join(paths.OSDir, string(cmp.Or(req.Verb, osapi.Create))), Variant: req.Variant, Root: req.Root, APIVersion: req.APIVersion,
		UEFI: req.BootType() == "uefi", Environ: req.Environ, Params: req.OSParams, ParamNames: req.ParamNames,
		Stderr: p.stderr(), Warn: warn,
	}
}
