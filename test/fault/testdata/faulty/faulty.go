// Package faulty is put into the program by the fault matrices only (test/fault).
// It writes down each point that a run comes to: a step's begin and end, and each call of a
// tool. At one of them, which FAULTY_POINT names, it does what FAULTY_KIND says. At each lock it
// stops where FAULTY_LOCK says so.
package faulty

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	mu    sync.Mutex
	step  = "before the steps"
	calls = map[string]int{}
	trace = sync.OnceValue(func() *os.File {
		f, err := os.OpenFile(os.Getenv("FAULTY_TRACE"), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return nil
		}
		return f
	})
	dir = os.Getenv("FAULTY_DIR")
)

func say(text string) {
	if f := trace(); f != nil {
		f.WriteString(text + "\n")
	}
}

// at returns what is to happen at a point, which it writes down.
func at(point string) (kind string) {
	say("point\t" + point)
	if point == os.Getenv("FAULTY_POINT") {
		return os.Getenv("FAULTY_KIND")
	}
	return ""
}

// wait says that the run has stopped, and waits until the test has done its part.
func wait() {
	say("stopped")
	untilGo()
}

// untilGo waits until the test has done its part.
func untilGo() {
	for {
		if _, err := os.Stat(dir + "/go"); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// locks counts the calls by which a lock is taken, by their callers.
var locks = map[string]int{}

// Flock is flock(2), and stops before it or after it where FAULTY_LOCK says so.
func Flock(fd, how int) error {
	if how&unix.LOCK_UN != 0 {
		return unix.Flock(fd, how)
	}
	return takeLock(func() error { return unix.Flock(fd, how) })
}

// FcntlFlock is the same for locks of bytes.
func FcntlFlock(fd uintptr, cmd int, lk *unix.Flock_t) error {
	if cmd != unix.F_OFD_SETLK {
		return unix.FcntlFlock(fd, cmd, lk)
	}
	return takeLock(func() error { return unix.FcntlFlock(fd, cmd, lk) })
}

func takeLock(take func() error) error {
	callers := make([]uintptr, 12)
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers)])
	var names []string
	for frame, more := frames.Next(); more && len(names) < 4; frame, more = frames.Next() {
		if name, ours := strings.CutPrefix(frame.Function, "instance-debootstrap/"); ours {
			names = append(names, name[strings.LastIndexByte(name, '/')+1:])
		}
	}
	mu.Lock()
	name := strings.Join(names, " < ")
	locks[name]++
	name = fmt.Sprintf("%s #%d", name, locks[name])
	mu.Unlock()
	lockAt(name + ", before")
	err := take()
	if err == nil {
		lockAt(name + ", after")
	}
	return err
}

func lockAt(point string) {
	say("lock\t" + point)
	if point == os.Getenv("FAULTY_LOCK") {
		wait()
	}
}

// CallTime is how long a call of virsh is waited for.
func CallTime() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("FAULTY_CALL_TIME")); err == nil {
		return d
	}
	return 5 * time.Minute
}

// Bytes is the number that a variable has, or n.
func Bytes(variable string, n int64) int64 {
	if bytes, err := strconv.ParseInt(os.Getenv(variable), 10, 64); err == nil {
		return bytes
	}
	return n
}

// Step runs a step.
func Step(name string, run func() error) error {
	mu.Lock()
	for calls["step "+name]++; calls["step "+name] > 1; calls["step "+name]++ { // a verb may have a step twice
		name = fmt.Sprintf("%s, again", name)
	}
	step = name
	mu.Unlock()
	if at(name+"|begin") == "stop" {
		wait()
	}
	err := run()
	if err != nil {
		return err
	}
	switch at(name + "|end") {
	case "stop":
		wait()
	case "fails":
		return errors.New("made to fail")
	}
	return nil
}

// Start starts a tool; read tells whether its output is, and not only logged.
func Start(cmd *exec.Cmd, read bool, start func() error) error {
	tool := filepath.Base(cmd.Path)
	if cmd.SysProcAttr != nil && cmd.SysProcAttr.Chroot != "" {
		tool += " in the guest"
	}
	mu.Lock()
	calls[step+"|"+tool]++
	point := fmt.Sprintf("%s|%s#%d", step, tool, calls[step+"|"+tool])
	mu.Unlock()
	kind := at(point)
	switch {
	case strings.HasSuffix(tool, " in the guest"):
	case kind == "fails", kind == "lost", kind == "garbage" && read:
		cmd.Path = filepath.Join(dir, kind, tool)
	case kind == "garbage":
		fmt.Fprintf(cmd.Stderr, "\x1b[2J\x00\xff\x07%s\nError: 0x%0*d\r\n", strings.Repeat("\x9b", 5000), 300, 7)
	}
	err := start()
	if err != nil {
		return err
	}
	isWaitedFor := tool == "virsh" || step == "grow the filesystem" && tool == "resize2fs" // by a signal
	switch kind {
	case "stop", "hang":
		cmd.Process.Signal(syscall.SIGSTOP)
		say("stopped")
		if isWaitedFor && kind == "stop" {
			go func() {
				untilGo()
				time.Sleep(time.Second)
				cmd.Process.Signal(syscall.SIGCONT)
			}()
		}
	case "tell":
		say("stopped")
	case "killed":
		ms, _ := strconv.Atoi(os.Getenv("FAULTY_MS"))
		time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { cmd.Process.Kill() })
	}
	return nil
}
