// Package session runs a recipe so that nothing of it can be left behind: in
// private PID and mount namespaces that end with the process, in order, with
// an undo stack that is always worked off to its end.
package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/paths"
)

// innerMark is the environment variable by which the outer process tells the
// inner one, its own program again, that it is inside; it never reaches a tool.
const innerMark = "INSTANCE_DEBOOTSTRAP_INNER"

// lifelineFD is the inner process's end of a pipe from the outer one: a byte
// on it is a signal number that asks for an orderly end; its end of file
// means that the outer process is gone.
const lifelineFD = 3

// hostExit is the inner process's exit status that asks the outer one to run
// the job without namespaces (the setting NAMESPACE=host).
const hostExit = 113

// timerSlack, in nanoseconds, is by how much a timer of the inner process may be
// late (prctl(2), PR_SET_TIMERSLACK; the kernel's default is 50 µs). Go's runtime
// looks after its threads 20 µs after 20 µs otherwise, for a tenth of the CPU that a
// warm create takes (docs/performance.md).
const timerSlack = 500_000

// ErrNotRoot is what everybody else is told.
var ErrNotRoot = errors.New("root is needed: run it as root, or by sudo")

// ErrWantsHost is returned by a job that reads NAMESPACE=host in its settings:
// Sandboxed then runs it again, without namespaces of its own.
var ErrWantsHost = errors.New("NAMESPACE=host: to be run in the node's own namespaces")

// ExitError is the inner process's failure; it has already said why.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return "exit status " + strconv.Itoa(e.Code) }

// Inner reports whether this is the inner process. It takes the mark out of
// the environment, so it must be asked once, first thing in main.
func Inner() bool {
	mark := os.Getenv(innerMark)
	os.Unsetenv(innerMark)
	return mark != "" && os.Getpid() == 1
}

// CloseInherited closes what the caller left open from descriptor 3 up, except
// keep (-1: none). Go opens its own descriptors close-on-exec, so the ones
// without that flag are the inherited ones.
func CloseInherited(keep int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < 3 || fd == keep {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

// passedFD is where the inner process has the file that Outer passes on.
const passedFD = 4

// Outer runs this same program as pid 1 of a new PID namespace, in a new
// mount namespace, forwards SIGTERM, SIGINT and SIGHUP to it and waits for its
// end. The error is nil, an *ExitError, or ErrWantsHost. A file to pass on, nil
// is none, has its descriptor's new number in the inner's variable name.
//
// The inner process dies with this one, whatever kills it: PR_SET_PDEATHSIG
// follows the thread that forked, so that thread is kept; and the inner end of
// the lifeline pipe sees its end of file, which also covers a death before the
// signal was armed.
func Outer(pass *os.File, name string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	alive, lifeline, err := os.Pipe()
	if err != nil {
		return err
	}
	defer lifeline.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), innerMark+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{alive}
	if pass != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, pass)
		cmd.Env = append(cmd.Env, name+"="+strconv.Itoa(passedFD))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, endSignals()...)
	defer signal.Stop(signals)
	// It is inherited. Without it the run only takes more CPU: no reason to fail.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0)
	if err := cmd.Start(); err != nil {
		if os.Geteuid() != 0 {
			return ErrNotRoot
		}
		return fmt.Errorf("start in namespaces of its own: %w (root with CAP_SYS_ADMIN is needed, which a container may lack)", err)
	}
	alive.Close()
	go func() {
		for s := range signals {
			lifeline.Write([]byte{byte(s.(syscall.Signal))})
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.ExitCode() == hostExit:
		return ErrWantsHost
	case errors.As(err, &exit) && exit.Exited():
		return &ExitError{exit.ExitCode()}
	}
	return fmt.Errorf("%w: %w: if nobody did that, dmesg tells whether it was for want of memory", ErrEnded, err)
}

// ErrEnded is that the inner process was ended by a signal that it could say nothing of.
var ErrEnded = errors.New("the process that did the work was ended")

// ExitStatus returns the status the inner process leaves with for err: 0, 1, as a
// shell has it 128 and the number of the signal that err comes of, or the status that
// asks for a run without namespaces.
func ExitStatus(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrWantsHost):
		return hostExit
	case InterruptedBy(err) != 0:
		return 128 + int(InterruptedBy(err))
	}
	return 1
}

// watchLifeline cancels with the signal that the outer process passes on, and
// ends this process, and with it the whole namespace, when the outer is gone;
// interrupted is called for each SIGINT.
func watchLifeline(cancel context.CancelCauseFunc, interrupted func()) {
	unix.CloseOnExec(lifelineFD)
	_ = unix.SetNonblock(lifelineFD, true) // so that the runtime waits for it, not a thread
	pipe := os.NewFile(lifelineFD, "lifeline")
	go func() {
		b := make([]byte, 1)
		for {
			if _, err := io.ReadFull(pipe, b); err != nil {
				os.Exit(1)
			}
			cancel(&Interrupted{syscall.Signal(b[0])})
			if syscall.Signal(b[0]) == syscall.SIGINT {
				interrupted()
			}
		}
	}()
}

// Interrupted is the cause of a context that a signal cancelled.
type Interrupted struct{ Signal syscall.Signal }

func (e *Interrupted) Error() string { return "interrupted by " + unix.SignalName(e.Signal) }

// InterruptedBy is the signal that err comes of, or 0.
func InterruptedBy(err error) syscall.Signal {
	var by *Interrupted
	if errors.As(err, &by) {
		return by.Signal
	}
	return 0
}

// BecauseOf is err, with the signal that ended the run, if one did.
func BecauseOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && InterruptedBy(cause) != 0 && InterruptedBy(err) == 0 {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// enterNamespace finishes the inner process's private view of the node: no
// mount reaches the node, /proc shows this PID namespace, RunDir is a tmpfs, and
// EFI variables are out of reach.
func enterNamespace() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	mounts := []struct {
		what, dir string
		flags     uintptr
		data      string
		optional  bool
	}{
		{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "", false},
		{"tmpfs", paths.RunDir, unix.MS_NOSUID | unix.MS_NODEV, "mode=0755,size=64m", false},
		{"tmpfs", "/sys/firmware/efi/efivars", unix.MS_RDONLY, "size=4k", true},
	}
	for _, m := range mounts {
		if _, err := os.Stat(m.dir); m.optional && err != nil {
			continue
		}
		if err := unix.Mount(m.what, m.dir, m.what, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.what, m.dir, err)
		}
	}
	return nil
}

// HideDevDisk covers /dev/disk, so that it names this guest's filesystems only:
// links maps the paths to keep or to make there to what they lead to. It does
// nothing outside namespaces of our own, and where there is no /dev/disk.
func (s *Session) HideDevDisk(links map[string]string) error {
	if _, err := os.Stat("/dev/disk"); err != nil || !s.Private {
		return nil
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("tmpfs", "/dev/disk", "tmpfs", flags, "mode=0755,size=1m"); err != nil {
		return fmt.Errorf("mount tmpfs on /dev/disk: %w", err)
	}
	for path, to := range links {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(to, path); err != nil {
			return err
		}
	}
	return nil
}

// WantsHostNamespace reports whether NAMESPACE=host is wanted and this run is still
// in namespaces of its own.
func (s *Session) WantsHostNamespace(namespace string) bool {
	return s.Private && strings.EqualFold(namespace, "host")
}
