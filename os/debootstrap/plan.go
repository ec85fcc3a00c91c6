package debootstrap

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
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
	plan.add(ctx, j.createSteps())
	return plan
}

// add evaluates the steps by their probes.
func (p *Plan) add(ctx context.Context, steps []session.Step) {
	for _, step := range steps {
		ps := PlanStep{Name: step.Name, Detail: step.Detail, Needed: true}
		if step.When != nil {
			ps.Needed, ps.Why = step.When(ctx)
		}
		if step.Known != nil && ps.Needed {
			ps.Why = step.Known(ctx)
		}
		p.Steps = append(p.Steps, ps)
	}
}

// diskAsItIs says what is known of the disk.
func (j *Job) diskAsItIs(ctx context.Context) string {
	size, usedBy, err := blockdev.Look(j.Request.BlockDev)
	if err != nil {
		return err.Error()
	}
	found, err := filesystem.Probe(ctx, j.Request.BlockDev)
	text := fmt.Sprintf("%d MiB, holds %s", size>>20, found)
	if err != nil {
		text = fmt.Sprintf("%d MiB, %v", size>>20, err)
	}
	if usedBy != "" {
		text += ", in use: " + usedBy
	}
	if j.isReadOnly(j.Request.BlockDev) {
		text += ", read-only for the guest"
	}
	if _, err := partition.Plan(j.style(), size, j.Settings.PartitionAlignment, rand.Reader); err != nil {
		text += ", " + err.Error()
	}
	if err := j.checkSettings(); err != nil {
		text += ", refused: " + strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return text
}

// swapsAsTheyAre says what the disks hold that are to become swap.
func (j *Job) swapsAsTheyAre(ctx context.Context) string {
	if j.Fresh {
		return "" // it is to be made first
	}
	var texts []string
	for _, path := range j.swapPaths() {
		_, what, err := filesystem.IsBlankOrSwap(ctx, path)
		switch {
		case err != nil:
			what = err.Error()
		case j.isReadOnly(path):
			what += ", refused: it is read-only for the guest"
		}
		texts = append(texts, what)
	}
	return joinPaths(texts)
}
