package bash

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"instance-debootstrap/pkg/pattern"
)

// event is a command of the trace, without its arguments: these hold secrets.
type event struct {
	place
	name    string // its first word
	errexit place  // where errexit was last switched off
}

// trace reads what bash prints of each command before it runs it: 1E as often as the
// command is nested, FILE 1F LINE 1F SUBSHELL 1E, the command and a newline. The end
// of a report is 1E "=" WORD 1E. What it keeps is places.
type trace struct {
	ended chan struct{} // closed at its end
	done  chan struct{} // told of each end of a report

	mu    sync.Mutex
	last  event
	inner event // the last one that was no assignment
	setBy map[string]place
	files map[string]bool
}

func readTrace(f *os.File) *trace {
	t := &trace{ended: make(chan struct{}), done: make(chan struct{}, 1)}
	t.begin()
	go func() {
		defer close(t.ended)
		defer f.Close()
		t.read(bufio.NewReaderSize(f, 64<<10))
	}()
	return t
}

// begin forgets what was seen.
func (t *trace) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.done: // of an end that was no report's
	default:
	}
	t.last, t.inner, t.setBy, t.files = event{}, event{}, map[string]place{}, map[string]bool{}
}

// wait waits until the report's end is seen, or bash has ended.
func (t *trace) wait(exited <-chan struct{}) {
	select {
	case <-t.done:
	case <-exited:
	}
}

// told is what was seen: the last command, which is the one that failed if one did;
// where each name got its value; the files.
func (t *trace) told() (last event, setBy map[string]place, files map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last = t.last; assigned().MatchString(last.name) && t.inner.name != "" {
		t.inner.errexit = last.errexit // of A=$(false) it is false that failed
		last = t.inner
	}
	return last, t.setBy, t.files
}

// maxPiece is how much of a command is looked at, in bytes.
const maxPiece = 4 << 10

func (t *trace) read(r *bufio.Reader) {
	var header []byte
	for {
		piece, err := readPiece(r)
		switch {
		case header != nil:
			t.note(header, string(piece))
			header = nil
		case bytes.HasPrefix(piece, []byte("=")) && err == nil:
			select {
			case t.done <- struct{}{}:
			default:
			}
		case bytes.Count(piece, []byte{0x1f}) == 2:
			header = piece
		}
		if err != nil {
			return
		}
	}
}

// readPiece reads up to the next 1E, and returns the beginning.
func readPiece(r *bufio.Reader) (piece []byte, err error) {
	for {
		part, err := r.ReadSlice(0x1e)
		piece = append(piece, part[:min(len(part), maxPiece-min(len(piece), maxPiece))]...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimSuffix(piece, []byte{0x1e}), err
		}
	}
}

var (
	assigned  = pattern.New(`^([A-Za-z_][A-Za-z0-9_]*)(?:\[[^\]]*\])?\+?=`)
	switchOff = pattern.New(`^(?:builtin )?set (?:\+[a-df-z]*e|\+o errexit)`)
)

// note takes one command.
func (t *trace) note(header []byte, text string) {
	file, rest, _ := strings.Cut(string(header), "\x1f")
	number, subshell, _ := strings.Cut(rest, "\x1f")
	if file == "" || strings.Contains(text, "__settings_") || strings.TrimSpace(text) == traceOff {
		return // of the driver
	}
	line, _ := strconv.Atoi(number)
	at := place{strings.TrimPrefix(file, "./"), line}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files[at.file] = true
	t.last.place, t.last.name = at, firstWord(text)
	m := assigned().FindStringSubmatch(text)
	if m == nil {
		t.inner = t.last
	}
	switch {
	case subshell != "0":
	case m != nil:
		t.setBy[m[1]] = at
	case switchOff().MatchString(text):
		t.last.errexit = at
	default:
		for _, name := range declares(strings.Fields(text)) {
			t.setBy[name] = at
		}
	}
}

// declares lists the names that a command gives a value, by the words of its trace.
func declares(words []string) (names []string) {
	if len(words) > 0 && (words[0] == "builtin" || words[0] == "command") {
		words = words[1:]
	}
	if len(words) < 2 {
		return nil
	}
	options := words[1:]
	switch words[0] {
	case "for", "select":
		options = options[:1]
	case "printf":
		if options[0] != "-v" || len(options) < 2 {
			return nil
		}
		options = options[1:2]
	case "read", "mapfile", "readarray", "getopts":
	case "declare", "typeset", "readonly", "export":
		for i, word := range options {
			name, _, _ := strings.Cut(strings.TrimPrefix(word, "'"), "=")
			options[i] = strings.TrimSuffix(name, "+")
		}
	default:
		return nil
	}
	return slices.DeleteFunc(options, func(word string) bool { return !validName(word) })
}

// firstWord is the name of a command, or the NAME= of an assignment.
func firstWord(text string) string {
	if m := assigned().FindString(text); m != "" {
		return m
	}
	word, _, _ := strings.Cut(strings.TrimSuffix(text, "\n"), " ")
	return strings.Trim(word, "'")
}
