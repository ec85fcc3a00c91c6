// Package bash evaluates settings files as bash -e would, without bash.
//
// It is built on mvdan.cc/sh/v3's interpreter, which differs from bash in many
// small ways (arithmetic of texts that are no numbers, test's precedence, what
// errexit spares, fields of read, …). Settings must not differ silently from
// what the shell scripts made of the same file, so this package
//   - refuses, with file and line, what the interpreter gets wrong (subset*.go),
//   - adds checks to the text where only the values decide (guard.go),
//   - replaces the built-in commands whose rules differ (builtins.go, test.go).
//
// The tests compare the results with those of a real bash.
package bash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"instance-debootstrap/pkg/pattern"
)

// Config is what a Shell is made from.
type Config struct {
	Environ  []string                          // the shell's environment, all of it exported
	Stderr   io.Writer                         // what commands print, on stdout too; nil discards it
	ReadFile func(path string) ([]byte, error) // reads the files that are evaluated; nil is os.ReadFile
}

// Shell holds the variables and functions while files are evaluated one after
// the other. It is not safe for concurrent use.
type Shell struct {
	runner   *interp.Runner
	environ  map[string]string
	readFile func(string) ([]byte, error)
	out      *tailWriter

	mu       sync.Mutex        // commands of a pipeline call the handlers at once
	funcs    map[string]bool   // functions that a file declares
	sources  map[string][]byte // texts for the interpreter's source command
	last     call              // the last command that was begun
	fault    error             // what stopped the evaluation, if not the file itself
	file     string            // the file that is being evaluated
	line     uint              // where its statement at hand starts
	nested   bool              // eval or source was used in the statement at hand
	assigned map[string]string // name → file:line of the last statement that set it
}

type call struct {
	pos  syntax.Pos
	name string
}

// Error is why a file can't be used.
type Error struct {
	File string
	Line uint
	Msg  string
	// AtRunTime tells a command that failed from a text that can't be used.
	AtRunTime bool
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg) }

// New makes a shell with errexit set, as the scripts had, in the process's
// working folder. It sees HOSTNAME and, when the environment has none, the
// PATH that bash would choose.
func New(cfg Config) (*Shell, error) {
	s := &Shell{
		environ: map[string]string{}, readFile: cfg.ReadFile, out: &tailWriter{w: cfg.Stderr},
		funcs: map[string]bool{}, sources: map[string][]byte{}, assigned: map[string]string{},
	}
	if s.readFile == nil {
		s.readFile = os.ReadFile
	}
	var env []string
	for _, kv := range cfg.Environ {
		name, value, ok := strings.Cut(kv, "=")
		if _, seen := s.environ[name]; !ok || seen || name == "UID" || name == "EUID" || name == "GID" {
			continue // bash's own, read-only; it has no GID
		}
		s.environ[name] = value
		env = append(env, kv)
	}
	r, err := interp.New(interp.Params("-e"), interp.Env(expand.ListEnviron(env...)), interp.StdIO(nil, s.out, s.out),
		interp.CallHandler(s.onCall), interp.OpenHandler(s.onOpen), interp.ExecHandlers(s.onExec))
	if err != nil {
		return nil, fmt.Errorf("start the settings files' interpreter: %w", err)
	}
	s.runner = r
	if _, ok := s.environ["HOME"]; !ok {
		unset := &syntax.CallExpr{Args: []*syntax.Word{literal("unset"), literal("HOME")}}
		if err := s.runner.Run(context.Background(), unset); err != nil {
			return nil, fmt.Errorf("start the settings files' interpreter: %w", err)
		}
	}
	start := startVariables()
	for name := range s.environ {
		delete(start, name)
		if validName(name) {
			start[exportMark+name] = "1"
		}
	}
	s.SetAll(start)
	return s, nil
}

// startVariables are the variables that bash makes when the environment has
// none of the name; files are known to use these.
func startVariables() map[string]string {
	host, _ := os.Hostname()
	return map[string]string{
		"HOSTNAME": host,
		"PATH":     "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
}

func literal(s string) *syntax.Word {
	return &syntax.Word{Parts: []syntax.WordPart{&syntax.SglQuoted{Value: s}}}
}

// Set assigns a variable; one that is exported stays so.
func (s *Shell) Set(name, value string) { s.SetAll(map[string]string{name: value}) }

// SetAll assigns variables, in no order; those that are exported stay so. All in
// one statement: the interpreter has a price for each.
func (s *Shell) SetAll(values map[string]string) {
	var all []*syntax.Assign
	for name, value := range values {
		all = append(all, &syntax.Assign{Name: &syntax.Lit{Value: name}, Value: literal(value)})
	}
	if len(all) == 0 || s.assign(all...) == nil {
		return
	}
	for _, one := range all {
		// Alone it fails for a read-only variable, which keeps its value.
		_ = s.assign(one)
	}
}

func (s *Shell) assign(all ...*syntax.Assign) error {
	return s.runner.Run(context.Background(), &syntax.Stmt{Cmd: &syntax.CallExpr{Assigns: all}})
}

// Get returns a variable's value, and whether it is set. An array's value is
// that of its first element, as in bash.
func (s *Shell) Get(name string) (string, bool) {
	v := s.runner.Vars[name]
	return v.String(), v.IsSet()
}

// IsArray tells whether a variable is an array.
func (s *Shell) IsArray(name string) bool {
	k := s.runner.Vars[name].Kind
	return k == expand.Indexed || k == expand.Associative
}

// Elements returns the elements of an indexed array.
func (s *Shell) Elements(name string) []string { return slices.Clone(s.runner.Vars[name].List) }

// SetBy returns where a file gave the variable its value, as "file:line".
func (s *Shell) SetBy(name string) (string, bool) {
	at, ok := s.assigned[name]
	return at, ok
}

// exportMark and a name make the variable that tells that the name is exported.
// A variable, so that what happens in a subshell stays there.
const exportMark = "__settings_exported_"

// isExported tells whether commands see the variable v; mark is its mark.
func isExported(name string, v, mark expand.Variable) bool {
	return v.IsSet() && v.Kind == expand.String && (v.Exported || mark.IsSet()) && !strings.HasPrefix(name, exportMark)
}

func (s *Shell) exported(name string) bool {
	return isExported(name, s.runner.Vars[name], s.runner.Vars[exportMark+name])
}

// ownNames are variables that the shell itself changes.
var ownNames = map[string]bool{"PWD": true, "OLDPWD": true, "SHLVL": true, "_": true, "IFS": true, "OPTIND": true, "UID": true, "EUID": true, "GID": true}

// Exported returns, sorted, the exported variables that the environment did not
// have, or had with another value, as "NAME=value".
func (s *Shell) Exported() []string {
	var out []string
	for name, v := range s.runner.Vars {
		if s.exported(name) && !ownNames[name] {
			if old, ok := s.environ[name]; !ok || old != v.Str {
				out = append(out, name+"="+v.Str)
			}
		}
	}
	slices.Sort(out)
	return out
}

// Unexported returns, sorted, the environment's variables that the files unset.
func (s *Shell) Unexported() []string {
	var out []string
	for name := range s.environ {
		if _, ok := s.runner.Vars[name]; ok && !s.exported(name) && !ownNames[name] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Source evaluates a file, statement by statement. The error is an *Error, or
// what ReadFile or the context said.
//
// A last statement that is false, such as "[ -f /x ] && Y=1", is no failure,
// though bash's "." would then hand its status on: no command failed.
func (s *Shell) Source(ctx context.Context, path string) error {
	text, err := s.readFile(path)
	if err != nil {
		return err
	}
	file, err := s.prepare(path, text, false)
	if err != nil {
		return err
	}
	s.file = path
	for _, st := range file.Stmts {
		if err := s.statement(ctx, st); err != nil {
			return err
		}
	}
	return nil
}

// statement runs one statement and notes which variables it set.
func (s *Shell) statement(ctx context.Context, st *syntax.Stmt) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = s.errorAt(st, "the interpreter can't evaluate this: %v", p)
		}
	}()
	s.fault, s.nested, s.last, s.line = nil, false, call{}, st.Pos().Line()
	s.out.reset()
	before := maps.Clone(s.runner.Vars)
	runErr := s.runner.Run(ctx, st)
	s.noteAssigned(st, before)
	s.noteExported()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case s.fault != nil:
		return s.fault
	case runErr == nil && s.runner.Exited(), runErr != nil && s.runner.Exited():
		return s.failure(st, runErr)
	}
	return nil
}

// failure explains why a statement ended the evaluation.
func (s *Shell) failure(st *syntax.Stmt, err error) error {
	status := 0
	var code interp.ExitStatus
	if errors.As(err, &code) {
		status = int(code)
	} else if err != nil {
		return s.errorAt(st, "%v", err)
	}
	e := s.errorAt(st, "")
	e.AtRunTime = true
	said := s.out.lastLine(s.last.name == "exit")
	if said != "" {
		said = ": " + pattern.MaskUserinfo(said)
	}
	if s.last.name == "exit" {
		e.Msg = fmt.Sprintf("the file ends the program (exit %d)%s", status, said)
		return e
	}
	what := "statement"
	if s.last.name != "" {
		what = s.last.name
	}
	e.Msg = fmt.Sprintf("%s: failed with exit status %d%s", what, status, said)
	return e
}

// errorAt makes an error for a statement: the line of the last command, if it
// is known to be part of the same file, or the line where the statement starts.
func (s *Shell) errorAt(st *syntax.Stmt, format string, args ...any) *Error {
	line := st.Pos().Line()
	if s.last.pos.IsValid() && !s.nested {
		line = s.last.pos.Line()
	}
	return &Error{File: s.file, Line: line, Msg: fmt.Sprintf(format, args...)}
}

// noteAssigned records which variables a statement set: those whose value
// changed, and those that it assigns unconditionally.
func (s *Shell) noteAssigned(st *syntax.Stmt, before map[string]expand.Variable) {
	lines := map[string]uint{}
	syntax.Walk(st, func(n syntax.Node) bool {
		if as, ok := n.(*syntax.Assign); ok && as.Name != nil {
			lines[as.Name.Value] = as.Pos().Line()
		}
		return true
	})
	changed := map[string]bool{}
	for name, v := range s.runner.Vars {
		if old := before[name]; old.Set != v.Set || old.Kind != v.Kind || old.Str != v.Str || !slices.Equal(old.List, v.List) {
			changed[name] = true
		}
	}
	if c, ok := st.Cmd.(*syntax.CallExpr); ok && len(c.Args) == 0 {
		for _, as := range c.Assigns {
			changed[as.Name.Value] = true
		}
	}
	if c, ok := st.Cmd.(*syntax.DeclClause); ok {
		for _, as := range c.Args {
			if as.Name != nil && !as.Naked {
				changed[as.Name.Value] = true
			}
		}
	}
	for name := range changed {
		if !validName(name) {
			continue // a mark of ours
		}
		line := st.Pos().Line()
		if l, ok := lines[name]; ok {
			line = l
		}
		s.assigned[name] = fmt.Sprintf("%s:%d", s.file, line)
	}
}

// noteExported marks what set -a exported.
func (s *Shell) noteExported() {
	marks := map[string]string{}
	for name, v := range s.runner.Vars {
		if v.Exported && validName(name) && !s.runner.Vars[exportMark+name].IsSet() {
			marks[exportMark+name] = "1"
		}
	}
	s.SetAll(marks)
}

// tailWriter passes on what is written, one write at a time, and keeps the end.
type tailWriter struct {
	mu     sync.Mutex
	w      io.Writer
	tail   []byte // the end of what this statement wrote
	before string // the last line of those before
}

func (t *tailWriter) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tail = append(t.tail, p...)
	if n := len(t.tail) - 1024; n > 0 {
		t.tail = append(t.tail[:0], t.tail[n:]...)
	}
	if t.w != nil {
		return t.w.Write(p)
	}
	return len(p), nil
}

// reset begins a new statement.
func (t *tailWriter) reset() {
	before := t.lastLine(true)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.before, t.tail = before, nil
}

// lastLine returns the last line of this statement or, when it wrote nothing
// and orBefore is set, of an earlier one.
func (t *tailWriter) lastLine(orBefore bool) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.tail), []byte("\n"))
	last := strings.TrimSpace(string(lines[len(lines)-1]))
	if last == "" && orBefore {
		return t.before
	}
	return last
}
