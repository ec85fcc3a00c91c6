package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/doctor"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/session"
)

func (p *program) doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "check that this node can install every configured variant; changes nothing",
		Description: "Looks at the installation, the kernel, the settings with each variant of variants.list (for\n" +
			"guests under KVM, and as verify does, without an instance), the tools that they need, the\nhooks, the cache, and at devices that others have left. The exit status is 1 when there is a\nfault, which keeps a create from doing its work. No archive is asked: `cache warm` does.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}},
		Action: func(c *cli.Context) error {
			return p.sandboxed(c.Context, func(ctx context.Context, s *session.Session) error { return p.doctor(ctx, s, c.Bool("json")) })
		},
	}
}

// doctorCandidates are the settings of each variant.
func (p *program) doctorCandidates(ctx context.Context, s *session.Session) (candidates []doctor.Candidate, err error) {
	variants, err := listedVariants()
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it need not be there
		return nil, err
	}
	for _, variant := range append([]string{""}, variants...) {
		in := installation{name: "doctor", variant: variant}
		// With a list of variants, Ganeti always gives one.
		c := doctor.Candidate{Variant: variant, ByHand: variant == "" && len(variants) > 0}
		p.settingsWarning = func(text string) { c.Warnings = append(c.Warnings, text) }
		req, err := in.request(osapi.Verify, os.DevNull)
		order, err := p.orderFor(ctx, req, err)
		if err == nil && s.WantsHostNamespace(order.Settings.Namespace) {
			return nil, session.ErrWantsHost
		}
		c.Order, c.Err = order, err
		candidates = append(candidates, c)
	}
	return candidates, nil
}

func (p *program) doctor(ctx context.Context, s *session.Session, asJSON bool) error {
	candidates, err := p.doctorCandidates(ctx, s)
	if err != nil {
		return err
	}
	findings := doctor.Diagnose(ctx, s, candidates)
	if asJSON {
		err = writeJSON(p.stdout(), findings)
	} else {
		err = printFindings(p.stdout(), findings)
	}
	faults := 0
	for _, f := range findings {
		if f.State == doctor.Fault {
			faults++
		}
	}
	if err == nil && faults > 0 {
		err = fmt.Errorf("faults: %d of %d findings", faults, len(findings))
	}
	return err
}

func printFindings(out io.Writer, findings []doctor.Finding) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.State, f.Subject, f.Text)
	}
	return w.Flush()
}
