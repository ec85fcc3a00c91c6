// Package command runs external tools: one error type, which carries the
// command line and the last lines the tool printed, and one built environment
// (PATH, LC_ALL=C, the proxy), so that nothing of the caller's leaks into them.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/cell"
)

// Path is the PATH that every tool gets, and where Look searches: what Ganeti
// gives its OS scripts, with /usr/local before it for locally installed tools.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// tailLines is how many of a tool's last lines an Error keeps.
const tailLines = 15

// Cmd is one run of a tool. Only Args[0] is required, and In for the tools that
// package cell has in its table.
type Cmd struct {
	Args   []string            // argv; Args[0] is searched for in Path
	In     *cell.Place         // run in a cell that has this ("" and nil: on the node)
	Env    []string            // added to the built environment, "NAME=value"
	Dir    string              // working folder; "" is the caller's, of a cell its root
	Stdin  io.Reader           // nil is /dev/null
	Stdout io.Writer           // nil: lines go to the log, as stderr's do
	Merge  bool                // stderr goes where stdout does
	Chroot string              // run inside this tree ("" is none)
	Quiet  bool                // log lines at debug level instead of info
	Plain  func(string) string // what of a line is for people; nil is all of it
	Line   func(text string)   // told of every line that goes to the log; nil is nobody
	Files  []*os.File          // inherited as descriptors 3, 4, …
	Group  bool                // a process group of its own, all of which ends with it
	OneCPU bool                // it, and what it starts, run on one processor; not in a cell
}

// Error is a tool that could not be started or that failed.
type Error struct {
	Argv []string
	Tail []string // its last lines of output, oldest first
	Err  error    // *exec.ExitError, or why it could not start
}

func (e *Error) Error() string {
	msg := e.Argv[0] + ": " + e.Err.Error()
	if len(e.Tail) > 0 {
		msg += ": " + strings.Join(e.Tail, "; ")
	}
	return msg
}

func (e *Error) Unwrap() error { return e.Err }

// ExitStatus returns the exit status of the tool that err came from, or -1.
func ExitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// Look returns the path of a tool on Path, or an error that names it.
func Look(name string) (string, error) { return look("", name) }

// look returns the path of a tool as seen from inside root ("" is this node).
func look(root, name string) (string, error) {
	if strings.ContainsRune(name, '/') {
		return name, nil
	}
	for dir := range strings.SplitSeq(Path, ":") {
		if st, err := os.Stat(root + dir + "/" + name); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return dir + "/" + name, nil
		}
	}
	where := "this node"
	if root != "" {
		where = "the guest"
	}
	return "", fmt.Errorf("%s: not found on %s (searched %s)", name, where, Path)
}

// Run runs a tool to its end. Its output goes to the context's logger line by
// line, tagged tool=NAME. When ctx is cancelled the tool gets SIGTERM, and
// SIGKILL 3 seconds later. A tool that reads what a guest may have written is
// never started but in a cell.
func Run(ctx context.Context, c Cmd) error {
	path, err := look(c.Chroot, c.Args[0])
	if err == nil && c.Chroot == "" && c.In == nil && cell.Holds(path) {
		err = errors.New("it may read what a guest has written, and is started in a cell only")
	}
	if err != nil {
		return &Error{Argv: c.Args, Err: err}
	}
	cmd := exec.CommandContext(ctx, path, c.Args[1:]...)
	cmd.Args[0] = c.Args[0]
	cmd.Env = append(BaseEnv(), c.Env...)
	if c.In != nil { // which isn't told of the proxy: that may have a password
		cmd.Env = append(slices.Clone(plainEnv), c.Env...)
	}
	cmd.Dir, cmd.Stdin, cmd.ExtraFiles = c.Dir, c.Stdin, c.Files
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.Chroot, Setpgid: c.Group}
	if c.Chroot != "" && cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Cancel = func() error { return end(cmd.Process, c.In != nil) }
	cmd.WaitDelay = 3 * time.Second
	level := zerolog.InfoLevel
	if c.Quiet {
		level = zerolog.DebugLevel
	}
	log := zerolog.Ctx(ctx)
	logged := &bounded{most: maxLogBytes, emit: func(s string) {
		log.WithLevel(level).Str("tool", c.Args[0]).Msg(s)
	}}
	lines := &LineWriter{Keep: tailLines, Plain: c.Plain, Emit: func(s string) {
		logged.line(s)
		if c.Line != nil {
			c.Line(s)
		}
	}}
	cmd.Stderr = lines
	cmd.Stdout = lines
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	if c.Merge {
		cmd.Stderr = cmd.Stdout
	}
	err = start(cmd, c.In, c.OneCPU)
	if err == nil {
		err = cmd.Wait()
		if c.Group {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	}
	lines.Flush()
	logged.end()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil { // what it printed last, and by which signal it ended, is no reason
		return &Error{Argv: c.Args, Err: stopped{context.Cause(ctx), err}}
	}
	return &Error{Argv: c.Args, Tail: lines.Tail(), Err: err}
}

// stopped is a tool that was ended because of the cause.
type stopped struct{ cause, err error }

func (s stopped) Error() string   { return s.cause.Error() }
func (s stopped) Unwrap() []error { return []error{s.cause, s.err} }

// start starts a tool, in a cell unless in is nil.
func start(cmd *exec.Cmd, in *cell.Place, oneCPU bool) error {
	if oneCPU {
		return onOneCPU(func() error { return start(cmd, in, false) })
	}
	if in == nil {
		return cmd.Start()
	}
	return cell.Start(cmd, *in)
}

// end asks a tool to end. In a cell it is the first process of its PID namespace,
// to which the kernel gives no SIGTERM that it has no handler for
// (pid_namespaces(7)); that would have ended it, and so it is killed. SigCgt is the
// mask of handlers (proc_pid_status(5)).
func end(p *os.Process, inCell bool) error {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
	_, caught, _ := strings.Cut(string(status), "\nSigCgt:\t")
	caught, _, _ = strings.Cut(caught, "\n")
	if mask, err := strconv.ParseUint(caught, 16, 64); inCell && err == nil && mask&(1<<(syscall.SIGTERM-1)) == 0 {
		return p.Kill()
	}
	return p.Signal(syscall.SIGTERM)
}

// maxOutput is how much Output holds, in bytes: what is asked for so is small.
const maxOutput = 1 << 20

// Output runs a tool and returns what it printed on stdout, without the
// trailing newlines.
func Output(ctx context.Context, args ...string) (string, error) {
	return outputOf(ctx, Cmd{Args: args})
}

// OutputIn is Output in a cell.
func OutputIn(ctx context.Context, in cell.Place, args ...string) (string, error) {
	return outputOf(ctx, Cmd{Args: args, In: &in})
}

func outputOf(ctx context.Context, c Cmd) (string, error) {
	var out shortBuffer
	c.Stdout, c.Quiet = &out, true
	err := Run(ctx, c)
	if out.full {
		err = &Error{Argv: c.Args, Err: fmt.Errorf("it printed more than %d KiB", maxOutput>>10)}
	}
	return strings.TrimRight(out.b.String(), "\n"), err
}

// shortBuffer is a buffer of at most maxOutput bytes.
type shortBuffer struct {
	b    bytes.Buffer
	full bool
}

func (s *shortBuffer) Write(p []byte) (int, error) {
	if s.b.Len()+len(p) > maxOutput {
		s.full = true
		return 0, io.ErrShortWrite
	}
	return s.b.Write(p)
}

// plainEnv is the environment of every tool.
var plainEnv = []string{"PATH=" + Path, "LC_ALL=C", "LANGUAGE=C", "HOME=/root", "DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true"}

var (
	proxyMu  sync.Mutex
	proxyEnv []string
)

// BaseEnv returns a copy of the environment that tools on the node are given.
func BaseEnv() []string {
	proxyMu.Lock()
	defer proxyMu.Unlock()
	return append(slices.Clone(plainEnv), proxyEnv...)
}

// SetProxy makes every later tool on the node use the proxy (http_proxy and
// https_proxy); "" is none.
func SetProxy(url string) {
	proxyMu.Lock()
	defer proxyMu.Unlock()
	if proxyEnv = nil; url != "" {
		proxyEnv = []string{"http_proxy=" + url, "https_proxy=" + url}
	}
}

// LineWriter cuts what is written to it into lines, hands each to Emit and
// remembers the last Keep of them. Lines are cut at 4096 bytes, and of what
// carriage returns overwrite only the last stays, as on a terminal. What can't be
// printed is quoted, see Printable. It may be shared by goroutines.
type LineWriter struct {
	Keep  int
	Emit  func(string)
	Plain func(string) string // what of a line is handed on; nil is all of it

	mu   sync.Mutex
	part []byte
	back bool // a carriage return came last
	tail []string
}

func (w *LineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range p {
		switch {
		case b == '\r':
			w.back = true
			continue
		case b == '\n' || len(w.part) >= 4096:
			w.flush()
		case w.back: // a progress line begins again, over what it had written
			w.part = w.part[:0]
		}
		w.back = false
		if b != '\n' {
			w.part = append(w.part, b)
		}
	}
	return len(p), nil
}

// Reset forgets what was written.
func (w *LineWriter) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.part, w.tail = w.part[:0], nil
}

// Flush ends a last line that had no newline.
func (w *LineWriter) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
}

func (w *LineWriter) flush() {
	if len(bytes.TrimSpace(w.part)) == 0 {
		w.part = w.part[:0]
		return
	}
	s := Printable(strings.TrimRight(string(w.part), " \t"))
	w.part = w.part[:0]
	if w.Plain != nil {
		s = w.Plain(s)
	}
	if w.Keep > 0 {
		w.tail = append(w.tail, s)
		if len(w.tail) > w.Keep {
			w.tail = w.tail[1:]
		}
	}
	if w.Emit != nil {
		w.Emit(s)
	}
}

// Tail returns the remembered lines, oldest first.
func (w *LineWriter) Tail() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.tail...)
}
