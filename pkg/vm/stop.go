package vm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// StopTime is how long a guest has to shut down unless the admin says otherwise:
// systemd waits for 90 s for what doesn't stop, and goes on without it.
const StopTime = 2 * time.Minute

const (
	// askEvery is when a guest is asked again: one that is still booting doesn't
	// hear its power button.
	askEvery  = 10 * time.Second
	pollEvery = 500 * time.Millisecond
)

// Stop says whether a running guest is shut down first.
type Stop struct {
	Wanted bool
	Within time.Duration // how long it has for that
}

// deaf are the states in which nothing runs in a guest that could shut it down, and
// virsh's commands that end them.
var deaf = map[string]string{"paused": "resume", "pmsuspended": "dompmwakeup", "crashed": "destroy"}

// canAnswer refuses a guest in which nothing runs, and which can't do what is asked.
func (f *VM) canAnswer(cannot string) error {
	if f.hasIOError() {
		return fmt.Errorf("the guest %s is paused by an I/O error of a disk, and %s: see which (virsh domblkerror %s), make room in its pool, and virsh resume %[3]s first", f.Name, cannot, f.forVirsh())
	}
	if command := deaf[f.State]; command != "" {
		return fmt.Errorf("the guest %s is %s, and %s: virsh %s %s first", f.Name, f.State, cannot, command, f.forVirsh())
	}
	return nil
}

// mustComeBack refuses a running guest that can't be shut down, or would be gone then.
func (f *VM) mustComeBack(ctx context.Context) error {
	if err := f.canAnswer("can't shut down"); err != nil || !f.Running() {
		return err
	}
	kept, err := f.virsh.IsPersistent(ctx, f.Domain.UUID)
	if err == nil && !kept {
		err = fmt.Errorf("the domain of the guest %s is not persistent, and would be gone when it is shut down: define it first (virsh dumpxml %s, virsh define)", f.Name, f.forVirsh())
	}
	return err
}

// whyItStays says what to do about a guest that was asked to shut down and hasn't.
func (f *VM) whyItStays(err error, within time.Duration) error {
	if !errors.Is(err, errNoAnswer) {
		return err
	}
	return fmt.Errorf("%w within %v: see why (instance-debootstrap vm console %s), give it more time (--stop-time), or force it off (vm stop --force %s), which may lose its last writes",
		err, within, f.Name, f.Name)
}

func (f *VM) isAwake(context.Context) (bool, string) {
	return session.NeededIf(f.Running() && deaf[f.State] == "", "it is "+f.State)
}

// errNoAnswer is why a guest that was asked to shut down is still there.
var errNoAnswer = errors.New("it doesn't answer")

// shutDown asks the guest to shut down, as pressing its power button does, and
// waits until it has. A guest that is still there then is errNoAnswer: nothing
// pulls its plug here.
func (f *VM) shutDown(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, errNoAnswer)
	defer cancel()
	var asked time.Time
	for {
		if err := f.lookAgain(ctx); err != nil || !f.Running() {
			return err
		}
		if time.Since(asked) >= askEvery {
			if err := f.virsh.PressPowerButton(ctx, f.Domain.UUID); err != nil {
				tell.Info(ctx, "%v", err) // it may have ended just now, or answer the next time
			} else if asked.IsZero() {
				tell.Info(ctx, "the guest %s is asked to shut down, and has %v", f.Name, within)
			}
			asked = time.Now()
		}
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("the guest %s was asked to, is %s, and may still do it: %w", f.Name, f.State, cause)
		}
		select {
		case <-ctx.Done(): // it is looked at once more
		case <-time.After(pollEvery):
		}
	}
}

// lookAgain reads the guest's state anew. A domain that isn't persistent is gone when
// it is shut off.
func (f *VM) lookAgain(ctx context.Context) error {
	state, err := f.virsh.State(ctx, f.Domain.UUID)
	if err != nil {
		if !f.virsh.IsGone(ctx, f.Domain.UUID) {
			return err
		}
		state = shutOff
	}
	f.State = state
	return nil
}

// unplug ends the guest at once, unless it has just ended by itself.
func (f *VM) unplug(ctx context.Context) error {
	err := f.virsh.Destroy(ctx, f.Domain.UUID)
	if err != nil && f.lookAgain(ctx) == nil && !f.Running() {
		return nil
	}
	return err
}
