package bash

import (
	"bytes"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
)

// said takes what bash and its commands print, and hands it on without secrets.
type said struct {
	*command.LineWriter // its last lines, as they were printed
	stray               atomic.Bool
}

func newSaid(cfg Config) *said {
	return &said{LineWriter: &command.LineWriter{Keep: 3, Emit: func(line string) {
		if cfg.Stderr != nil && !isOurs(line) {
			_, _ = io.WriteString(cfg.Stderr, cfg.hide(line)+"\n")
		}
	}}}
}

// isOurs tells a line of our code, which set -v shows too.
func isOurs(line string) bool { return strings.Contains(line, "__settings_") }

// promptMark is what the prompt begins with.
const promptMark = 0x1e

// Write takes a piece. A file that closes the trace's descriptor makes bash send the trace
// here, secrets and all: then nothing more of that file is taken.
func (s *said) Write(b []byte) (int, error) {
	n := len(b)
	if i := bytes.IndexByte(b, promptMark); i >= 0 || s.stray.Load() {
		b = b[:max(i, 0)]
		s.stray.Store(true)
	}
	_, err := s.LineWriter.Write(b)
	return n, err
}

// begin forgets what was printed.
func (s *said) begin() {
	s.Flush()
	s.Reset()
	s.stray.Store(false)
}

// ownWords are how bash begins a complaint of its own: file, "line" in its language,
// the number.
var ownWords = pattern.New(`^(/?[^:]+): [^ :]+ ([0-9]+): (.*)$`)

// hide takes secrets out of a line that bash or a command printed.
func (c Config) hide(line string) string {
	if m := ownWords().FindStringSubmatchIndex(line); m != nil {
		number, _ := strconv.Atoi(line[m[4]:m[5]])
		line = line[:m[6]] + c.hideWords(place{line[m[2]:m[3]], number}, line[m[6]:])
	}
	for _, name := range c.Secrets {
		if before, _, found := strings.Cut(line, name+"="); found {
			line = before + name + "=***"
		}
	}
	return pattern.MaskUserinfo(hash().ReplaceAllString(line, "***"))
}

// hash matches what crypt(5) prints, and its salt alone.
var hash = pattern.New(`\$[0-9a-z]{1,5}\$[^\s'":]+`)

var quoted = pattern.New("`.*'|\".*\"")

// hideWords takes the words of the command at a place out of bash's complaint of it, where
// they may be a secret: bash says "WORDS: reason", or quotes them.
func (c Config) hideWords(at place, msg string) string {
	if !c.secretAt(at) {
		return msg
	}
	if i := strings.LastIndex(msg, ": "); i >= 0 && !slices.Contains(c.Secrets, msg[:i]) {
		msg = "***" + msg[i:]
	}
	return quoted().ReplaceAllString(msg, "***")
}

// userAt is a URL's user and password, or what bash took for a word of it.
var userAt = pattern.New(`:.*@`)

// secretAt tells whether a line, or one that it continues or that continues it, has to do
// with a secret. It may, where the file can't be read again.
func (c Config) secretAt(at place) bool {
	if ownText(at.file) {
		return true
	}
	text, err := c.ReadFile(at.file)
	if err != nil {
		return strings.Contains(at.file, "/") // not what a shell that has no file says
	}
	lines := strings.Split(string(text), "\n")
	if at.line < 1 || at.line > len(lines) {
		return false
	}
	first, last := at.line-1, at.line-1
	for first > 0 && strings.HasSuffix(lines[first-1], "\\") {
		first--
	}
	for last+1 < len(lines) && strings.HasSuffix(lines[last], "\\") {
		last++
	}
	whole := strings.Join(lines[first:last+1], " ")
	return userAt().MatchString(whole) || slices.ContainsFunc(c.Secrets, func(name string) bool { return strings.Contains(whole, name) })
}

// ownText tells the names of what isn't a file of its own: a pipe, a here-document.
func ownText(file string) bool {
	return file == "/dev/stdin" || strings.HasPrefix(file, "/dev/fd/") || strings.HasPrefix(file, "/proc/self/fd/")
}
