package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"

	"instance-debootstrap/pkg/backup"
	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/session"
)

// Plan lists the steps of a verb for an order, without running any; in is import's
// backup. The error is what the verb would refuse.
func Plan(ctx context.Context, s *session.Session, verb osapi.Verb, o *install.Order, in *os.File) (session.Plan, error) {
	plan := session.Plan{Verb: string(verb), Instance: o.Request.InstanceName, Disk: o.Disk()}
	var steps []session.Step
	planned, used := false, inUse(s, o)
	err := onDisks(ctx, s, o, true, func(o *install.Order) (err error) {
		steps, err = stepsOf(ctx, verb, o, in)
		plan.Disk, planned = o.Disk(), true
		plan, err = plan.Of(ctx, steps, errors.Join(used, err))
		return err
	})
	if !planned { // its disk can't be reached
		return plan.Of(ctx, nil, err)
	}
	return plan, err
}

// stepsOf returns a verb's recipe, and what the verb refuses before its first step.
func stepsOf(ctx context.Context, verb osapi.Verb, o *install.Order, in *os.File) ([]session.Step, error) {
	s := &session.Session{}
	switch verb {
	case osapi.Create:
		choice, err := o.Decide(ctx)
		return createSteps(install.Begin(s, choice)), err
	case osapi.Import:
		return backup.PlanImport(ctx, o.Request, o.Settings, in)
	case osapi.Export:
		return backup.ExportSteps(s, o.Request, o.Settings, nil, nil, nil), nil
	case osapi.Rename:
		return renameSteps(s, o), nil
	}
	return nil, fmt.Errorf("%s has no steps", verb)
}
