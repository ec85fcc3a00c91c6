package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/tell"
)

// userinfo matches the user and password of a URL (RFC 3986, 3.2.1), up to the
// last @, for passwords are not always escaped.
var userinfo = pattern.New(`(://)[^\s"']+@`)

// maskWriter takes the passwords in mirror and proxy URLs out of all that goes
// to the log, tools' own messages included, and calls disks as the admin does.
type maskWriter struct {
	io.Writer
	names *names
}

func (m maskWriter) Write(b []byte) (int, error) {
	out := m.names.in(b)
	if bytes.Contains(out, []byte("://")) {
		out = userinfo().ReplaceAll(out, []byte("${1}***@"))
	}
	if _, err := m.Writer.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// names are what disks are called that this run reaches by a file of its own.
type names struct {
	mu   sync.Mutex
	list [][2]string // the file's path, and the disk's name
}

func (n *names) call(path, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, [2]string{path, name})
}

// in is a text, or JSON, with the names in it.
func (n *names) in(b []byte) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.list {
		name := []byte(l[1])
		if bytes.HasPrefix(b, []byte("{")) || bytes.HasPrefix(b, []byte("[")) {
			quoted, _ := json.Marshal(l[1])
			name = quoted[1 : len(quoted)-1]
		}
		b = bytes.ReplaceAll(b, []byte(l[0]), name)
	}
	return b
}

// plainWriter quotes what a terminal would obey: messages have names in them that
// came from a guest, or that Ganeti was given.
type plainWriter struct{ io.Writer }

func (w plainWriter) Write(b []byte) (int, error) {
	lines := strings.Split(string(b), "\n")
	for i, line := range lines {
		lines[i] = command.Printable(line)
	}
	if _, err := io.WriteString(w.Writer, strings.Join(lines, "\n")); err != nil {
		return 0, err
	}
	return len(b), nil
}

// stderr is where every message goes; stdout belongs to data.
func (p *program) stderr() io.Writer { return &p.screen }

// stdout is where data goes that people read.
func (p *program) stdout() io.Writer { return maskWriter{os.Stdout, &p.screen.names} }

// tell says something to the admin, on a line of its own or as an event.
func (p *program) tell(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); p.json {
		log := p.events()
		log.Info().Msg(text)
	} else {
		fmt.Fprintln(plainWriter{p.stderr()}, text)
	}
}

// done ends a verb that went well with a sentence, which has the last warning in it:
// Ganeti shows the last lines only.
func (p *program) done(sentence string) {
	switch count, last := p.warned.state(); count {
	case 0:
		p.tell("%s", sentence)
	case 1:
		p.tell("%s, with a warning: %s", sentence, last)
	default:
		p.tell("%s, with %d warnings, the last: %s", sentence, count, last)
	}
}

// warnings counts what a run warns of; it is a hook of its logger.
type warnings struct {
	mu    sync.Mutex
	count int
	last  string
}

func (w *warnings) Run(_ *zerolog.Event, level zerolog.Level, message string) {
	if level != zerolog.WarnLevel {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count, w.last = w.count+1, command.Printable(message)
}

func (w *warnings) state() (count int, last string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count, w.last
}

// fail says why the program fails.
func (p *program) fail(name string, err error) {
	if p.json {
		log := p.events()
		log.Error().Msg(err.Error())
	} else {
		fmt.Fprintf(plainWriter{p.stderr()}, "%s: %v\n", name, err)
	}
}

func (p *program) events() zerolog.Logger { return zerolog.New(p.stderr()).With().Timestamp().Logger() }

func (p *program) logFormat() string {
	if p.json {
		return "json"
	}
	return "text"
}

// logContext puts the logger into the context. It is called again once the
// command line has been read.
func (p *program) logContext(ctx context.Context) context.Context {
	var out io.Writer = p.stderr()
	if !p.json {
		out = consoleWriter(out)
	}
	level := zerolog.InfoLevel
	if p.verbose {
		level = zerolog.DebugLevel
	} else if p.onTerminal() {
		out, ctx = watched{out, &p.said}, tell.Watched(ctx)
	}
	zerolog.DurationFieldInteger = true // whole milliseconds
	log := zerolog.New(out).Level(level).With().Timestamp().Logger().Hook(&p.warned)
	return log.WithContext(ctx)
}

// debug shows what only those want to see who asked for it: Ganeti's --debug.
func debug(ctx context.Context) {
	log := zerolog.Ctx(ctx)
	*log = log.Level(zerolog.DebugLevel)
}

// consoleWriter prints "15:04:05 step: message", one line each, for logs that
// people read.
func consoleWriter(out io.Writer) io.Writer {
	parts := []string{zerolog.TimestampFieldName, zerolog.LevelFieldName, "step", "hook", "tool", zerolog.MessageFieldName}
	return zerolog.ConsoleWriter{
		Out: plainWriter{out}, NoColor: true, TimeFormat: "15:04:05",
		PartsOrder: parts, FieldsExclude: []string{"step", "hook", "tool", tell.Waits, tell.Copied},
		FormatLevel: func(level any) string {
			if level == "info" || level == "debug" {
				return ""
			}
			return fmt.Sprintf("%s:", level)
		},
		FormatPartValueByName: func(v any, name string) string {
			if v == nil {
				return ""
			}
			return fmt.Sprintf("%v:", v)
		},
	}
}
