//go:build root

package libvirt

import (
	"encoding/json"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestOnATerminalEachStepHasALineAndRemoveAsks(t *testing.T) {
	l := newLab(t)
	options := small()
	steps := l.steps(options...)
	shown, err := l.onTerminal("", append(append([]string{"stty", "cols", "72;", program, "vm"}, options...), "web1")...)
	if err != nil {
		t.Fatalf("%v:\n%s", err, shown)
	}
	var seen, numbers []string
	numbered := regexp.MustCompile(`^\[ ?([0-9]+)/[0-9]+\] `)
	finished := regexp.MustCompile(`^\[ ?[0-9]+/[0-9]+\] (.*?): .*  [0-9]+\.[0-9]s$`)
	for line := range strings.Lines(shown) {
		wiped := strings.Split(strings.TrimRight(line, "\r\n"), "\x1b[K")
		for _, part := range wiped {
			if part = strings.TrimRight(part, "\r"); strings.HasPrefix(part, "[") && utf8.RuneCountInString(part) > 71 {
				t.Errorf("of a terminal of 72 columns this is wrapped: %q", part)
			}
		}
		if m := numbered.FindStringSubmatch(wiped[len(wiped)-1]); m != nil {
			numbers = append(numbers, m[1])
		}
		if m := finished.FindStringSubmatch(wiped[len(wiped)-1]); m != nil {
			seen = append(seen, m[1])
		}
	}
	if !slices.Equal(seen, steps) {
		t.Errorf("lines of\n%q, for the steps\n%q:\n%q", seen, steps, shown)
	}
	if !strings.Contains(shown, "start the guest: not needed: --start was not given") {
		t.Errorf("it does not say why a step is left out:\n%q", shown)
	}
	for i, number := range numbers {
		if number != strconv.Itoa(i+1) {
			t.Fatalf("a step has no line, or two: %v", numbers)
		}
	}
	if lines := strings.Count(shown, "\n"); len(numbers) <= len(steps) || lines > len(numbers)+3 || !strings.Contains(shown, "...  ") { // no KVM, a pool that isn't started with the node, and the last one
		t.Errorf("%d lines for %d steps:\n%q", lines, len(numbers), shown)
	}

	shown, err = l.onTerminal("web\n", program, "vm", "remove", "web1")
	for _, says := range []string{"web1 is shut off", pool + "/web1-boot (512 MiB)", pool + "/web1-root (3072 MiB)", pool + "/web1-swap (64 MiB)", "Type its name: ", "nothing was removed"} {
		if err == nil || !strings.Contains(shown, says) {
			t.Errorf("%v, and no %q:\n%s", err, says, shown)
		}
	}
	l.vm("show", "web1")
	l.fails("nobody can be asked here", program, "vm", "remove", "web1")
	if shown, err := l.onTerminal("web1\n", program, "vm", "remove", "web1"); err != nil || !strings.Contains(shown, "undefine the domain") {
		t.Errorf("%v:\n%s", err, shown)
	}
	l.clean(0)
}

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

func TestEventsTellOfEachStepAndOfTheEnd(t *testing.T) {
	l := newLab(t)
	steps := l.steps(small()...)
	begin := time.Now()
	events, err := l.events(append(small(), "web1")...)
	t.Logf("a warm create took %.1f s", time.Since(begin).Seconds())
	var seen []string
	for _, e := range events {
		if e.MS != nil {
			seen = append(seen, e.Step)
			t.Logf("%5d ms %s", *e.MS, e.Step)
		}
	}
	if err != nil || !slices.Equal(seen, steps) {
		t.Errorf("%v, and events of\n%q, for the steps\n%q", err, seen, steps)
	}
	if last := events[len(events)-1]; last.Level != "info" || !strings.HasPrefix(last.Message, "made the guest web1: instance-debootstrap vm start web1 starts it. Ways in: vm ssh web1; ") {
		t.Errorf("at the end: %+v", last)
	}
	events, err = l.events(append(small(), "web1")...)
	if last := events[len(events)-1]; err == nil || last.Level != "error" || !strings.Contains(last.Message, "web1 exists already") {
		t.Errorf("%v, and at the end of a failure: %+v", err, last)
	}
	if _, err := l.events("remove", "--yes", "web1"); err != nil {
		t.Error(err)
	}
	l.clean(0)
}
