package debootstrap

import (
	"context"
	"slices"

	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/session"
)

// Create installs a guest on the instance's first disk, and reports what it has made.
func Create(ctx context.Context, s *session.Session, o *install.Order) (report install.Report, err error) {
	m := install.Measure(s, o.Request.Variant)
	var run *install.Run
	err = onDisks(ctx, s, o, false, func(o *install.Order) error {
		choice, err := o.Decide(ctx)
		if err != nil {
			return err
		}
		run = install.Begin(s, choice)
		if err := s.Do(ctx, createSteps(run)); err != nil {
			return run.Failed(err)
		}
		report = run.Report()
		return nil
	})
	if err == nil { // what has the disks is at its end: all of it is durable
		run.KeepReceipt(ctx, o.Request.InstanceName)
	}
	m.Write(ctx, o.Settings.MetricsDir, report, err)
	return report, err
}

// createSteps is the recipe.
func createSteps(r *install.Run) []session.Step {
	return slices.Concat(
		[]session.Step{r.ClaimStep(), r.TreeStep()},
		r.DiskSteps(),
		r.GuestSteps(),
		[]session.Step{r.ReleaseStep()},
		r.LastSteps(),
	)
}
