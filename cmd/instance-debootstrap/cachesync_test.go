package main

import (
	"errors"
	"io"
	"testing"
	"time"
)

// The other node's end goes on writing what nobody here can take any more.
func TestANodeThatGoesOnSendingIsNotWaitedForOnceItsTreeCannotBeTaken(t *testing.T) {
	full, silent := errors.New("no space left"), errors.New("it says nothing")
	done := make(chan error, 1)
	go func() {
		done <- withNode(t.Context(), "node2", []string{"sh", "-c", "cat /dev/zero"}, silent, func(in io.Reader, _ io.Writer) error {
			_, err := in.Read(make([]byte, 1))
			return errors.Join(err, full)
		})
	}()
	select {
	case err := <-done:
		if !errors.Is(err, full) {
			t.Errorf("the reason is %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it is waited for")
	}
}

func TestWhatSSHSaysOfANodeThatIsGoneIsTheReason(t *testing.T) {
	silent, cut := errors.New("it says nothing"), errors.New("it is cut off")
	for script, want := range map[string]string{
		"echo gone >&2; exit 255":                   "sh: exit status 255: gone: have `ssh root@node2 true` work without a question",
		"echo hello; echo gone >&2; exit 255":       "sh: exit status 255: gone: have `ssh root@node2 true` work without a question",
		"echo hello; echo it has failed >&2; false": "it is cut off",
		"echo unknown program >&2; exit 127":        "sh: exit status 127: unknown program",
		"exit 0":                                    "it says nothing",
	} {
		err := withNode(t.Context(), "node2", []string{"sh", "-c", script}, silent, func(in io.Reader, _ io.Writer) error {
			text, err := io.ReadAll(in)
			if len(text) == 0 {
				return errors.Join(err, silent)
			}
			return errors.Join(err, cut)
		})
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, not %s", script, err, want)
		}
	}
}
