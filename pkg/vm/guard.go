package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/lock"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// Guard watches over a guest in the making, from outside the run's namespaces. It
// is the lock on the guest's name and a process, of a session of its own, that
// sweeps up when this one is killed.
type Guard struct {
	guest string
	lock  *lock.File
	pipe  *os.File // its end of file tells the guard of our death
	cmd   *exec.Cmd
}

// StartGuard begins to watch over a guest; args call the guard (RunGuard). What an
// earlier run left is removed first.
func StartGuard(ctx context.Context, virsh libvirt.Virsh, guest string, args []string) (*Guard, error) {
	held, err := lockGuest(guest, false)
	if err != nil {
		return nil, err
	}
	g := &Guard{guest: guest, lock: held}
	if err := sweepGuest(ctx, virsh, guest); err != nil {
		return nil, errors.Join(err, held.Close())
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, held.Close())
	}
	defer ours.Close()
	g.cmd, g.pipe = exec.Command("/proc/self/exe"), theirs
	g.cmd.Args, g.cmd.Stdin, g.cmd.Stderr = args, ours, os.Stderr
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := g.cmd.Start(); err != nil {
		return nil, errors.Join(err, theirs.Close(), held.Close())
	}
	return g, nil
}

// End dismisses the guard of a run that ended with err, and sweeps up what is left, which after
// one that ended by itself is nothing. What it can't sweep the guard couldn't either. It returns err,
// with what there is of a run that could say nothing itself.
func (g *Guard) End(ctx context.Context, virsh libvirt.Virsh, err error) error {
	if err := sweepGuest(context.WithoutCancel(ctx), virsh, g.guest); err != nil {
		tell.Warn(ctx, "%v", err) // of a run that has failed, and said why
	}
	if errors.Is(err, session.ErrEnded) {
		if uuid, _ := virsh.Find(ctx, g.guest); uuid != "" {
			err = fmt.Errorf("%w\nThere is a guest %s, which stays. See it: instance-debootstrap vm list; remove it: instance-debootstrap vm remove %s", err, g.guest, g.guest)
		}
	}
	_, early := g.pipe.Write([]byte{dismissed})
	if early = errors.Join(early, g.pipe.Close(), g.lock.Close(), g.cmd.Wait()); early != nil {
		tell.Warn(ctx, "the process that would have removed what a killed run leaves of %s was ended itself: %v", g.guest, early)
	}
	return err
}

const dismissed = 'd'

// RunGuard is the guard: it waits for the end of in, and sweeps up unless it was
// dismissed.
func RunGuard(ctx context.Context, virsh libvirt.Virsh, guest string, in io.Reader) error {
	text, err := io.ReadAll(in)
	if err != nil || len(text) > 0 && text[len(text)-1] == dismissed {
		return err
	}
	held, err := lockGuest(guest, true)
	if err != nil {
		return err
	}
	return errors.Join(sweepGuest(ctx, virsh, guest), held.Close())
}
