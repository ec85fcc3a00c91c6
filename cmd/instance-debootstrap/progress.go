package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"instance-debootstrap/pkg/session"
)

// onTerminal reports whether somebody watches: progress lines instead of a log.
func (p *program) onTerminal() bool {
	return !p.isVerb && !p.json && !p.verbose && term.IsTerminal(int(os.Stderr.Fd()))
}

// progress shows each step on a line of its own, running time and all, while
// it goes on; off a terminal the log does that.
func (p *program) progress() func(session.Event) {
	if !p.onTerminal() {
		return nil
	}
	out := p.stderr()
	var tick *time.Ticker
	var quit chan struct{}
	line := func(ev session.Event, d time.Duration) {
		fmt.Fprintf(out, "\r\x1b[K[%2d/%d] %s: %s  %.1fs", ev.Number, ev.Total, ev.Step, ev.Detail, d.Seconds())
	}
	return func(ev session.Event) {
		if quit != nil {
			tick.Stop()
			quit <- struct{}{}
			quit = nil
		}
		switch {
		case ev.Skipped != "":
			return
		case ev.Done:
			line(ev, ev.Elapsed)
			fmt.Fprintln(out)
			return
		}
		start := time.Now()
		tick, quit = time.NewTicker(200*time.Millisecond), make(chan struct{})
		line(ev, 0)
		go func(t *time.Ticker, quit chan struct{}) {
			for {
				select {
				case <-t.C:
					line(ev, time.Since(start))
				case <-quit:
					return
				}
			}
		}(tick, quit)
	}
}
