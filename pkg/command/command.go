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
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// Path is the PATH that every tool gets, and where Look searches: what Ganeti
// gives its OS scripts, with /usr/local before it for locally installed tools.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// tailLines is how many of a tool's last lines an Error keeps.
const tailLines = 15

// Cmd is one run of a tool. Only Args[0] is required.
type Cmd struct {
	Args   []string   // argv; Args[0] is searched for in Path
	Env    []string   // added to the built environment, "NAME=value"
	Dir    string     // working folder; "" is the caller's
	Stdin  io.Reader  // nil is /dev/null
	Stdout io.Writer  // nil: lines go to the log, as stderr's do
	Chroot string     // run inside this tree ("" is none)
	Quiet  bool       // log lines at debug level instead of info
	Files  []*os.File // inherited as descriptors 3, 4, …
	Group  bool       // a process group of its own, all of which ends with it
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
// SIGKILL 3 seconds later.
func Run(ctx context.Context, c Cmd) error {
	path, err := look(c.Chroot, c.Args[0])
	if err != nil {
		return &Error{Argv: c.Args, Err: err}
	}
	cmd := exec.CommandContext(ctx, path, c.Args[1:]...)
	cmd.Args[0] = c.Args[0]
	cmd.Env = append(BaseEnv(), c.Env...)
	cmd.Dir, cmd.Stdin, cmd.ExtraFiles = c.Dir, c.Stdin, c.Files
	if c.Chroot != "" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.Chroot}
		if cmd.Dir == "" {
			cmd.Dir = "/"
		}
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if c.Group {
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.Setpgid = true
	}
	cmd.WaitDelay = 3 * time.Second
	level := zerolog.InfoLevel
	if c.Quiet {
		level = zerolog.DebugLevel
	}
	log := zerolog.Ctx(ctx)
	lines := &LineWriter{Keep: tailLines, Emit: func(s string) {
		log.WithLevel(level).Str("tool", c.Args[0]).Msg(s)
	}}
	cmd.Stderr = lines
	cmd.Stdout = lines
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	err = cmd.Start()
	if err == nil {
		err = cmd.Wait()
		if c.Group {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	}
	lines.Flush()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return &Error{Argv: c.Args, Tail: lines.Tail(), Err: err}
}

// Output runs a tool and returns what it printed on stdout, without the
// trailing newlines.
func Output(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	err := Run(ctx, Cmd{Args: args, Stdout: &out, Quiet: true})
	return strings.TrimRight(out.String(), "\n"), err
}

var (
	baseMu  sync.Mutex
	baseEnv = []string{"PATH=" + Path, "LC_ALL=C", "LANGUAGE=C", "HOME=/root", "DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true"}
)

// BaseEnv returns a copy of the environment that tools are given.
func BaseEnv() []string {
	baseMu.Lock()
	defer baseMu.Unlock()
	return append([]string(nil), baseEnv...)
}

// SetProxy makes every later tool use the proxy (http_proxy and https_proxy);
// "" changes nothing.
func SetProxy(url string) {
	if url == "" {
		return
	}
	baseMu.Lock()
	defer baseMu.Unlock()
	baseEnv = append(baseEnv, "http_proxy="+url, "https_proxy="+url)
}

// LineWriter cuts what is written to it into lines, hands each to Emit and
// remembers the last Keep of them. Lines are cut at 4096 bytes, and of what
// carriage returns overwrite only the last stays, as on a terminal. It may be
// shared by goroutines.
type LineWriter struct {
	Keep int
	Emit func(string)

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
	s := strings.TrimRight(string(w.part), " \t")
	w.part = w.part[:0]
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
