package bash

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
)

// answer is what came of a file.
type answer struct {
	word string              // "=end", "=exit", or "" of a bash that ended without one
	vars map[string]variable // nil without a word

	functions map[string]string // those that are exported, as bash prints them

	status  string   // of the last command
	flags   string   // bash's $-
	exit    error    // how bash ended, if it did
	garbled bool     // it went on, but what it said can't be read
	tooMuch bool     // it is more than maxAnswer
	said    []string // the last lines that the commands printed

	last  event
	end   ending
	sent  place // of the last exec that only redirected
	setBy map[string]place
	files map[string][]string // that were evaluated, by bash's names, and their paths
}

// whole tells whether the file came to its end and no command had failed. A last one
// that is false has not, unless it is a return, or nobody saw what it is.
func (a answer) whole() bool {
	return a.word == "=end" && !a.unguarded() && (a.status == "0" || a.end == plain)
}

// unguarded tells whether errexit is off at the end.
func (a answer) unguarded() bool { return a.word == "=end" && !strings.Contains(a.flags, "e") }

// fault says why a file didn't come to its end, in the words of the shell that it was
// given to.
func (a answer) fault(path string, s *Shell) *Error {
	e := &Error{File: a.last.file, Line: a.last.line, AtRunTime: true}
	if e.File == "" {
		e.File = path
	}
	file, line, msg := a.complaint(path)
	for _, f := range []string{path, file} {
		if f != "" && !ownText(f) {
			if bad := s.syntaxFault(f); bad != nil {
				return bad
			}
		}
	}
	word, status := a.last.name, a.status
	if status == "" {
		status = exitStatus(a.exit)
	}
	if (status == "126" || status == "127") && s.cfg.secretAt(a.last.place) {
		word = "a word that is no command"
	}
	switch {
	case a.unguarded():
		if a.last.errexit.file != "" {
			e.File, e.Line = a.last.errexit.file, a.last.errexit.line
		}
		e.AtRunTime = false
		e.Msg = "errexit is off at the file's end, so that a command that failed would go unseen: switch it on again (set -e), or write COMMAND || true where one may fail"
	case a.tooMuch:
		e.Msg = fmt.Sprintf("bash's variables are more than %d MiB", s.cfg.most>>20)
	case word == "exit":
		e.Msg = "the file ends the program (exit " + status + ")"
	case a.end == returned:
		e.Msg = "the file gives up (return " + status + ")"
	case word == "exec" && a.word == "":
		e.Msg = "exec: the file replaces the shell that reads it, or closes its descriptors, 248 to 252"
	case a.word == "" && !a.garbled && (word == "" || endedBy(a.exit) != ""):
		e.AtRunTime, e.Msg = false, bashsEnd(word, status, endedBy(a.exit))
	case a.garbled || a.word == "" && a.exit == nil:
		e.Msg = word + ": bash's answer can't be read: a file must leave the descriptors 248 to 252 alone, and builtins such as printf, read and eval as they are"
	case msg != "" && (file != e.File || line >= e.Line):
		e.File, e.Line, e.Msg = file, line, s.cfg.hideWords(place{file, line}, msg)
		return masked(s.adviseOnBlanks(e, msg))
	case a.word == "=end":
		e.File, e.Line = path, 0
		e.Msg = "its last command, or a return, has exit status " + status + ", and can't be seen, since the file switches bash's trace off (set +x, PS4): end it with true where that is no failure"
	case a.word == "=exit" && a.end == unseen:
		e.Line = 0
		e.Msg = "it ends with exit status " + status + "; by which command can't be seen, since the file switches bash's trace off (set +x, PS4)"
	default:
		e.Msg = word + ": failed with exit status " + status
	}
	switch n := len(a.said); {
	case n > 0:
		e.Msg += ": " + s.cfg.hide(a.said[n-1])
	case strings.Contains(a.flags, deaf):
		e.Msg += "; what it said went where the exec in " + a.sent.String() + " sends it"
	}
	return masked(e)
}

// blankAssignment is a variable with blanks before or after its =, by which it is a command.
var blankAssignment = pattern.New(`^\s*(export\s+)?[A-Za-z_][A-Za-z0-9_]*(\s+=|=\s+[^\s#])`)

// blankBefore is one that has them before its =: with blanks after it, it may be meant for a
// command that comes later.
var blankBefore = pattern.New(`^\s*[A-Za-z_][A-Za-z0-9_]*\s+=`)

// adviseOnBlanks says what to do where the line of a command that isn't found is, most likely,
// meant as an assignment.
func (s *Shell) adviseOnBlanks(e *Error, msg string) *Error {
	text, _ := s.cfg.ReadFile(e.File)
	lines := strings.Split(string(text), "\n")
	if strings.HasSuffix(msg, ": command not found") && e.Line > 0 && e.Line <= len(lines) && blankAssignment().MatchString(lines[e.Line-1]) {
		e.AtRunTime = !blankBefore().MatchString(lines[e.Line-1])
		e.Msg += ": write NAME=value, without blanks around the ="
	}
	return e
}

func masked(e *Error) *Error {
	e.Msg = pattern.MaskUserinfo(hash().ReplaceAllString(e.Msg, "***"))
	return e
}

func exitStatus(err error) string {
	if exit, ok := err.(*exec.ExitError); ok {
		return strconv.Itoa(exit.ExitCode())
	}
	return "0"
}

// bashsEnd says of bash that it ended by itself, before the file's first command or at one.
func bashsEnd(word, status, signal string) string {
	how, remedy := "ended with exit status "+status, "install the package bash again"
	if signal != "" {
		how, remedy = "was ended by "+signal, "run it again; dmesg says whether the node had too little memory"
	}
	if word == "" {
		return "bash, which reads the file, " + how + " before the first command: " + remedy
	}
	return word + ": bash, which reads the file, " + how + ": if the file doesn't do that itself, " + remedy
}

// endedBy is the name of the signal by which bash was ended, "" is none.
func endedBy(err error) string {
	if exit, ok := err.(*exec.ExitError); ok && !exit.Exited() {
		signal := exit.Sys().(syscall.WaitStatus).Signal()
		return cmp.Or(unix.SignalName(signal), signal.String()) // real-time signals have no name
	}
	return ""
}

// complaint is bash's own last word: where, and what.
func (a answer) complaint(path string) (file string, line int, msg string) {
	if len(a.said) == 0 {
		return "", 0, ""
	}
	m := ownWords().FindStringSubmatch(a.said[len(a.said)-1])
	if m == nil {
		return "", 0, ""
	}
	line, _ = strconv.Atoi(m[2])
	if paths := a.files[strings.TrimPrefix(m[1], "./")]; paths != nil {
		return paths[len(paths)-1], line, m[3]
	}
	if m[1] != path {
		return "", 0, ""
	}
	return path, line, m[3]
}

// syntaxFault asks bash whether it can read a file.
func (s *Shell) syntaxFault(path string) *Error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // it may be a pipe by now
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/bash", "--norc", "--noprofile", "-p", "-n", path)
	cmd.Env = append(s.cfg.Environ[:len(s.cfg.Environ):len(s.cfg.Environ)], "LC_ALL=C")
	said := &command.LineWriter{Keep: 1000, Emit: func(string) {}}
	cmd.Stderr = said
	if err := cmd.Run(); err == nil || ctx.Err() != nil || endedBy(err) != "" {
		return nil
	}
	said.Flush()
	first := strings.Join(said.Tail()[:min(1, len(said.Tail()))], "")
	e := &Error{File: path, Msg: first}
	if m := ownWords().FindStringSubmatch(first); m != nil {
		e.Line, _ = strconv.Atoi(m[2])
		e.Msg = m[3]
	}
	e.Msg = "bash can't read it: " + s.cfg.hideWords(place{path, e.Line}, e.Msg)
	return e
}
