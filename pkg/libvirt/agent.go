package libvirt

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"instance-debootstrap/pkg/pattern"
)

// What a guest's agent answers (QEMU Guest Agent Protocol Reference) is the guest's own
// word: libvirt takes at most 10 MiB of it and waits agentTime, and here a number is a
// number, and a text is quoted and cut.

// agentTime bounds one question to a guest's agent.
const agentTime = 10 * time.Second

// maxMissed is how many questions in a row an agent may leave without an answer while
// the guest works.
const maxMissed = 12

var errGoesOn = errors.New("the guest goes on with it, if it can")

// ask puts one question to a guest's agent.
func (v Virsh) ask(ctx context.Context, uuid, execute string, arguments map[string]any, answer any) error {
	question := map[string]any{"execute": execute}
	if arguments != nil {
		question["arguments"] = arguments
	}
	text, err := json.Marshal(question)
	if err != nil {
		return err
	}
	out, err := v.run(ctx, "qemu-agent-command", uuid, string(text), "--timeout", strconv.Itoa(int(agentTime/time.Second)))
	if err == nil && answer != nil {
		if json.Unmarshal([]byte(out), answer) != nil {
			err = fmt.Errorf("the agent's answer is no JSON that was expected: %s", pattern.Quote(out))
		}
	}
	return err
}

// AgentAnswers fails unless the guest's agent does.
func (v Virsh) AgentAnswers(ctx context.Context, uuid string) error {
	return v.ask(ctx, uuid, "guest-ping", nil, nil)
}

// InGuest has the guest's agent run a program in the guest, and returns the first 4 KiB that it
// printed, of which nothing is to be trusted. It is waited for until ctx is done.
func (v Virsh) InGuest(ctx context.Context, uuid string, args ...string) (string, error) {
	var started struct{ Return struct{ PID int64 } }
	err := v.ask(ctx, uuid, "guest-exec", map[string]any{"path": args[0], "arg": args[1:], "capture-output": true}, &started)
	if err != nil {
		return "", err
	}
	for missed := 0; ; {
		var now struct {
			Return struct {
				Exited   bool
				ExitCode int
				Signal   int
				Out      string `json:"out-data"`
				Err      string `json:"err-data"`
			}
		}
		err := v.ask(ctx, uuid, "guest-exec-status", map[string]any{"pid": started.Return.PID}, &now)
		if err == nil {
			missed = 0
		} else if missed++; missed == maxMissed { // the guest may be busy with what it does
			return "", errors.Join(err, errGoesOn)
		}
		if r := now.Return; err == nil && r.Exited {
			out, _ := base64.StdEncoding.DecodeString(r.Out)
			if r.ExitCode == 0 && r.Signal == 0 {
				return string(out[:min(len(out), 4096)]), nil
			}
			said, _ := base64.StdEncoding.DecodeString(r.Err)
			text := strings.TrimSpace(cmp.Or(string(said), string(out), "nothing"))
			return "", fmt.Errorf("in the guest %s ended with %d: it said %s", args[0], cmp.Or(r.ExitCode, 128+r.Signal), pattern.Quote(text[max(0, len(text)-250):]))
		}
		select {
		case <-ctx.Done():
			return "", errors.Join(context.Cause(ctx), errGoesOn)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// ResizeDisk makes a disk of a running guest larger, to sizeBytes, and tells the guest:
// QEMU does that, which knows the disk's format from the domain.
func (v Virsh) ResizeDisk(ctx context.Context, uuid, target, pool string, sizeBytes int64) error {
	if _, err := v.run(ctx, "blockresize", uuid, target, strconv.FormatInt(sizeBytes, 10)+"B"); err != nil {
		return err
	}
	return v.Refresh(ctx, pool)
}
