package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/os/debootstrap"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/session"
)

func (p *program) planCommand() *cli.Command {
	return &cli.Command{
		Name:  "plan",
		Usage: "print what a verb would do in the current environment, and touch nothing",
		Description: "Prints the steps that the verb would take. Anything that it would refuse is shown at its step\n" +
			"or, if it belongs to none, after the last one. All reasons are repeated in the message at the\n" +
			"end, and the exit status is then 1; in JSON they are the list `refused`.",
		Subcommands: []*cli.Command{
			p.planOf(osapi.Create, "print the steps of create"),
			p.planOf(osapi.Import, "print the steps of import for the backup on stdin, of which only the beginning is read"),
			p.planOf(osapi.Export, "print the steps of export"),
			p.planOf(osapi.Rename, "print the steps of rename"),
		},
	}
}

func (p *program) planOf(verb osapi.Verb, usage string) *cli.Command {
	return &cli.Command{
		Name: string(verb), Usage: usage,
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}},
		Action: func(c *cli.Context) error { return p.plan(c, verb) },
	}
}

func (p *program) plan(c *cli.Context, verb osapi.Verb) error {
	if environment().APIVersion == "" {
		return usagef("plan %s: set what Ganeti would say in the environment, OS_API_VERSION=20 first (ganeti-os-interface(7)); docs/admin-guide.md has an example", verb)
	}
	p.verb = verb
	return p.apart(c.Context, func(ctx context.Context, s *session.Session) error {
		order, err := p.readOrder(ctx, nil)
		if err != nil {
			return err
		}
		plan, err := debootstrap.Plan(ctx, s, verb, order, os.Stdin)
		if c.Bool("json") {
			return errors.Join(writeJSON(p.stdout(), plan), err)
		}
		printPlan(p.stdout(), plan)
		return err
	})
}

// printPlan prints a plan, and last what is refused and no step has said.
func printPlan(out io.Writer, plan session.Plan) {
	w := plainWriter{out}
	if len(plan.Steps) > 0 {
		fmt.Fprintf(w, "%s of %s on %s:\n", plan.Verb, plan.Instance, plan.Disk)
	}
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
	for _, reason := range plan.Refused {
		if !slices.ContainsFunc(plan.Steps, func(s session.PlanStep) bool { return strings.Contains(s.Refused, reason) }) {
			fmt.Fprintf(w, "refused: %s\n", reason)
		}
	}
}
