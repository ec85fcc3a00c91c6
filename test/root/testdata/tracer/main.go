//go:build linux

// Tracer runs a program by ptrace(2) and kills it at its n-th system call: calls and their
// returns are counted, of all its processes and threads, but not those of other programs that
// it starts. It says on the file SEEN how many it has counted, and ends as the program does.
//
//	tracer N process|group|inner SEEN PROGRAM [ARGS...]
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
)

func main() {
	runtime.LockOSThread() // which alone is the tracer
	at, err := strconv.Atoi(os.Args[1])
	if err == nil {
		err = trace(at, os.Args[2], os.Args[3], os.Args[4:])
	}
	fmt.Fprintln(os.Stderr, "tracer:", err)
	os.Exit(99)
}

const options = syscall.PTRACE_O_TRACESYSGOOD | syscall.PTRACE_O_TRACECLONE | syscall.PTRACE_O_TRACEFORK |
	syscall.PTRACE_O_TRACEVFORK | syscall.PTRACE_O_TRACEEXEC | 0x100000 // PTRACE_O_EXITKILL

func trace(at int, how, seen string, args []string) error {
	p, err := os.StartProcess(args[0], args, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{Ptrace: true, Setpgid: true},
	})
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGPIPE)
	own, err := os.Stat(fmt.Sprintf("/proc/%d/exe", p.Pid))
	if err != nil {
		return err
	}
	count, known := 0, map[int]bool{p.Pid: true}
	var status, last syscall.WaitStatus
	first := true
	for {
		pid, err := syscall.Wait4(-1, &status, syscall.WALL, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.ECHILD:
			if err := os.WriteFile(seen, fmt.Append(nil, count), 0o600); err != nil {
				return err
			}
			end(last)
		case err != nil:
			return err
		case !status.Stopped():
			delete(known, pid)
			if pid == p.Pid {
				last = status
			}
			continue
		}
		if first {
			first = false
			if err := syscall.PtraceSetOptions(pid, options); err != nil {
				return err
			}
		}
		deliver := 0
		switch stop := status.StopSignal(); {
		case !known[pid] && stop == syscall.SIGSTOP, stop == syscall.SIGTRAP && status.TrapCause() > 0 || pid == p.Pid && count == 0 && stop == syscall.SIGTRAP:
			known[pid] = true
		case stop == syscall.SIGTRAP|0x80:
			if count++; count == at {
				kill(p.Pid, how)
			}
		default:
			deliver = int(stop)
		}
		if status.TrapCause() == syscall.PTRACE_EVENT_EXEC && !runs(pid, own) {
			syscall.PtraceDetach(pid)
			delete(known, pid)
			continue
		}
		syscall.PtraceSyscall(pid, deliver) // it may be dead
	}
}

// runs tells whether a process is of this program.
func runs(pid int, program os.FileInfo) bool {
	now, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && os.SameFile(program, now)
}

// kill kills the process, its group, or the first one of its PID namespace, if there is one.
func kill(pid int, how string) {
	switch how {
	case "group":
		syscall.Kill(-pid, syscall.SIGKILL)
	case "inner":
		inner := pid
		threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, thread := range threads {
			children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, thread.Name()))
			for _, child := range bytes.Fields(children) {
				if n, err := strconv.Atoi(string(child)); err == nil {
					inner = n
				}
			}
		}
		syscall.Kill(inner, syscall.SIGKILL)
	default:
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// end ends this process as another one has ended.
func end(status syscall.WaitStatus) {
	if status.Signaled() {
		signal.Reset(status.Signal())
		syscall.Kill(os.Getpid(), status.Signal())
	}
	os.Exit(status.ExitStatus())
}
