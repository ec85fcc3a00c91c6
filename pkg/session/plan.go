package session

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// Plan is what a recipe would do, found out by read-only probes.
type Plan struct {
	Verb     string     `json:"verb"`
	Instance string     `json:"instance"`
	Disk     string     `json:"disk"`
	Steps    []PlanStep `json:"steps"`
	Refused  []string   `json:"refused"` // why the verb would fail, each reason once
}

// PlanStep is one step of a plan; Why is the reason that it is needed or not,
// or what is known about it.
type PlanStep struct {
	Name    string `json:"name"`
	Detail  string `json:"detail,omitempty"`
	Needed  bool   `json:"needed"`
	Why     string `json:"why,omitempty"`
	Refused string `json:"refused,omitempty"` // why the verb would fail by it
}

// Of asks the steps' probes, and runs none of them. fault is what was refused before. The
// error is why the verb would fail, each reason once.
func (p Plan) Of(ctx context.Context, steps []Step, fault error) (Plan, error) {
	p.Steps, p.Refused = []PlanStep{}, []string{}
	var errs []error
	refuse := func(why error) {
		isNew := false
		for line := range strings.SplitSeq(why.Error(), "\n") { // as errors.Join has them
			if !slices.Contains(p.Refused, line) {
				p.Refused, isNew = append(p.Refused, line), true
			}
		}
		if isNew {
			errs = append(errs, why)
		}
	}
	if fault != nil {
		refuse(fault)
	}
	for _, step := range steps {
		ps := PlanStep{Name: step.Name, Detail: step.Detail, Needed: true}
		if step.When != nil {
			ps.Needed, ps.Why = step.When(ctx)
		}
		if step.Known != nil && ps.Needed {
			var why error
			if ps.Why, why = step.Known(ctx); why != nil {
				ps.Refused = strings.ReplaceAll(why.Error(), "\n", "; ")
				refuse(why)
			}
		}
		p.Steps = append(p.Steps, ps)
	}
	return p, errors.Join(errs...)
}

// NeededIf is a step's When: whether it is needed, and why it isn't.
func NeededIf(needed bool, whyNot string) (bool, string) {
	if needed {
		whyNot = ""
	}
	return needed, whyNot
}
