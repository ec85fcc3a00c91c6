//go:build root

package libvirt

import (
	"encoding/json"
	"os/exec"
	"strings"
)

// event is a line of --log-format json.
type event struct {
	Level, Time, Step, Message string
	MS                         *int
}

// events runs a vm command, every line of whose stderr must be an event.
func (l lab) events(args ...string) (events []event, err error) {
	l.Helper()
	cmd := exec.Command(program, append([]string{"--log-format", "json", "vm"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	err = cmd.Run()
	for line := range strings.Lines(stderr.String()) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Level == "" || e.Time == "" {
			l.Errorf("no event: %v: %s", err, line)
		}
		events = append(events, e)
	}
	return events, err
}
