package bootstrap

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// runMark is a variable of the environment, by which the processes of a run are known.
const runMark = "INSTANCE_DEBOOTSTRAP_RUN"

// endProcesses kills the processes that a tool left behind: those that run with
// target as their root folder, "" is none, and those whose environment carries the run's
// marker. It waits up to 2 s for them and returns who they were.
func endProcesses(target, marker string) []string {
	var ended []string
	seen := map[int]bool{}
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		found := processesOf(target, marker)
		for pid, name := range found {
			if !seen[pid] {
				seen[pid] = true
				ended = append(ended, fmt.Sprintf("%s (pid %d)", name, pid))
			}
			_ = unix.Kill(pid, unix.SIGKILL) // gone meanwhile is as good
		}
		if len(found) == 0 || time.Now().After(deadline) {
			slices.Sort(ended)
			return ended
		}
	}
}

// processesOf returns the living processes of a run. A zombie has neither an
// environment nor a root folder.
func processesOf(target, marker string) map[int]string {
	found := map[int]string{}
	var abs string
	var err error
	if target != "" {
		if abs, err = filepath.EvalSymlinks(target); err != nil {
			return nil
		}
	}
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		proc := "/proc/" + d.Name()
		root, _ := os.Readlink(proc + "/root")
		environ, _ := os.ReadFile(proc + "/environ")
		if (abs == "" || !within(root, abs)) && !strings.Contains("\x00"+string(environ), "\x00"+marker+"\x00") {
			continue
		}
		comm, _ := os.ReadFile(proc + "/comm")
		found[pid] = strings.TrimSpace(string(comm))
	}
	return found
}

// within tells whether a path is dir or below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimRight(dir, "/")+"/")
}
