package debootstrap

import (
	"context"

	"instance-debootstrap/pkg/session"
)

// Plan is what a verb would do, found out by read-only probes.
type Plan struct {
	Verb     string     `json:"verb"`
	Instance string     `json:"instance"`
	Disk     string     `json:"disk"`
	Steps    []PlanStep `json:"steps"`
}

// PlanStep is one step of a plan; Why is the reason that it is needed or not,
// or what is known about it.
type PlanStep struct {
	Name   string `json:"name"`
	Detail string `json:"detail,omitempty"`
	Needed bool   `json:"needed"`
	Why    string `json:"why,omitempty"`
}

// PlanCreate lists the steps of Create for a job, without running any.
func PlanCreate(ctx context.Context, j *Job) Plan {
	j.session = &session.Session{}
	plan := Plan{Verb: "create", Instance: j.Request.InstanceName, Disk: j.Request.BlockDev}
	for _, step := range j.createSteps() {
		ps := PlanStep{Name: step.Name, Detail: step.Detail, Needed: true}
		if step.When != nil {
			ps.Needed, ps.Why = step.When(ctx)
		}
		plan.Steps = append(plan.Steps, ps)
	}
	return plan
}
