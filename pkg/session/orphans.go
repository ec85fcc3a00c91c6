package session

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process whose parent has ended becomes a child of pid 1, which is us, and
// stays a zombie until it is waited for; a hook that stops a daemon would wait
// for its end for ever. Our own children are waited for by those who started
// them, at once: a zombie that is still there after orphanLooks looks, orphanTick
// apart, has nobody else. On a node whose processors are taken half a second was not
// enough: "at once" came later, and the one who waited found no child.
const (
	orphanTick  = 50 * time.Millisecond
	orphanLooks = 40
)

// reapOrphans waits for orphans in the background, until stop is called.
func reapOrphans() (stop func()) {
	quit := make(chan struct{})
	go func() {
		seen := map[int]int{}
		tick := time.NewTicker(orphanTick)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			seen = lookForOrphans(seen)
		}
	}()
	return func() { close(quit) }
}

// lookForOrphans counts in how many looks in a row each zombie was there, and
// reaps those that have waited long enough.
func lookForOrphans(seen map[int]int) map[int]int {
	var info unix.Siginfo
	// A cheap question first: is there any zombie? WNOWAIT leaves it there.
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err != nil || info.Signo == 0 {
		return map[int]int{}
	}
	now := map[int]int{}
	for _, pid := range childZombies() {
		if now[pid] = seen[pid] + 1; now[pid] >= orphanLooks {
			var status syscall.WaitStatus
			syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
			delete(now, pid)
		}
	}
	return now
}

// childZombies lists our children that have ended, from /proc.
func childZombies() (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if state, parent := processState(pid); state == "Z" && parent == os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// processState returns a process's state letter and its parent's pid, from
// /proc/PID/stat (proc(5)): they follow the command, which is in parentheses.
func processState(pid int) (state string, parent int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(f) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(f[1])
	return f[0], parent
}
