package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/os/debootstrap"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/session"
)

func (p *program) doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "look whether this node can do what it is set up for; changes nothing",
		Description: "Looks at the installation, the kernel, the settings with each variant of variants.list, the\n" +
			"tools that they need, the hooks, the cache, and at loop devices that others have left. The\nexit status is 1 when there is a fault, which keeps a verb from doing its work.",
		OnUsageError: usageFault,
		Flags:        []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}},
		Action: func(c *cli.Context) error {
			if err := exactArgs(c, 0, "no argument"); err != nil {
				return err
			}
			return p.sandboxed(c.Context, func(ctx context.Context, s *session.Session) error { return p.doctor(ctx, s, c.Bool("json")) })
		},
	}
}

func (p *program) doctor(ctx context.Context, s *session.Session, asJSON bool) error {
	p.verb = osapi.Create
	var candidates []debootstrap.Candidate
	variants, err := listedVariants()
	if err != nil {
		candidates = append(candidates, debootstrap.Candidate{Err: err})
	}
	for _, variant := range append([]string{""}, variants...) {
		in, c := installation{name: "doctor", variant: variant}, debootstrap.Candidate{Variant: variant}
		p.settingsWarning = func(text string) { c.Warnings = append(c.Warnings, text) }
		job, err := p.readJobFrom(ctx, nil, in.environ(os.DevNull))
		if err == nil && s.SwitchedOff(job.Settings.Namespace) {
			return session.ErrWantsHost
		}
		c.Job, c.Err = job, err
		candidates = append(candidates, c)
	}
	findings := debootstrap.Diagnose(ctx, s, candidates)
	if asJSON {
		err = printJSON(findings)
	} else {
		err = printFindings(maskWriter{os.Stdout}, findings)
	}
	faults := 0
	for _, f := range findings {
		if f.State == debootstrap.FindingFault {
			faults++
		}
	}
	if err == nil && faults > 0 {
		err = fmt.Errorf("%d of %d findings are faults", faults, len(findings))
	}
	return err
}

func printFindings(out io.Writer, findings []debootstrap.Finding) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.State, f.Subject, f.Text)
	}
	return w.Flush()
}
