package bash

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"instance-debootstrap/pkg/pattern"
)

// unchanged are the built-in commands that the interpreter carries out as bash
// does, whatever their arguments.
var unchanged = map[string]bool{":": true, "true": true, "false": true, "break": true, "continue": true, "return": true, "shift": true, "exit": true, "pwd": true}

// onCall sees every simple command before it runs. It returns the command to
// run instead, or stops the evaluation.
func (s *Shell) onCall(ctx context.Context, args []string) ([]string, error) {
	hc := interp.HandlerCtx(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(args) == 3 && args[0] == ":" && strings.HasPrefix(args[1], guardMark) {
		if err := checkGuard(guardKind(strings.TrimPrefix(args[1], guardMark)), args[2]); err != nil {
			return nil, s.stop(hc.Pos, "%v", err)
		}
		return args[:1], nil
	}
	s.last = call{hc.Pos, args[0]}
	if s.funcs[args[0]] {
		return args, nil
	}
	return s.builtin(ctx, hc, args)
}

// stop ends the evaluation. The interpreter may go on when this happens in a
// substitution, so that the fault is kept as well.
func (s *Shell) stop(pos syntax.Pos, format string, args ...any) error {
	line := pos.Line()
	if s.nested || !pos.IsValid() {
		line = s.line
	}
	e := &Error{File: s.file, Line: line, Msg: fmt.Sprintf(format, args...)}
	if s.fault == nil {
		s.fault = e
	}
	return s.fault
}

// unsupported stops at a command that would do something else than in bash.
func (s *Shell) unsupported(pos syntax.Pos, what, remedy string) ([]string, error) {
	return nil, s.stop(pos, "%s can't be evaluated as bash would: %s", what, remedy)
}

// builtin translates a command that bash has built in.
func (s *Shell) builtin(ctx context.Context, hc interp.HandlerContext, args []string) ([]string, error) {
	name := args[0]
	switch name {
	case "[":
		if args[len(args)-1] != "]" {
			return nil, s.stop(hc.Pos, "[: the last argument must be ]")
		}
		return s.test(hc, args[1:len(args)-1])
	case "test":
		return s.test(hc, args[1:])
	case "echo":
		return s.echo(hc, args)
	case "printf":
		return s.printf(hc, args)
	case "read":
		return s.read(ctx, hc, args)
	case "cd":
		return s.cd(hc, args)
	case "set":
		return s.set(hc, args)
	case "shopt":
		if len(args) == 3 && (args[1] == "-s" || args[1] == "-u") && (args[2] == "nullglob" || args[2] == "dotglob") {
			return args, nil
		}
		return s.unsupported(hc.Pos, strings.Join(args, " "), "only nullglob and dotglob can be switched, one at a time")
	case "unset":
		return s.unset(hc, args)
	case "command", "builtin":
		return s.command(ctx, hc, args)
	case "type":
		if len(args) > 1 && !strings.HasPrefix(args[1], "-") {
			return args, nil
		}
		return s.unsupported(hc.Pos, "this use of type", "use command -v")
	case "eval":
		s.nested = true
		text, err := s.nestedText("eval", []byte(strings.Join(args[1:], " ")), hc.Pos)
		return []string{"eval", string(text)}, err
	case "source", ".":
		return s.source(hc, args)
	}
	if interp.IsBuiltin(name) && !unchanged[name] {
		return s.unsupported(hc.Pos, "the command "+name, "settings files need no job control, traps or shell options")
	}
	return args, nil
}

// nestedText checks the text of eval or source.
func (s *Shell) nestedText(name string, text []byte, pos syntax.Pos) ([]byte, error) {
	s.mu.Unlock() // check takes it for the names of functions
	out, err := s.check(name, text, true)
	s.mu.Lock()
	if err != nil {
		return nil, s.stop(pos, "%v", err)
	}
	return out, nil
}

// echo writes its flags so that the interpreter knows them: one by one.
func (s *Shell) echo(hc interp.HandlerContext, args []string) ([]string, error) {
	out, escapes, rest := []string{"echo"}, false, args[1:]
	noNewline := false
	for len(rest) > 0 && echoFlagRE().MatchString(rest[0]) {
		for _, f := range rest[0][1:] {
			switch f {
			case 'n':
				noNewline = true
			case 'e':
				escapes = true
			case 'E':
				escapes = false
			}
		}
		rest = rest[1:]
	}
	if noNewline {
		out = append(out, "-n")
	}
	if escapes {
		out = append(out, "-e")
		for _, a := range rest {
			if oddEscapeRE().MatchString(a) {
				return s.unsupported(hc.Pos, "this escape of echo -e", `use only \n, \t and \\, or printf`)
			}
		}
	}
	return append(out, rest...), nil
}

var (
	echoFlagRE   = pattern.New(`^-[neE]+$`)
	oddEscapeRE  = pattern.New(`^(\\\\|[^\\])*\\([^\\abefnrtv]|$)`)
	formatRE     = pattern.New(`%(%|[-+ ]?[0-9]*[sdiuoxc])`)
	formatBadEsc = pattern.New(`^(\\\\|\\[abefnrtv"'0-3]|[^\\])*\\([^\\abefnrtv"'0-3]|$)`)
)

// printf checks that the format and the numbers are ones both know.
func (s *Shell) printf(hc interp.HandlerContext, args []string) ([]string, error) {
	if len(args) > 1 && args[1] == "--" {
		args = append([]string{"printf"}, args[2:]...)
	} else if len(args) > 1 && strings.HasPrefix(args[1], "-") && len(args[1]) > 1 {
		return s.unsupported(hc.Pos, "printf "+args[1], "use NAME=$(printf …)")
	}
	if len(args) < 2 {
		return s.unsupported(hc.Pos, "printf without a format", "give one")
	}
	format := args[1]
	if strings.Contains(formatRE().ReplaceAllString(format, ""), "%") || formatBadEsc().MatchString(format) {
		return s.unsupported(hc.Pos, "printf's format", `use only %s, %d, %x, %o, %c and %%, with a width, and \n, \t, \\`)
	}
	var verbs []byte
	for _, m := range formatRE().FindAllString(format, -1) {
		if m != "%%" {
			verbs = append(verbs, m[len(m)-1])
		}
	}
	for i, a := range args[2:] {
		if len(verbs) == 0 {
			break
		}
		switch verbs[i%len(verbs)] {
		case 's':
		case 'c':
			if a == "" || a[0] >= 0x80 {
				return s.unsupported(hc.Pos, "printf %c of this text", "use %s")
			}
		default:
			if !decimalRE().MatchString(strings.TrimPrefix(a, "-")) {
				return s.unsupported(hc.Pos, "printf of a number that isn't plain", "use %s")
			}
		}
	}
	if n := len(verbs); n > 0 && len(args[2:])%n != 0 || n > 0 && len(args) == 2 {
		return s.unsupported(hc.Pos, "printf with fewer values than its format takes", "give all")
	}
	return args, nil
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (s *Shell) cd(hc interp.HandlerContext, args []string) ([]string, error) {
	if len(args) != 2 || strings.HasPrefix(args[1], "-") || args[1] == "" || hc.Env.Get("CDPATH").IsSet() {
		return s.unsupported(hc.Pos, "this use of cd", "use cd FOLDER, without CDPATH")
	}
	return args, nil
}

// setFlags are the options that both know; no name without a sign may follow.
var setFlagRE = pattern.New(`^[-+][aefu]+$`)

func (s *Shell) set(hc interp.HandlerContext, args []string) ([]string, error) {
	ok := len(args) > 1
	for i := 1; i < len(args) && ok; i++ {
		switch {
		case args[i] == "--":
			return args, nil
		case setFlagRE().MatchString(args[i]):
		case (args[i] == "-o" || args[i] == "+o" || setFlagRE().MatchString(strings.TrimSuffix(args[i], "o"))) && i+1 < len(args):
			i++
			switch args[i] {
			case "errexit", "nounset", "pipefail", "allexport", "noglob":
			default:
				ok = false
			}
		default:
			ok = false
		}
	}
	if !ok {
		return s.unsupported(hc.Pos, strings.Join(args, " "), "use -a, -e, -f, -u, -o pipefail or -- WORDS")
	}
	return args, nil
}

func (s *Shell) unset(hc interp.HandlerContext, args []string) ([]string, error) {
	names, functions := args[1:], false
	if len(names) > 0 && (names[0] == "-v" || names[0] == "-f") {
		functions = names[0] == "-f"
		names = names[1:]
	}
	out := slices.Clone(args)
	for _, n := range names {
		if !validName(n) {
			return s.unsupported(hc.Pos, "unset "+n, "unset whole variables, by name")
		}
		if !functions {
			out = append(out, exportMark+n)
		}
	}
	return out, nil
}

// command translates what follows command or builtin.
func (s *Shell) command(ctx context.Context, hc interp.HandlerContext, args []string) ([]string, error) {
	if len(args) > 1 && args[0] == "command" && args[1] == "-v" {
		for _, a := range args[2:] {
			if syntax.IsKeyword(a) {
				return s.unsupported(hc.Pos, "command -v "+a, "ask for commands only")
			}
		}
		return args, nil
	}
	if len(args) < 2 || strings.HasPrefix(args[1], "-") {
		return s.unsupported(hc.Pos, "this use of "+args[0], "use command -v NAME or command NAME …")
	}
	inner, err := s.builtin(ctx, hc, args[1:])
	if err != nil {
		return nil, err
	}
	return append([]string{args[0]}, inner...), nil
}

// source reads and checks the file, and hands the checked text to the
// interpreter under a name that only onOpen knows.
func (s *Shell) source(hc interp.HandlerContext, args []string) ([]string, error) {
	if len(args) < 2 || args[1] == "" {
		return s.unsupported(hc.Pos, args[0]+" without a file", "name one")
	}
	path := args[1]
	if !strings.Contains(path, "/") {
		path = findSourced(hc, path)
	} else if !filepath.IsAbs(path) {
		path = filepath.Join(hc.Dir, path)
	}
	if st, err := os.Stat(path); err != nil || st.IsDir() {
		return args, nil // it fails with bash's status
	}
	text, err := s.readFile(path)
	if err != nil {
		return nil, s.stop(hc.Pos, "%v", err)
	}
	s.nested = true
	text, err = s.nestedText(path, text, hc.Pos)
	if err != nil {
		return nil, err
	}
	token := fmt.Sprintf("%s%d", tokenPrefix, len(s.sources))
	s.sources[token] = text
	return append([]string{"source", token}, args[2:]...), nil
}

// findSourced looks for a file named without a slash as bash does: in PATH,
// then in the working folder.
func findSourced(hc interp.HandlerContext, name string) string {
	for _, dir := range filepath.SplitList(hc.Env.Get("PATH").String()) {
		p := filepath.Join(dir, name)
		if !filepath.IsAbs(p) {
			p = filepath.Join(hc.Dir, p)
		}
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			return p
		}
	}
	return filepath.Join(hc.Dir, name)
}
