package session

import "context"

// Plan is what a recipe would do, found out by read-only probes.
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

// PlanSteps asks the steps' probes, and runs none of them.
func PlanSteps(ctx context.Context, steps []Step) (list []PlanStep) {
	for _, step := range steps {
		ps := PlanStep{Name: step.Name, Detail: step.Detail, Needed: true}
		if step.When != nil {
			ps.Needed, ps.Why = step.When(ctx)
		}
		if step.Known != nil && ps.Needed {
			ps.Why = step.Known(ctx)
		}
		list = append(list, ps)
	}
	return list
}

// NeededIf is a step's When: whether it is needed, and why it isn't.
func NeededIf(needed bool, whyNot string) (bool, string) {
	if needed {
		whyNot = ""
	}
	return needed, whyNot
}
