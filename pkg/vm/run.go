package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/session"
)

// Start starts a guest that is shut off, or goes on with one that was saved. What is
// done is no fault.
func Start(ctx context.Context, s *session.Session, virsh libvirt.Virsh, name string) (did string, err error) {
	f, err := openGuest(ctx, s, virsh, name)
	if err != nil {
		return "", err
	}
	if f.Running() {
		return fmt.Sprintf("the guest %s is %s already", name, f.State), f.canAnswer("can't be started")
	}
	err = s.Do(ctx, []session.Step{
		{Name: "check that it can start", Detail: name, Run: func(context.Context) error { return f.mustNotBeMounted() }},
		{Name: "start the guest", Detail: name, Run: f.start},
	})
	return "started the guest " + name, err
}

func (f *VM) start(ctx context.Context) error { return f.virsh.Start(ctx, f.Domain.UUID) }

// Shutdown shuts a guest down in order, or forces it off. One that doesn't shut down
// within a time is an error, and goes on.
func Shutdown(ctx context.Context, s *session.Session, virsh libvirt.Virsh, name string, within time.Duration, force bool) (did string, err error) {
	f, err := openGuest(ctx, s, virsh, name)
	if err != nil {
		return "", err
	}
	if !f.Running() {
		return fmt.Sprintf("the guest %s is %s already", name, f.State), nil
	}
	if force {
		return "forced off the guest " + name, s.Do(ctx, []session.Step{{Name: "force the guest off", Detail: name, Run: f.unplug}})
	}
	err = s.Do(ctx, []session.Step{
		{Name: "check that it can shut down", Detail: f.State, Run: func(context.Context) error { return f.canAnswer("can't shut down") }},
		{Name: "shut down the guest", Detail: name, Run: func(ctx context.Context) error { return f.whyItStays(f.shutDown(ctx, within), within) }},
	})
	return "shut down the guest " + name, err
}

// Reboot shuts a guest down in order and starts it again, so that what was changed in
// its definition comes into force. It is started again whatever happens meanwhile.
func Reboot(ctx context.Context, s *session.Session, virsh libvirt.Virsh, name string, within time.Duration) (did string, err error) {
	f, err := openGuest(ctx, s, virsh, name)
	if err != nil {
		return "", err
	}
	if !f.Running() {
		return "", fmt.Errorf("the guest %s is %s: instance-debootstrap vm start %s", name, f.State, name)
	}
	stopped := false
	err = s.Do(ctx, []session.Step{
		{Name: "check that it can shut down", Detail: f.State, Run: func(ctx context.Context) error {
			return cmp.Or(f.mustNotBeMounted(), f.mustComeBack(ctx))
		}},
		{Name: "shut down the guest", Detail: name, Run: func(ctx context.Context) error {
			err := f.shutDown(ctx, within)
			if stopped = err == nil; stopped {
				return nil
			}
			return fmt.Errorf("%w; if it does: instance-debootstrap vm start %s", f.whyItStays(err, within), name)
		}},
	})
	if stopped {
		err = errors.Join(err, s.Do(context.WithoutCancel(ctx), []session.Step{{Name: "start the guest again", Detail: name, Run: f.start}}))
	}
	return "restarted the guest " + name, err
}
