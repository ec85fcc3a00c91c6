package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/paths"
)

// toolApp is the program under its own name.
func (p *program) toolApp() *cli.App {
	app := &cli.App{
		Name:         "instance-debootstrap",
		Usage:        "install Debian and Ubuntu guests, as a Ganeti OS definition or by hand",
		Version:      paths.Version,
		HideVersion:  true,
		Writer:       os.Stdout,
		ErrWriter:    os.Stderr,
		OnUsageError: usageFault,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "log everything, tools' own output too", Destination: &p.verbose},
			&cli.StringFlag{Name: "log-format", Value: "text", Usage: "`FORMAT` of the log: text, or json (one event a line)"},
		},
		Before: func(c *cli.Context) error {
			switch f := c.String("log-format"); f {
			case "text", "json":
				p.json = f == "json"
			default:
				return usagef("--log-format %q: text or json", f)
			}
			c.Context = p.logContext(c.Context)
			return nil
		},
		Action:   noSuchCommand,
		Commands: []*cli.Command{p.installCommand(), p.bootTestCommand(), p.inspectCommand(), p.mountCommand(), p.growCommand(), p.planCommand(), p.cacheCommand(), p.vmCommand(), p.doctorCommand(), p.metricsCommand(), p.auditCommand(), p.parametersCommand(), p.versionCommand(), p.completeCommand()},
	}
	app.Commands = append(app.Commands, verbHelp()...)
	readableCommands(app.Commands)
	return app
}

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version, with --paths the compiled-in folders too",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "paths", Usage: "print where everything is"}},
		Action: func(c *cli.Context) error {
			if !c.Bool("paths") {
				_, err := fmt.Fprintln(c.App.Writer, paths.Version)
				return err
			}
			for _, l := range [][2]string{
				{"version", paths.Version}, {"os-dir", paths.OSDir}, {"defaults-file", paths.DefaultsFile}, {"conf-dir", paths.ConfDir},
				{"cache-dir", paths.CacheDir}, {"state-dir", paths.StateDir}, {"run-dir", paths.RunDir}, {"lock-dir", paths.LockDir},
			} {
				fmt.Fprintf(c.App.Writer, "%s: %s\n", l[0], l[1])
			}
			return nil
		},
	}
}
