package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/os/debootstrap"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/session"
)

func (p *program) planCommand() *cli.Command {
	return &cli.Command{
		Name:         "plan",
		Usage:        "print what a verb would do in the current environment, and touch nothing",
		OnUsageError: usageFault,
		Subcommands: []*cli.Command{{
			Name:         "create",
			Usage:        "print the steps of create",
			OnUsageError: usageFault,
			Flags:        []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}},
			Action:       p.planCreate,
		}},
	}
}

func (p *program) planCreate(c *cli.Context) error {
	if err := exactArgs(c, 0, "no argument"); err != nil {
		return err
	}
	p.verb = osapi.Create
	return p.apart(c.Context, func(ctx context.Context) error {
		order, err := p.readOrder(ctx, nil)
		if err != nil {
			return err
		}
		plan, err := debootstrap.PlanCreate(ctx, order)
		if len(plan.Steps) > 0 && c.Bool("json") {
			return errors.Join(printJSON(plan), err)
		}
		printPlan(os.Stdout, plan)
		return err
	})
}

// printPlan prints a plan. One without steps is none: what was asked for was refused
// before there were any.
func printPlan(w io.Writer, plan session.Plan) {
	if len(plan.Steps) == 0 {
		return
	}
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
		if s.Refused != "" {
			fmt.Fprintf(w, " (refused: %s)", s.Refused)
		}
		fmt.Fprintln(w)
	}
}
