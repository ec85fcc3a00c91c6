package userspace

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/tell"
)

var errNoAnswer = errors.New("its storage does not answer: see whether it works")

// Times of a server that doesn't answer.
var (
	openTime = 10 * time.Minute // Ceph's own (client_mount_timeout) is 5, if it isn't set
	// glanceTime is for a disk that is only glanced at.
	glanceTime = 10 * time.Second
	// overdueTime is for an interrupted run to notice that it is, and for its undo.
	overdueTime = 3 * time.Minute
)

// endOverdue ends the daemon of an interrupted run that doesn't come to its end, as one that
// waits for a server: with the daemon all that waits for it ends.
func (d Source) endOverdue(ctx context.Context, run *command.Daemon) (stop func()) {
	patience := overdueTime
	if d.shared {
		patience = 0
	}
	over, stop := context.WithCancel(context.Background())
	context.AfterFunc(ctx, func() {
		select {
		case <-over.Done():
		case <-time.After(patience):
			run.Kill()
		}
	})
	return stop
}

// answers waits until the daemon serves the file.
func (d Source) answers(ctx context.Context, run *command.Daemon, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, openTime, fmt.Errorf("%w (waited for %v)", errNoAnswer, openTime))
	defer cancel()
	asked := make(chan error, 1)
	go func() {
		var st unix.Stat_t
		asked <- unix.Stat(path, &st)
	}()
	var wait tell.Wait
	for {
		select {
		case err := <-asked:
			if err == nil {
				return nil
			}
			select {
			case <-run.Done:
				return run.Err()
			case <-time.After(endTime):
				run.Kill()
				return err
			}
		case <-ctx.Done():
			run.Kill()
			return context.Cause(ctx)
		case <-time.After(time.Second):
			wait.For(ctx, "%s to answer", d.Name)
		}
	}
}
