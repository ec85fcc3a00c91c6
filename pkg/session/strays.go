package session

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// EndStrays ends the processes that a hook or a package script left running
// on the tree mounted at dir, so that it can be unmounted: SIGTERM, and
// SIGKILL a second later. Each is named in the log. In namespaces of our own
// every other process is such a left-over; on the node itself only those are
// whose root, working folder, program or open file lies below dir.
func (s *Session) EndStrays(ctx context.Context, dir string) error {
	log := zerolog.Ctx(ctx)
	for round := 0; ; round++ {
		strays := s.strays(dir)
		if len(strays) == 0 {
			return nil
		}
		if round == 100 {
			return fmt.Errorf("process %d (%s) can't be ended: it waits for a disk or a server that doesn't answer, most likely", strays[0], processName(strays[0]))
		}
		for _, pid := range strays {
			switch {
			case round == 0:
				log.Warn().Int("pid", pid).Str("command", processName(pid)).Msg("left running by a hook or a package's script; ending it")
				unix.Kill(pid, unix.SIGTERM)
			case round >= 20:
				unix.Kill(pid, unix.SIGKILL)
			}
		}
		time.Sleep(50 * time.Millisecond)
		s.reap(strays)
	}
}

// Spare has EndStrays leave a process alone: one that this run has started, and ends.
func (s *Session) Spare(pid int) { s.spare = append(s.spare, pid) }

// strays lists the pids of left-over processes.
func (s *Session) strays(dir string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || pid == os.Getppid() || slices.Contains(s.spare, pid) {
			continue
		}
		if s.Private && !isZombie(pid) || !s.Private && usesTree(pid, dir) {
			pids = append(pids, pid)
		}
	}
	s.reap(nil)
	return pids
}

// reap collects ended left-overs: as pid 1 of the namespace they are ours.
// Only pids that are no child of a running command get here, since no command
// of ours runs while strays are ended.
func (s *Session) reap(pids []int) {
	if !s.Private {
		return
	}
	for _, pid := range pids {
		var status syscall.WaitStatus
		syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
	}
}

// UsersOf names the processes of the node that use something below dir, each as: "bash"
// (process 123).
func UsersOf(dir string) (users []string) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && usesTree(pid, dir) {
			users = append(users, fmt.Sprintf("%q (process %d)", processName(pid), pid))
		}
	}
	return users
}

func isZombie(pid int) bool {
	state, _ := processState(pid)
	return state == "" || state == "Z" || state == "X"
}

func usesTree(pid int, dir string) bool {
	base := fmt.Sprintf("/proc/%d/", pid)
	links := []string{base + "root", base + "cwd", base + "exe"}
	if fds, err := os.ReadDir(base + "fd"); err == nil {
		for _, fd := range fds {
			links = append(links, base+"fd/"+fd.Name())
		}
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && (to == dir || strings.HasPrefix(to, dir+"/")) {
			return true
		}
	}
	return false
}

func processName(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(b))
}
