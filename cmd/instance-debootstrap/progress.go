package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"instance-debootstrap/pkg/session"
)

// onTerminal reports whether somebody watches: progress lines instead of a log.
func (p *program) onTerminal() bool {
	return !p.isVerb && !p.json && !p.verbose && term.IsTerminal(int(os.Stderr.Fd()))
}

// progress shows each step on a line of its own, with its time, and while it goes on
// with what its tool said last; of one that isn't needed it says why. Off a terminal the
// log does that.
func (p *program) progress() func(session.Event) {
	if !p.onTerminal() {
		return nil
	}
	stop := func() {}
	return func(ev session.Event) {
		stop()
		stop = func() {}
		ev.Detail = string(p.screen.names.in([]byte(ev.Detail)))
		name := fmt.Sprintf("[%2d/%d] %s: ", ev.Number, ev.Total, ev.Step)
		switch {
		case ev.Skipped != "":
			p.screen.show(cut(name+"not needed: "+ev.Skipped, columns()-1), true)
		case ev.Done && ev.Err != nil:
			p.screen.show(stepLine(name+"not done", ev.Elapsed, columns()), true)
		case ev.Done:
			p.screen.show(stepLine(name+ev.Detail, ev.Elapsed, columns()), true)
		default:
			p.said.set(ev.Detail)
			stop = every(200*time.Millisecond, func(since time.Duration) {
				p.screen.show(stepLine(name+p.said.get(), since, columns()), false)
			})
		}
	}
}

// watch shows on a terminal how far it is what takes long and has no steps, by the time it
// takes and by what its log says, as long as it goes on.
func (p *program) watch(name string, do func() error) error {
	if !p.onTerminal() {
		return do()
	}
	p.said.set("")
	stop := every(200*time.Millisecond, func(since time.Duration) {
		p.screen.show(stepLine(name+p.said.get(), since, columns()), false)
	})
	err := do()
	stop()
	p.screen.show("", false)
	return err
}

// every calls draw now and again, with the time since the first call, until it is
// stopped.
func every(pause time.Duration, draw func(time.Duration)) (stop func()) {
	start, tick, quit := time.Now(), time.NewTicker(pause), make(chan struct{})
	draw(0)
	go func() {
		for {
			select {
			case <-tick.C:
				draw(time.Since(start))
			case <-quit:
				return
			}
		}
	}()
	return func() { tick.Stop(); quit <- struct{}{} }
}

// saying is what a step's line says after its name.
type saying struct {
	mu   sync.Mutex
	text string
}

func (s *saying) set(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = text
}

func (s *saying) get() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

// watched is the log of a run that somebody watches on a terminal: warnings are
// printed, and for what it waits, and what a tool says stands in its step's line until it says more.
type watched struct {
	io.Writer
	said *saying
}

// WriteLevel takes an event as zerolog has it, a JSON object.
func (w watched) WriteLevel(level zerolog.Level, event []byte) (int, error) {
	if level >= zerolog.WarnLevel {
		return w.Write(event)
	}
	var e struct {
		Tool, Hook, Message string
		Waits, Copied       bool
	}
	if json.Unmarshal(event, &e) != nil {
		return len(event), nil
	}
	if e.Waits {
		return w.Write(event)
	}
	if e.Copied || e.Tool+e.Hook != "" {
		w.said.set(e.Message)
	}
	return len(event), nil
}
