package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/paths"
)

// Step is one line of a recipe.
type Step struct {
	Name   string // what is done, as the admin guide says it
	Detail string // to what, with which values; no secrets
	// When says by read-only probes whether the step is needed; nil is always.
	// The text is the reason, shown by plan.
	When func(context.Context) (bool, string)
	// Known says by read-only probes what can be known of the step beforehand, and why
	// it would fail; only plan asks.
	Known func(context.Context) (string, error)
	Run   func(context.Context) error
}

// Event tells an observer how a recipe goes on.
type Event struct {
	Number, Total int // from 1
	Step          string
	Detail        string
	Done          bool
	Skipped       string // why the step was not needed
	Elapsed       time.Duration
	Err           error
}

// Session holds one run: its undo stack and where it works.
type Session struct {
	// Private is true in namespaces of its own, where everything ends with the
	// process; false under NAMESPACE=host.
	Private bool
	// HostProc is the node's own /proc, seen from inside, or nil.
	HostProc *os.Root
	// WorkDir is a folder for mount points and temporary files: gone at the end.
	WorkDir string
	// Interrupts has a value for each Ctrl-C (SIGINT), the first of which cancels the
	// run's context.
	Interrupts <-chan struct{}
	// Observe, when set, is told of each step's start and end.
	Observe func(Event)

	// Named, when set, is told what messages are to call the disk that is reached by a path.
	Named func(path, name string)

	undo  []undo
	over  []over
	spare []int // processes of ours that EndStrays leaves alone
}

// over is a device of the run's that is over all of a disk, or a part.
type over struct{ device, disk string }

type undo struct {
	name string
	fn   func(context.Context) error
}

// Run calls job with a session in the current process: in namespaces of its
// own when private (the caller is then the inner process), on the node itself
// otherwise. The undo stack is worked off before Run returns, and its errors
// are joined to the job's.
func Run(ctx context.Context, private bool, job func(context.Context, *Session) error) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	interrupts := make(chan struct{}, 2)
	s := &Session{Private: private, Interrupts: interrupts}
	count := func() {
		select {
		case interrupts <- struct{}{}:
		default:
		}
	}
	if private {
		watchLifeline(cancel, count)
		count = func() {} // on a terminal each comes twice: from the outer process, and from the terminal
		if s.HostProc, err = os.OpenRoot("/proc"); err != nil {
			return err
		}
		defer s.HostProc.Close()
	}
	stop := cancelOnSignals(cancel, count)
	defer stop()
	syscall.Umask(0o022) // Ganeti's node daemon has 077; every mode we want is given in full
	if err := OwnFolder(paths.RunDir, 0o755); err != nil {
		return err
	}
	if err := OwnFolder(paths.LockDir, 0o700); err != nil {
		return err
	}
	if private {
		if err := enterNamespace(); err != nil {
			return err
		}
		defer reapOrphans()()
	}
	if s.WorkDir, err = os.MkdirTemp(paths.RunDir, paths.RunPrefix); err != nil {
		return err
	}
	if err := os.Chmod(s.WorkDir, 0o711); err != nil { // hooks may reach TARGET as another user
		return err
	}
	s.Defer("remove "+s.WorkDir, func(context.Context) error { return os.Remove(s.WorkDir) })
	defer func() {
		// The undo steps must run though ctx is cancelled, but not for ever.
		clean, done := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
		defer done()
		if uerr := s.undoTo(clean, 0); uerr != nil {
			err = errors.Join(err, uerr)
		}
	}()
	return BecauseOf(ctx, job(ctx, s))
}

// OwnFolder makes a folder of ours with exactly these permissions, whatever the
// umask, and refuses one that is another user's or that others can write to.
func OwnFolder(dir string, mode os.FileMode) error {
	if err := makeFolder(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := makeFolder(dir, mode); err != nil {
		return err
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	uid := st.Sys().(*syscall.Stat_t).Uid
	if !st.IsDir() || uid != 0 && int(uid) != os.Getuid() || st.Mode()&0o022 != 0 {
		return fmt.Errorf("folder %s is not root's alone (mode %v, user %d): somebody else made it; remove it", dir, st.Mode(), uid)
	}
	if st.Mode().Perm() == mode {
		return nil
	}
	return os.Chmod(dir, mode)
}

// makeFolder makes a folder that is missing, with this mode whatever the umask.
func makeFolder(dir string, mode os.FileMode) error {
	switch err := os.Mkdir(dir, mode); {
	case errors.Is(err, os.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return os.Chmod(dir, mode)
}

// endSignals are the signals that ask for an orderly end. A hangup that the
// caller ignores (nohup) stays ignored.
func endSignals() []os.Signal {
	if signal.Ignored(syscall.SIGHUP) {
		return []os.Signal{syscall.SIGTERM, syscall.SIGINT}
	}
	return []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}
}

// WithSignals returns a context that the end signals cancel; its cause is Interrupted.
func WithSignals(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ignore := cancelOnSignals(cancel, func() {})
	return ctx, func() { ignore(); cancel(nil) }
}

// cancelOnSignals turns the end signals into an orderly end; interrupted is called for
// each SIGINT.
func cancelOnSignals(cancel context.CancelCauseFunc, interrupted func()) (stop func()) {
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, endSignals()...)
	go func() {
		for s := range ch {
			cancel(&Interrupted{s.(syscall.Signal)})
			if s == syscall.SIGINT {
				interrupted()
			}
		}
	}()
	return func() { signal.Stop(ch); close(ch) }
}

// Defer puts a release on the undo stack. Releases run in reverse order, every
// one of them, whatever the others return.
func (s *Session) Defer(name string, fn func(context.Context) error) {
	s.undo = append(s.undo, undo{name, fn})
}

// Over tells which disk a device of the run's is over, or a descriptor leads to, of which
// tools and the kernel speak: it is gone when the admin reads what they said.
func (s *Session) Over(device, disk string) { s.over = append(s.over, over{device, disk}) }

// onDisk names the disk in an error that names only a device over it.
func (s *Session) onDisk(err error) error {
	text := err.Error()
	for _, o := range slices.Backward(s.over) {
		_, after, found := strings.Cut(text, o.device)
		isOther := after != "" && after[0] >= '0' && after[0] <= '9' // /dev/loop1 in /dev/loop10
		if found && !isOther && !strings.Contains(text, o.disk) {
			return fmt.Errorf("disk %s: %w", o.disk, err)
		}
	}
	return err
}

// Mark is the undo stack's height, for UndoTo; 0 is its end.
func (s *Session) Mark() int { return len(s.undo) }

// UndoTo works off the undo stack, newest first, down to a mark, whether the run is
// interrupted or not; the errors are joined. What is undone does not run again. Its
// functions may wait for a disk: once the run is interrupted, for no longer than undoTime.
func (s *Session) UndoTo(ctx context.Context, mark int) error {
	clean, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(nil)
	stop := context.AfterFunc(ctx, func() {
		late := time.AfterFunc(undoTime, func() { giveUp(fmt.Errorf("it took longer than %v", undoTime)) })
		context.AfterFunc(clean, func() { late.Stop() })
	})
	defer stop()
	return s.undoTo(clean, mark)
}

// undoTime is how long an interrupted run waits for what has to be undone.
const undoTime = 2 * time.Minute

func (s *Session) undoTo(ctx context.Context, mark int) error {
	var errs []error
	for len(s.undo) > mark {
		u := s.undo[len(s.undo)-1]
		s.undo = s.undo[:len(s.undo)-1]
		zerolog.Ctx(ctx).Debug().Msg("undo: " + u.name)
		if err := u.fn(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", u.name, s.onDisk(err)))
		}
	}
	return errors.Join(errs...)
}

// Do runs the steps in order and stops at the first that fails.
func (s *Session) Do(ctx context.Context, steps []Step) error {
	log := zerolog.Ctx(ctx)
	for i, step := range steps {
		ev := Event{Number: i + 1, Total: len(steps), Step: step.Name, Detail: step.Detail}
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.Name, err)
		}
		if step.When != nil {
			if needed, why := step.When(ctx); !needed {
				ev.Done, ev.Skipped = true, why
				s.tell(ev)
				log.Debug().Str("step", step.Name).Msg("not needed: " + why)
				continue
			}
		}
		s.tell(ev)
		start := time.Now()
		err := step.Run(ctx)
		if err == nil {
			err = context.Cause(ctx)
		}
		ev.Done, ev.Elapsed, ev.Err = true, time.Since(start), err
		s.tell(ev)
		if err != nil {
			return fmt.Errorf("%s: %w", step.Name, s.onDisk(err))
		}
		log.Info().Str("step", step.Name).Dur("ms", ev.Elapsed).Msg(step.Detail)
	}
	return nil
}

func (s *Session) tell(ev Event) {
	if s.Observe != nil {
		s.Observe(ev)
	}
}
