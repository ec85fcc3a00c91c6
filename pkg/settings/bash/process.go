package bash

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// driver is what bash runs: pieces of code lie in the file of descriptor 249, each with a
// zero at its end, and a line on 250 says that there is one more: bash reads a pipe byte
// by byte, and a file in blocks. Variables go out by 251, the trace by 252; 248 is stderr
// as it was. stdout belongs to data. It ends where a file has taken the builtins away that
// it needs: then the line is empty, or no report went out, which sets __settings_go.
const driver = `exec 1>&2 248>&2 250<&3 251>&4 252>&5 249<&6 3<&- 4>&- 5>&- 6<&-
BASH_XTRACEFD=252 __settings_go=1
builtin readonly BASH_XTRACEFD
while [[ $__settings_go ]] && builtin read -r -u 250 __settings_code && [[ $__settings_code ]]; do
	__settings_go=
	IFS= builtin read -r -d '' -u 249 __settings_code
	builtin eval "$__settings_code"
done
[[ ended ]]`

// atReturn runs when a file has come to its end, however its last command ended.
const atReturn = `__settings_f=$-; [[ ${BASH_SOURCE-}__settings_ != __settings_ ]] || builtin set +e`

// traceOff is the last command of ours that the trace can show.
const traceOff = "builtin set +euvx"

// deaf stands among the shell's options where stderr isn't ours any more.
const deaf = "!"

// functionMark is before the name of a function in a report.
const functionMark = "%"

// report prints the variables: name, attributes and value, each with a zero at its
// end, the exported functions likewise, and then the word "=end" or "=exit", the status and the shell's options. The names
// take the way by the file of descriptor 249, which no process need be started for.
func report(word string) string {
	return `[[ /proc/self/fd/2 -ef /proc/self/fd/248 ]] || __settings_f+=` + deaf + `
builtin compgen -v >>/proc/self/fd/249 && builtin mapfile -t -u 249 __settings_l && __settings_a=() &&
for __settings_n in "${__settings_l[@]}"; do
	__settings_a+=("$__settings_n" "${!__settings_n@a}" "${!__settings_n}")
done && builtin declare -Fx >>/proc/self/fd/249 && builtin mapfile -t -u 249 __settings_l &&
for __settings_n in "${__settings_l[@]##* }"; do
	__settings_a+=("` + functionMark + `$__settings_n" x "$(builtin declare -f "$__settings_n")")
done && builtin printf '%s\0' "${__settings_a[@]}" "=` + word + `" "$__settings_s" "$__settings_f" >&251 && __settings_go=1
`
}

// sourceCode evaluates a file and reports. Options that an earlier file set stay. What
// follows the file stands on its line, else bash would show it after a set -v.
func sourceCode(path string) string {
	if !strings.Contains(path, "/") {
		path = "./" + path // else bash searches PATH for it
	}
	return `builtin trap -- ` + quote(atReturn) + ` RETURN
builtin trap -- ` + quote("__settings_s=$? __settings_f=$-; "+traceOff+"; builtin trap - EXIT RETURN; "+report("exit")) + ` EXIT
[[ ${PS4@a} == *r* ]] || PS4=` + prompt + `
[[ ${__settings_f-} != *u* ]] || builtin set -u
builtin unset __settings_f
builtin set -ex
builtin . ` + quote(path) + `; __settings_s=$? __settings_f=${__settings_f-$-}; ` + traceOff + `
builtin trap - EXIT RETURN
` + report("end")
}

// process is a bash that runs.
type process struct {
	cmd     *exec.Cmd
	code    *os.File // a file that bash shares
	more    *os.File // a pipe to it
	answers *os.File
	vars    *bufio.Reader // of answers
	left    *io.LimitedReader
	most    int64 // bytes of an answer
	trace   *trace
	said    *said
	exited  chan struct{} // closed when it has ended, and all its pipes are read
	err     error         // how it ended, once exited is closed

	mu     sync.Mutex
	reaped bool // its number may be another's by now
}

// start starts bash, in a process group of its own.
func start(cfg Config) (*process, error) {
	var ours, theirs [3]*os.File
	closeAll := func(files ...*os.File) {
		for _, f := range files {
			if f != nil {
				f.Close()
			}
		}
	}
	fd, err := unix.MemfdCreate("settings", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("start bash: %w", err)
	}
	code := os.NewFile(uintptr(fd), "settings")
	for i := range ours {
		if ours[i], theirs[i], err = os.Pipe(); err != nil {
			closeAll(code)
			closeAll(ours[:]...)
			closeAll(theirs[:]...)
			return nil, fmt.Errorf("start bash: %w", err)
		}
	}
	ours[0], theirs[0] = theirs[0], ours[0] // the first leads to bash
	limited := &io.LimitedReader{R: ours[1]}
	p := &process{left: limited, most: cfg.most, code: code, more: ours[0], answers: ours[1], vars: bufio.NewReader(limited), said: newSaid(cfg), exited: make(chan struct{})}
	p.cmd = exec.Command("/bin/bash", "--norc", "--noprofile", "-p", "-c", cfg.Functions+driver, cfg.Name)
	p.cmd.Env, p.cmd.Stderr, p.cmd.ExtraFiles = cfg.Environ, p.said, append(theirs[:], code)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = 200 * time.Millisecond // for what a file left running outside the group
	err = p.cmd.Start()
	closeAll(theirs[:2]...)
	if err != nil {
		closeAll(append(ours[:], theirs[2], code)...)
		return nil, fmt.Errorf("settings files are bash's: start it: %w", err)
	}
	p.trace = readTrace(ours[2], theirs[2])
	go p.wait(ours[1], ours[2])
	return p, nil
}

// wait waits for bash's end, and ends what it has left behind.
func (p *process) wait(vars, trace *os.File) {
	for unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	p.kill()
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
	if p.err = p.cmd.Wait(); errors.Is(p.err, exec.ErrWaitDelay) {
		p.err = nil
	}
	soon := time.Now().Add(200 * time.Millisecond)
	errors.Join(vars.SetReadDeadline(soon), trace.SetReadDeadline(soon), p.trace.in.Close())
	<-p.trace.ended
	p.said.Flush()
	close(p.exited)
}

// kill ends bash and its process group.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
	}
}

func (p *process) end() {
	p.kill()
	<-p.exited
	p.code.Close()
	p.more.Close()
	p.answers.Close()
}

// evaluate has bash evaluate a piece of code that reports. The error is the context's,
// or the time limit's.
func (p *process) evaluate(ctx context.Context, code string, limit time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errLimit)
	defer cancel()
	stop := context.AfterFunc(ctx, p.kill)
	defer stop()
	p.trace.begin()
	p.said.begin() // what an earlier file printed is no reason of this one's
	if err := p.tell(code); err != nil {
		return answer{}, fmt.Errorf("tell bash what to evaluate: %w", err)
	}
	a, err := p.answer()
	if err != nil { // nothing that it says counts
		select {
		case <-p.exited:
		case <-time.After(time.Second):
			a.garbled = true
			p.kill()
		}
	}
	if a.word == "=end" {
		p.trace.wait()
	} else {
		<-p.exited
		a.exit = p.err
	}
	p.trace.tell(&a)
	a.said = slices.DeleteFunc(p.said.Tail(), isOurs)
	switch cause := context.Cause(ctx); {
	case cause == nil:
		return a, nil
	case errors.Is(cause, errLimit):
		return answer{}, &Error{File: a.last.file, Line: a.last.line, AtRunTime: true, Msg: fmt.Sprintf("%s: not at its end after %v, the time that settings have", a.last.name, limit)}
	default:
		return answer{}, cause
	}
}

// tell gives bash a piece of code. The file's offset is bash's, so it is written to
// past its end.
func (p *process) tell(code string) error {
	st, err := p.code.Stat()
	if err == nil {
		_, err = p.code.WriteAt([]byte(code+"\x00"), st.Size())
	}
	if err == nil {
		_, err = io.WriteString(p.more, "more\n")
	}
	if errors.Is(err, syscall.EPIPE) {
		return nil // it has ended, which its answer will say
	}
	return err
}

var errLimit = errors.New("the time that settings have is over")

// maxAnswer bounds what bash may answer, in bytes: the settings of a cluster are a
// few thousand.
const maxAnswer = 64 << 20

// answer reads what bash reports. An error is an answer that isn't one.
func (p *process) answer() (a answer, err error) {
	vars, functions := map[string]variable{}, map[string]string{}
	p.left.N = p.most
	field := func() (text string) {
		if err == nil {
			var b []byte
			b, err = p.vars.ReadBytes(0)
			text = string(bytes.TrimSuffix(b, []byte{0}))
		}
		return text
	}
	for {
		name, attributes, value := field(), field(), field()
		switch {
		case err != nil:
			return answer{tooMuch: p.left.N == 0 && validName(name)}, err
		case name == "=end", name == "=exit":
			return answer{word: name, vars: vars, functions: functions, status: attributes, flags: value}, nil
		case strings.HasPrefix(name, functionMark):
			functions[name[len(functionMark):]] = value
		case !validName(name):
			return answer{}, fmt.Errorf("%q is no variable", name)
		case !shellsOwn(name) && !strings.HasPrefix(name, "__settings_"):
			vars[name] = variable{value, strings.Contains(attributes, "x"), strings.ContainsAny(attributes, "aA")}
		}
	}
}
