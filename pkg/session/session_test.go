package session

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"instance-debootstrap/pkg/paths"
)

func TestUndoRunsInReverseToItsEndAndJoinsErrors(t *testing.T) {
	s := &Session{}
	var ran []string
	for _, name := range []string{"first", "second", "third"} {
		s.Defer(name, func(context.Context) error {
			ran = append(ran, name)
			if name != "first" {
				return errors.New("no " + name)
			}
			return nil
		})
	}
	err := s.UndoTo(context.Background(), 0)
	if want := []string{"third", "second", "first"}; !slices.Equal(ran, want) {
		t.Errorf("ran %v, want %v", ran, want)
	}
	if err == nil || !strings.Contains(err.Error(), "no third") || !strings.Contains(err.Error(), "no second") {
		t.Errorf("the errors are %v", err)
	}
	if err := s.UndoTo(context.Background(), 0); err != nil || len(ran) != 3 {
		t.Errorf("a second time: %v, ran %v", err, ran)
	}
}

func TestUndoToAMarkKeepsWhatIsBelow(t *testing.T) {
	s := &Session{}
	var ran []string
	add := func(name string) {
		s.Defer(name, func(context.Context) error { ran = append(ran, name); return nil })
	}
	add("below")
	mark := s.Mark()
	add("above")
	if err := s.UndoTo(context.Background(), mark); err != nil || !slices.Equal(ran, []string{"above"}) {
		t.Errorf("%v, ran %v", err, ran)
	}
}

func TestStepsStopAtTheFirstFailureAndSkipTheNeedless(t *testing.T) {
	var ran []string
	step := func(name string, err error) Step {
		return Step{Name: name, Run: func(context.Context) error { ran = append(ran, name); return err }}
	}
	needless := step("needless", nil)
	needless.When = func(context.Context) (bool, string) { return false, "nothing to do" }
	var events []Event
	s := &Session{Observe: func(e Event) { events = append(events, e) }}
	err := s.Do(context.Background(), []Step{step("one", nil), needless, step("two", errors.New("broken")), step("three", nil)})
	if !slices.Equal(ran, []string{"one", "two"}) || err == nil || err.Error() != "two: broken" {
		t.Errorf("ran %v, %v", ran, err)
	}
	if len(events) != 5 || events[2].Skipped != "nothing to do" || events[4].Err == nil {
		t.Errorf("events %+v", events)
	}
}

func TestCancelledContextStopsBetweenSteps(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &Session{}
	err := s.Do(ctx, []Step{
		{Name: "one", Run: func(context.Context) error { cancel(&Interrupted{syscall.SIGTERM}); return nil }},
		{Name: "two", Run: func(context.Context) error { t.Error("went on"); return nil }},
	})
	if err == nil || !strings.Contains(err.Error(), "interrupted by SIGTERM") {
		t.Errorf("error %v", err)
	}
}

func TestSignalEndsARunInOrder(t *testing.T) {
	dir := t.TempDir()
	paths.RunDir, paths.LockDir = dir+"/run", dir+"/lock"
	undone := false
	err := Run(context.Background(), false, func(ctx context.Context, s *Session) error {
		s.Defer("undo", func(ctx context.Context) error { undone = ctx.Err() == nil; return nil })
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	var signalled *Interrupted
	if !errors.As(err, &signalled) || !undone {
		t.Errorf("error %v, undone %v", err, undone)
	}
	if left, _ := os.ReadDir(dir + "/run"); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestDescriptorsFromTheCallerAreClosed(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	inherited, err := syscall.Dup(int(r.Fd())) // without close-on-exec, as across an exec
	if err != nil {
		t.Fatal(err)
	}
	kept, err := syscall.Dup(int(r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(kept)
	CloseInherited(kept)
	if err := syscall.Close(inherited); err == nil {
		t.Error("an inherited descriptor stayed open")
	}
	if _, err := r.Stat(); err != nil {
		t.Errorf("one of our own was closed: %v", err)
	}
	if err := syscall.Fstat(kept, new(syscall.Stat_t)); err != nil {
		t.Errorf("the one to keep was closed: %v", err)
	}
}

func TestAFailureNamesTheDiskBelowTheRunsDevice(t *testing.T) {
	s := &Session{}
	s.Over("/dev/loop1", "/dev/xenvg/root")
	s.Over("/dev/loop10", "/dev/xenvg/data")
	for said, want := range map[string]string{
		"make xfs on /dev/loop1p1: no":               "make: disk /dev/xenvg/root: make xfs on /dev/loop1p1: no",
		"mount /dev/loop10: no":                      "make: disk /dev/xenvg/data: mount /dev/loop10: no",
		"disk /dev/xenvg/root: mount /dev/loop1: no": "make: disk /dev/xenvg/root: mount /dev/loop1: no",
		"mount /dev/loop2: no":                       "make: mount /dev/loop2: no",
	} {
		fails := errors.New(said)
		err := s.Do(t.Context(), []Step{{Name: "make", Run: func(context.Context) error { return fails }}})
		if err == nil || err.Error() != want || !errors.Is(err, fails) {
			t.Errorf("%q: %v, want %s", said, err, want)
		}
		s.Defer("make", func(context.Context) error { return fails })
		if err := s.UndoTo(t.Context(), 0); err == nil || err.Error() != want {
			t.Errorf("%q, when it is undone: %v, want %s", said, err, want)
		}
	}
}
