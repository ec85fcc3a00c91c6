package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/os/debootstrap"
	"instance-debootstrap/pkg/osapi"
)

func (p *program) planCommand() *cli.Command {
	return &cli.Command{
		Name:         "plan",
		Usage:        "print what a verb would do in the current environment, and touch nothing",
		ArgsUsage:    "create",
		OnUsageError: usageFault,
		Flags:        []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}},
		Action: func(c *cli.Context) error {
			if err := exactArgs(c, 1, "one verb (create)"); err != nil {
				return err
			}
			if verb := c.Args().First(); verb != string(osapi.Create) {
				return usagef("plan %s: only create has a plan", verb)
			}
			p.verb = osapi.Create
			job, err := p.readJob(c.Context, nil)
			if err != nil {
				return err
			}
			plan := debootstrap.PlanCreate(c.Context, job)
			if c.Bool("json") {
				enc := json.NewEncoder(os.Stdout)
				enc.SetIndent("", "  ")
				return enc.Encode(plan)
			}
			return printPlan(os.Stdout, plan)
		},
	}
}

func printPlan(w io.Writer, plan debootstrap.Plan) error {
	fmt.Fprintf(w, "%s of %s on %s:\n", plan.Verb, plan.Instance, plan.Disk)
	for i, s := range plan.Steps {
		mark := fmt.Sprintf("%2d.", i+1)
		if !s.Needed {
			mark = "  -"
		}
		fmt.Fprintf(w, "%s %s", mark, s.Name)
		if s.Detail != "" {
			fmt.Fprintf(w, ": %s", s.Detail)
		}
		if s.Why != "" {
			fmt.Fprintf(w, " (%s)", s.Why)
		}
		fmt.Fprintln(w)
	}
	return nil
}
