// Package bash evaluates settings files by bash itself, as the hooks' common.sh
// does, and tells what came of each variable and which line gave it its value.
//
// One bash takes all files of a run, one after the other, so that the functions and
// options of the first are there for the second. It is told by a pipe what to
// evaluate, and answers by two others: with its variables, and with the trace of its
// commands (bash(1), BASH_XTRACEFD), which is read for file and line and not kept,
// since it holds secrets. Variables count only after the answer's end has been seen: a
// file that ends or replaces the shell, gives up, switches errexit off or closes these
// pipes is a fault, and never one without settings. One that switches the trace off only
// has no lines.
package bash

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"instance-debootstrap/pkg/pattern"
)

// Config is what a Shell is made from.
type Config struct {
	Environ  []string                          // the shell's environment, all of it exported
	Stderr   io.Writer                         // what commands print, on stdout too; nil discards it
	ReadFile func(path string) ([]byte, error) // tells whether a file may be evaluated, before bash reads it; nil is os.ReadFile
	Limit    time.Duration                     // for each file; 0 is 10 minutes
	Secrets  []string                          // names whose values are shown nowhere

	Name      string // the shell's $0; "" is instance-debootstrap
	Functions string // the code of functions that files may call, with a newline at its end

	most int64 // bytes of all variables together; 0 is maxAnswer
}

// Shell holds the variables while files are evaluated one after the other. It is not
// safe for concurrent use.
type Shell struct {
	cfg     Config
	environ map[string]string
	vars    map[string]variable // those that are set
	setBy   map[string]place    // of the names that files gave a value
	exports map[string]string   // the exported functions, as bash prints them
	pending []string            // names that bash has to be given before the next file
	proc    *process            // nil while there is none
}

// variable is one of bash's that is set.
type variable struct {
	value    string // of an array its first element
	exported bool
	array    bool
}

// place is where a command stands; line 0 is not known.
type place struct {
	file string
	line int
}

func (p place) String() string {
	if p.line == 0 {
		return p.file
	}
	return p.file + ":" + strconv.Itoa(p.line)
}

// Error is why a file can't be used.
type Error struct {
	File string
	Line int // 0 is not known
	Msg  string
	// AtRunTime tells a command that failed from a text that can't be used.
	AtRunTime bool
}

func (e *Error) Error() string { return place{e.File, e.Line}.String() + ": " + e.Msg }

// New makes a shell with errexit set, as the scripts had, in the process's working
// folder. No bash is started before a file needs it. Close ends it.
func New(cfg Config) *Shell {
	s := &Shell{cfg: cfg, environ: map[string]string{}, vars: map[string]variable{}, setBy: map[string]place{}}
	if s.cfg.ReadFile == nil {
		s.cfg.ReadFile = os.ReadFile
	}
	if s.cfg.most == 0 {
		s.cfg.most = maxAnswer
	}
	s.cfg.Name = cmp.Or(s.cfg.Name, "instance-debootstrap")
	if s.cfg.Limit == 0 {
		s.cfg.Limit = 10 * time.Minute
	}
	for _, kv := range cfg.Environ {
		name, value, ok := strings.Cut(kv, "=")
		if _, seen := s.environ[name]; ok && !seen && validName(name) && !shellsOwn(name) {
			s.environ[name], s.vars[name] = value, variable{value: value, exported: true}
		}
	}
	return s
}

// Close ends bash, and what its files have left running in its process group.
func (s *Shell) Close() {
	if s.proc != nil {
		s.proc.end()
		s.proc = nil
	}
}

// Source evaluates a file. The error is an *Error, or what ReadFile or the context
// said.
//
// A last statement that is false, such as "[ -f /x ] && Y=1", is no failure, though
// bash's "." would then hand its status on: no command failed.
func (s *Shell) Source(ctx context.Context, path string) error {
	texts, err := s.readAll(path)
	if err != nil {
		return err
	}
	if isBlank(texts[path]) {
		return nil // most files of an installation are, and bash takes its time
	}
	if s.proc == nil {
		if s.proc, err = start(s.cfg); err != nil {
			return err
		}
	}
	a, err := s.proc.evaluate(ctx, s.assignments()+sourceCode(path), s.cfg.Limit)
	s.pending = nil
	if a.word != "" {
		s.take(a, path, texts)
	}
	if err == nil && a.whole() {
		return s.checkIncluded(a, texts)
	}
	s.Close()
	s.pending = slices.Collect(maps.Keys(s.vars)) // for another bash
	if err != nil {
		return err
	}
	return a.fault(path, s)
}

// assignments give bash the variables that were set here. Exported ones stay so.
func (s *Shell) assignments() string {
	var code strings.Builder
	for name := range s.environ {
		if _, set := s.vars[name]; !set {
			fmt.Fprintf(&code, "builtin unset %s\n", name)
		}
	}
	for _, name := range s.pending {
		if v := s.vars[name]; !v.array {
			fmt.Fprintf(&code, "%s=%s\n", name, quote(v.value))
			if v.exported && s.environ[name] == "" {
				fmt.Fprintf(&code, "builtin export %s\n", name)
			}
		}
	}
	return code.String()
}

// take makes bash's variables the shell's, and finds out which line set those that are
// new or have another value, or unset those that are gone.
func (s *Shell) take(a answer, path string, texts map[string][]byte) {
	var lines map[string]place
	changed := func(name string) {
		if lines == nil {
			lines = mentions(path, texts)
		}
		at, found := lines[name]
		if !found {
			at.file = path
		}
		s.setBy[name] = at
	}
	for name, v := range a.vars {
		if at, told := a.setBy[name]; told {
			s.setBy[name] = at
		} else if was, had := s.vars[name]; !had || was.value != v.value {
			changed(name)
		}
	}
	for name := range s.vars {
		if _, has := a.vars[name]; !has {
			changed(name)
		}
	}
	s.vars, s.exports = a.vars, a.functions
}

// mentions finds the last line of the files that says each name, for values that the trace
// doesn't show, such as that of ${NAME:=value}. The file at path is looked at last.
func mentions(path string, texts map[string][]byte) map[string]place {
	files := slices.DeleteFunc(slices.Sorted(maps.Keys(texts)), func(file string) bool { return file == path })
	found := map[string]place{}
	for _, file := range append(files, path) {
		for i, line := range bytes.Split(texts[file], []byte("\n")) {
			for _, word := range bytes.FieldsFunc(line, func(r rune) bool { return r > 127 || !nameByte(byte(r)) }) {
				found[string(word)] = place{file, i + 1}
			}
		}
	}
	return found
}

// Set assigns a variable, which no file has given its value then; one that is exported
// stays so.
func (s *Shell) Set(name, value string) {
	delete(s.setBy, name)
	s.vars[name] = variable{value: value, exported: s.vars[name].exported}
	s.pending = append(s.pending, name)
}

// Get returns a variable's value, and whether it is set. An array's value is that of
// its first element, as in bash.
func (s *Shell) Get(name string) (string, bool) {
	v, ok := s.vars[name]
	return v.value, ok
}

// IsArray tells whether a variable is an array.
func (s *Shell) IsArray(name string) bool { return s.vars[name].array }

// SetBy returns where a file gave the variable its value, or unset it, as "file:line", or
// as "file" when the line isn't known.
func (s *Shell) SetBy(name string) (string, bool) {
	at, ok := s.setBy[name]
	return at.String(), ok
}

// Assigned returns, sorted, the names that the files gave a value.
func (s *Shell) Assigned() []string {
	names := slices.Sorted(maps.Keys(s.setBy))
	return slices.DeleteFunc(names, func(name string) bool { _, set := s.vars[name]; return !set })
}

// Exported returns, sorted, the exported variables that the environment did not have,
// or had with another value, as "NAME=value", and the exported functions as bash hands
// them on.
func (s *Shell) Exported() (list []string) {
	for name, v := range s.vars {
		if was, had := s.environ[name]; v.exported && !v.array && (!had || was != v.value) {
			list = append(list, name+"="+v.value)
		}
	}
	for name, text := range s.exports {
		list = append(list, "BASH_FUNC_"+name+"%%=() "+strings.TrimPrefix(text, name+" () \n"))
	}
	slices.Sort(list)
	return list
}

// Unexported returns, sorted, the environment's variables that the files unset or no
// longer export.
func (s *Shell) Unexported() (list []string) {
	for name := range s.environ {
		if !s.vars[name].exported {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// shellsOwn tells the variables that bash sets for itself.
func shellsOwn(name string) bool {
	return strings.HasPrefix(name, "BASH") || slices.Contains([]string{
		"_", "COLUMNS", "COPROC", "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS", "EUID", "FUNCNAME", "GROUPS", "HISTCMD", "HOSTTYPE", "IFS", "LINENO",
		"LINES", "MACHTYPE", "MAPFILE", "OLDPWD", "OPTARG", "OPTERR", "OPTIND", "OSTYPE", "PIPESTATUS", "PPID", "PS4", "PWD", "RANDOM", "REPLY", "SECONDS",
		"SHELLOPTS", "SHLVL", "SRANDOM", "UID",
	}, name)
}

func nameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

var namePattern = pattern.New(`^[A-Za-z_][A-Za-z0-9_]*$`)

func validName(name string) bool { return namePattern().MatchString(name) }

// quote makes a text one word of bash's.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
