package bash

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"instance-debootstrap/pkg/pattern"
)

// event is a command of the trace, without its arguments: these hold secrets.
type event struct {
	place
	name    string // its first word, behind "builtin" and "command"
	errexit place  // where errexit was last switched off
}

// prompt is what bash prints before each command of the trace (PS4), its first character
// as often as the command is nested.
const prompt = `$'\x1e${BASH_SOURCE-}\x1f${LINENO}\x1f${BASH_SUBSHELL}\x1f${#BASH_SOURCE[@]}\x1f${PWD-}\x1e'`

// trace reads what bash prints of each command before it runs it: the prompt, the
// command and a newline. What it keeps is places. A file may switch it off.
type trace struct {
	in    *os.File      // the pipe, for the mark of wait
	ended chan struct{} // closed at its end
	done  chan struct{} // told of each mark

	mu    sync.Mutex
	last  event
	inner event  // the last one that was no assignment
	back  event  // the return
	seen  ending // so far
	end   ending // at traceOff
	sent  place  // the last exec: bash is there still, so it has sent output elsewhere
	setBy map[string]place
	files map[string][]string // those evaluated, by bash's names, and their paths
}

// ending is what the shell itself did last, whatever runs in the background.
type ending int

const (
	unseen   ending = iota // the trace was switched off
	returned               // a return from the file itself
	plain
)

func readTrace(f, in *os.File) *trace {
	t := &trace{in: in, ended: make(chan struct{}), done: make(chan struct{}, 1)}
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
	case <-t.done: // of a mark that was none
	default:
	}
	t.last, t.inner, t.seen, t.end, t.setBy, t.files = event{}, event{}, unseen, unseen, map[string]place{}, map[string][]string{}
}

// mark is behind all that bash has written, whatever a file has made of its end of the
// pipe.
const mark = "=end of what bash has written"

// wait waits until all that bash has written is read.
func (t *trace) wait() {
	if _, err := t.in.WriteString("\x1e" + mark + "\x1e"); err != nil {
		return // it has ended
	}
	select {
	case <-t.done:
	case <-t.ended:
	}
}

// tell puts into a what was seen: the last command, which is the one that failed if one
// did; where each name got its value; the files.
func (t *trace) tell(a *answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.last, a.setBy, a.files, a.end, a.sent = t.last, t.setBy, t.files, t.end, t.sent
	switch {
	case t.end == returned:
		a.last = t.back
	case assigned().MatchString(t.last.name) && t.inner.name != "":
		t.inner.errexit = t.last.errexit // of A=$(false) it is false that failed
		a.last = t.inner
	}
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
		case string(piece) == mark:
			select {
			case t.done <- struct{}{}:
			default:
			}
		case bytes.Count(piece, []byte{0x1f}) == 4:
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
	h := strings.Split(string(header), "\x1f")
	line, err := strconv.Atoi(h[1])
	if err != nil {
		return // not the prompt's doing
	}
	words := strings.Fields(text)
	for len(words) > 1 && slices.Contains([]string{"builtin", "command", "-p", "--"}, words[0]) && !strings.EqualFold(words[1], "-v") {
		words = words[1:]
	}
	file, outermost := strings.TrimPrefix(h[0], "./"), h[2] == "0"
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case strings.TrimSpace(text) == traceOff:
		t.end = t.seen
		return
	case file == "" || h[0] == "environment" || strings.Contains(text, "__settings_"):
		return // of the driver, and of Config.Functions
	}
	at := place{t.path(file, h[4]), line}
	t.last.place, t.last.name = at, firstWord(text, words)
	if outermost {
		t.seen, t.end = plain, unseen
	}
	if outermost && t.last.name == "return" && h[3] == "1" {
		t.seen, t.back = returned, t.last
	}
	m := assigned().FindStringSubmatch(text)
	if m == nil {
		t.inner = t.last
	}
	switch {
	case !outermost:
	case m != nil:
		t.setBy[m[1]] = at
	case t.last.name == "exec":
		t.sent = at
	case switchOff().MatchString(text):
		t.last.errexit = at
	default:
		for _, name := range declares(words) {
			t.setBy[name] = at
		}
	}
}

// path is that of a file that a command stands in. dir is bash's folder: what its name is
// relative to, when the file has just been opened.
func (t *trace) path(file, dir string) string {
	if paths := t.files[file]; paths != nil && t.last.name != "." && t.last.name != "source" {
		return paths[len(paths)-1]
	}
	path := file
	if !strings.HasPrefix(file, "/") {
		path = filepath.Join(dir, file)
	}
	if !slices.Contains(t.files[file], path) {
		t.files[file] = append(t.files[file], path)
	}
	return path
}

// declares lists the names that a command gives a value, by the words of its trace.
func declares(words []string) (names []string) {
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
func firstWord(text string, words []string) string {
	if m := assigned().FindString(text); m != "" || len(words) == 0 {
		return m
	}
	return strings.Trim(words[0], "'")
}
