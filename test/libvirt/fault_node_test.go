//go:build root

package libvirt

import (
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"instance-debootstrap/test/fault"
)

// Kinds of faults of libvirt, at a call of virsh or at the beginning of a step.
const (
	libvirtdEnds      = "libvirtd ends"
	libvirtdHangs     = "libvirtd hangs"
	libvirtdRestarted = "libvirtd is restarted"
	poolFull          = "the pool is full"
	poolInactive      = "the pool is inactive"
)

// nodeFault is what is wrong with the node for a whole run: before makes it so, and after ends it.
// shell is for the program's own process.
type nodeFault struct{ before, after, shell, only string }

func over(dir, options string) nodeFault {
	return nodeFault{before: fmt.Sprintf("mkdir -p %[1]s && mount -t tmpfs -o mode=700,%[2]s full %[1]s", dir, options), after: "umount " + dir}
}

var nodeFaults = func() map[string]nodeFault {
	faults := map[string]nodeFault{
		"no loop device":          {before: ": >/srv/fault/none; mount --bind /srv/fault/none /dev/loop-control", after: "umount /dev/loop-control"},
		poolFull:                  {before: fillPool, after: "rm -f " + pool + "/fill"},
		poolInactive:              {before: "virsh -q pool-destroy default", after: "virsh -q pool-start default"},
		"libvirtd isn't there":    {before: "kill -9 $(cat /run/libvirtd.pid)"},
		"stdin is closed":         {shell: "exec <&-"},
		"stdout is closed":        {shell: "exec >&-"},
		"stderr is closed":        {shell: "exec 2>&-"},
		"stdout is full":          {shell: "exec >/dev/full"},
		"stdout's reader is gone": {shell: "rm -f /srv/fault/fifo; mkfifo /srv/fault/fifo; exec 8<>/srv/fault/fifo 9>/srv/fault/fifo 8<&- >&9 9>&-"},
	}
	for name, dir := range map[string]string{"state folder": stateDir, "folder of runs": "/run/instance-debootstrap/work", "lock folder": "/run/instance-debootstrap/lock"} {
		faults["the "+name+" is full"], faults["the "+name+" is read-only"] = over(dir, "nr_inodes=1"), over(dir, "ro")
	}
	of := over(credentials, "nr_inodes=1")
	of.only = "vm create"
	faults["the credentials' folder is full"] = of
	of = over("/run/instance-debootstrap/guest", "nr_inodes=1")
	of.only = "vm mount"
	faults["the folder of mounts is full"] = of
	for _, n := range []int{4, 8, 12, 16, 20, 24, 64} {
		faults[fmt.Sprintf("%d open files", n)] = nodeFault{shell: fmt.Sprintf("ulimit -n %d", n)}
	}
	return faults
}()

const fillPool = `fallocate -l $(df --output=avail -B1 /srv/pool | tail -n 1) /srv/pool/fill`

// smallPool has the pool on a filesystem that is full soon, until the test's end.
func (l lab) smallPool() {
	l.Helper()
	l.tool("mount", "-t", "tmpfs", "-o", "mode=755,size=1200m", "small", pool)
	l.virsh("pool-refresh", "default")
	l.Cleanup(func() {
		l.tool("sh", "-c", "for i in $(seq 100); do umount "+pool+" && exit; sleep 0.1; done; umount -l "+pool)
		l.try("virsh", "-q", "pool-refresh", "default")
	})
}

func (l lab) libvirtd() (pid int) {
	text, _ := os.ReadFile("/run/libvirtd.pid")
	fmt.Sscan(string(text), &pid)
	return pid
}

// startLibvirtd starts it unless it is there, and waits until it answers.
func (l lab) startLibvirtd() {
	l.Helper()
	pid := l.libvirtd()
	syscall.Kill(pid, syscall.SIGCONT)
	if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); filepath.Base(exe) != "libvirtd" {
		l.tool("libvirtd", "-d")
	}
	for deadline := time.Now().Add(time.Minute); exec.Command("virsh", "-q", "pool-info", "default").Run() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.Fatal("libvirtd doesn't answer")
		}
	}
}

// endLibvirtd ends it, and waits until it is gone.
func (l lab) endLibvirtd(how syscall.Signal) {
	pid := l.libvirtd()
	syscall.Kill(pid, how)
	for i := 0; i < 500 && syscall.Kill(pid, 0) == nil; i++ {
		time.Sleep(10 * time.Millisecond)
	}
}

// act does a cell's fault, when the run has come to the point.
func (c *vmCase) act(cell fault.Cell, pid int) {
	h := fnv.New32()
	h.Write([]byte(cell.Point))
	after := time.Duration(h.Sum32()%60) * time.Millisecond // of the call's beginning
	switch cell.Kind {
	case fault.Hangs:
		time.Sleep(time.Second)
		syscall.Kill(pid, syscall.SIGTERM)
	case libvirtdEnds:
		time.Sleep(after)
		c.l.endLibvirtd(syscall.SIGKILL)
	case libvirtdHangs:
		time.Sleep(after)
		daemon := c.l.libvirtd()
		syscall.Kill(daemon, syscall.SIGSTOP)
		time.AfterFunc(12*time.Second, func() { syscall.Kill(daemon, syscall.SIGCONT) })
	case libvirtdRestarted:
		c.l.endLibvirtd(syscall.SIGTERM)
		c.l.startLibvirtd()
	case poolFull:
		c.l.tool("sh", "-c", fillPool)
	case poolInactive:
		c.l.virsh("pool-destroy", "default")
	default:
		fault.Signals[cell.Kind](pid)
	}
}

// arrange has the command begin with what is wrong with the node, and returns how that ends.
func (c *vmCase) arrange(cell fault.Cell, cmd *exec.Cmd) (end func()) {
	node := nodeFaults[cell.Kind]
	if cell.Point != fault.OnTheNode {
		node = nodeFault{}
	}
	switch cell.Kind {
	case fault.Missing:
		c.l.write("/srv/fault/not-a-program", "")
		for _, path := range fault.ToolsOnPath(cell.Point) {
			node.before += fmt.Sprintf("mount --bind /srv/fault/not-a-program %s\n", path)
			node.after += fmt.Sprintf("umount %s\n", path)
		}
	case poolFull, poolInactive:
		node.after = nodeFaults[cell.Kind].after
	}
	if node.before != "" {
		c.l.tool("sh", "-e", "-c", node.before)
	}
	if node.shell != "" {
		cmd.Path, cmd.Args = "/bin/bash", append([]string{"bash", "-c", "(: >&2) 2>/dev/null; " + node.shell + "\n" + `exec "$0" "$@"`}, append([]string{cmd.Path}, cmd.Args[1:]...)...)
	}
	return func() {
		if _, is := nodeFaults[cell.Kind]; is || strings.HasPrefix(cell.Kind, "libvirtd") {
			c.l.startLibvirtd()
		}
		c.l.try("sh", "-c", node.after)
	}
}
