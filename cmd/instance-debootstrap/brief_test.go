package main

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/session"
)

func TestAnInterruptedRunSaysSoInAFewWords(t *testing.T) {
	term := &session.Interrupted{Signal: syscall.SIGTERM}
	tool := &command.Error{Argv: []string{"mmdebstrap"}, Err: fmt.Errorf("%w", term)}
	deep := fmt.Errorf("find or build the root tree: %w", fmt.Errorf("build cache entry x: %w", fmt.Errorf("bootstrap trixie: %w", tool)))
	undo := errors.New("remove /run/x: device or resource busy")
	for want, err := range map[string]error{
		"find or build the root tree: interrupted by SIGTERM":                                         deep,
		"find or build the root tree: interrupted by SIGTERM\nremove /run/x: device or resource busy": errors.Join(deep, undo),
		"a: interrupted by SIGTERM\nb: interrupted by SIGTERM":                                        errors.Join(fmt.Errorf("a: %w", deep), fmt.Errorf("b: %w", deep)),
		"interrupted by SIGTERM: nothing was made":                                                    fmt.Errorf("%w: nothing was made", term),
		"wait: interrupted by SIGTERM; web1 stays":                                                    fmt.Errorf("wait: %w", fmt.Errorf("%w; web1 stays", term)),
		"step: interrupted by SIGTERM\nunmount: busy":                                                 fmt.Errorf("step: %w", errors.Join(fmt.Errorf("tar: %w", term), errors.New("unmount: busy"))),
		"a: b: c": fmt.Errorf("a: %w", fmt.Errorf("b: %w", errors.New("c"))),
	} {
		if got := brief(err, true); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
