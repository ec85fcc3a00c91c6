package command

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/cell"
)

// A script starts thousands of processes, one after another, and waits for each. The kernel
// starts each on the processor that is the most idle, which has to wake up for that, and so has
// the script's when the process ends. On one processor it is done in two thirds of the time
// (docs/performance.md).

// onOneCPU has start start a process that runs on one of our processors, the most idle one, as
// all do that it starts itself (sched_setaffinity(2)). Where that can't be, it is as without. The
// thread that is bound to it ends then, so that nothing else of ours ever is.
func onOneCPU(start func() error) error {
	var ours, one unix.CPUSet
	if unix.SchedGetaffinity(0, &ours) != nil || ours.Count() < 2 {
		return start()
	}
	cpu := mostIdle(ours)
	if cpu < 0 {
		return start()
	}
	one.Set(cpu)
	return cell.OnThread(func() error {
		_ = unix.SchedSetaffinity(0, &one)
		return start()
	})
}

// CPUs are the processors that this process may use, as taskset(1) takes them; "", which it
// refuses, where there are more than we can be told.
func CPUs() string {
	var ours unix.CPUSet
	if unix.SchedGetaffinity(0, &ours) != nil {
		return ""
	}
	var list []string
	for n := range len(ours) * 64 {
		if ours.IsSet(n) {
			list = append(list, strconv.Itoa(n))
		}
	}
	return strings.Join(list, ",")
}

// mostIdle is the processor of the set that is idle for most of 50 ms, -1 where none of them is
// known: a container's /proc/stat may have other numbers.
func mostIdle(set unix.CPUSet) int {
	before := idleTimes()
	time.Sleep(50 * time.Millisecond)
	cpu, most := -1, -1
	for n, idle := range idleTimes() {
		if idle -= before[n]; set.IsSet(n) && idle > most {
			cpu, most = n, idle
		}
	}
	return cpu
}

// idleTimes is how long each processor has been idle, in ticks of the kernel's (proc_stat(5)).
func idleTimes() map[int]int {
	times := map[int]int{}
	f, err := os.Open("/proc/stat")
	if err != nil {
		return times
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var n, idle int
		fields := strings.Fields(lines.Text()) // cpuN user nice system idle …
		if len(fields) > 4 {
			if _, err := fmt.Sscanf(fields[0], "cpu%d", &n); err == nil {
				idle, _ = strconv.Atoi(fields[4])
				times[n] = idle
			}
		}
	}
	return times
}
