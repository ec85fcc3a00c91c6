package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"instance-debootstrap/pkg/session"
)

// Start starts a guest that is shut off, or goes on with one that was saved. What is
// done is no fault.
func (f *VM) Start(ctx context.Context) (did string, err error) {
	if f.Running() {
		return fmt.Sprintf("the guest %s is %s already", f.Name, f.State), f.canAnswer("can't be started")
	}
	err = f.session.Do(ctx, []session.Step{
		{Name: "check that it can start", Detail: f.Name, Run: func(context.Context) error { return f.mustNotBeMounted() }},
		{Name: "start the guest", Detail: f.Name, Run: f.start},
	})
	return "started the guest " + f.Name, err
}

func (f *VM) start(ctx context.Context) error { return f.virsh.Start(ctx, f.Domain.UUID) }

// Shutdown shuts a guest down in order, or forces it off. One that doesn't shut down
// within a time is an error, and goes on.
func (f *VM) Shutdown(ctx context.Context, within time.Duration, force bool) (did string, err error) {
	if !f.Running() {
		return fmt.Sprintf("the guest %s is %s already", f.Name, f.State), nil
	}
	if force {
		return "forced off the guest " + f.Name, f.session.Do(ctx, []session.Step{{Name: "force the guest off", Detail: f.Name, Run: f.unplug}})
	}
	err = f.session.Do(ctx, []session.Step{
		{Name: "check that it can shut down", Detail: f.State, Run: func(context.Context) error { return f.canAnswer("can't shut down") }},
		{Name: "shut down the guest", Detail: f.Name, Run: func(ctx context.Context) error { return f.whyItStays(f.shutDown(ctx, within), within) }},
	})
	return "shut down the guest " + f.Name, err
}

// Reboot shuts a guest down in order and starts it again, so that what was changed in
// its definition comes into force. It is started again whatever happens meanwhile.
func (f *VM) Reboot(ctx context.Context, within time.Duration) (did string, err error) {
	if !f.Running() {
		return "", fmt.Errorf("the guest %s is %s: instance-debootstrap vm start %s", f.Name, f.State, f.Name)
	}
	stopped := false
	err = f.session.Do(ctx, []session.Step{
		{Name: "check that it can shut down", Detail: f.State, Run: func(ctx context.Context) error {
			return cmp.Or(f.mustNotBeMounted(), f.mustComeBack(ctx))
		}},
		{Name: "shut down the guest", Detail: f.Name, Run: func(ctx context.Context) error {
			err := f.shutDown(ctx, within)
			if stopped = err == nil; stopped {
				return nil
			}
			return fmt.Errorf("%w; if it does: instance-debootstrap vm start %s", f.whyItStays(err, within), f.Name)
		}},
	})
	if stopped {
		err = errors.Join(err, f.session.Do(context.WithoutCancel(ctx), []session.Step{{Name: "start the guest again", Detail: f.Name, Run: f.start}}))
	}
	return "restarted the guest " + f.Name, err
}
