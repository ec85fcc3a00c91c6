package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"instance-debootstrap/pkg/command"
)

// screen is stderr. On a terminal its last line may be one that changes, and which
// makes place for every message.
type screen struct {
	mu   sync.Mutex
	line string // as it is shown now; "" is none

	names names
}

const wipe = "\r\x1b[K"

// Write prints a message, without the passwords in it.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := maskWriter{os.Stderr, &s.names}
	if s.line == "" {
		return out.Write(b)
	}
	io.WriteString(out, wipe)
	n, err := out.Write(b)
	if bytes.HasSuffix(b, []byte("\n")) {
		io.WriteString(out, s.line)
	}
	return n, err
}

// show puts a line in the place of the one that is shown; the last of it stays.
func (s *screen) show(line string, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line = line
	if last {
		line, s.line = line+"\n", ""
	}
	io.WriteString(maskWriter{os.Stderr, &s.names}, wipe+line)
}

// columns is the terminal's width; one that doesn't know its own has 80.
func columns() int {
	if width, _, err := term.GetSize(int(os.Stderr.Fd())); err == nil && width > 0 {
		return width
	}
	return 80
}

// stepLine is a step's line: what is done, cut such that it doesn't reach the
// terminal's last column, and for how long by now.
func stepLine(what string, took time.Duration, columns int) string {
	end := fmt.Sprintf("  %.1fs", took.Seconds())
	return cut(what, columns-1-len(end)) + end
}

// cut is a text as a terminal can show it, in a room for that many characters.
func cut(what string, room int) string {
	what = strings.ReplaceAll(command.Printable(what), "\t", " ")
	if utf8.RuneCountInString(what) > room {
		what = string([]rune(what)[:max(0, room-3)]) + "..."
	}
	return what
}
