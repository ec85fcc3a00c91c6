package main

import (
	"fmt"
	"io"
	"os"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/settings"
)

func (p *program) parametersCommand() *cli.Command {
	return &cli.Command{
		Name:  "parameters",
		Usage: "print the OS parameters that Ganeti may pass, or write them where it looks for them",
		Description: "Prints what " + paths.OSDir + "/parameters.list has to be: the program's own OS\n" +
			"parameters, then those of " + paths.ParametersList() + ". With --update that\n" +
			"file is made anew; do so on all nodes, with the same list.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "update", Usage: "write the OS definition's parameters.list"}},
		Action: func(c *cli.Context) error {
			if !c.Bool("update") {
				text, err := settings.InstalledParameters()
				if err == nil {
					_, err = io.WriteString(os.Stdout, text)
				}
				return err
			}
			path, changed, err := settings.UpdateParameters()
			if err != nil {
				return fmt.Errorf("%s stays as it was: %w", path, err)
			}
			if changed {
				zerolog.Ctx(c.Context).Info().Msg(path + " is made anew")
			} else {
				zerolog.Ctx(c.Context).Info().Msg(path + " is as it has to be")
			}
			return nil
		},
	}
}
