package libvirt

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// agentTime bounds one question to a guest's agent, in seconds.
const agentTime = "5"

// InGuest has a guest's agent run a program and returns its first 4 KiB of output
// (QEMU Guest Agent Protocol Reference, guest-exec). These are the guest's own words.
func (v Virsh) InGuest(ctx context.Context, name string, argv ...string) (string, error) {
	var begun struct{ PID int64 }
	err := v.ask(ctx, name, "guest-exec", map[string]any{"path": argv[0], "arg": argv[1:], "capture-output": true}, &begun)
	if err != nil {
		return "", err
	}
	var ended struct {
		Exited   bool
		ExitCode int
		OutData  string `json:"out-data"`
	}
	for range 20 {
		if err := v.ask(ctx, name, "guest-exec-status", map[string]any{"pid": begun.PID}, &ended); err != nil || ended.Exited {
			text, err2 := base64.StdEncoding.DecodeString(ended.OutData)
			if err == nil && ended.ExitCode != 0 {
				err = fmt.Errorf("%s in the guest: exit status %d", argv[0], ended.ExitCode)
			}
			return string(text[:min(len(text), 4096)]), errors.Join(err, err2)
		}
		time.Sleep(250 * time.Millisecond)
	}
	return "", fmt.Errorf("%s in the guest doesn't end", argv[0])
}

// ask puts one question to a guest's agent.
func (v Virsh) ask(ctx context.Context, name, execute string, arguments map[string]any, answer any) error {
	question, err := json.Marshal(map[string]any{"execute": execute, "arguments": arguments})
	if err != nil {
		return err
	}
	out, err := v.run(ctx, "qemu-agent-command", name, string(question), "--timeout", agentTime)
	if err == nil {
		err = json.Unmarshal([]byte(out), &struct{ Return any }{answer})
	}
	if err != nil {
		return fmt.Errorf("the guest's agent: %w", err)
	}
	return nil
}
