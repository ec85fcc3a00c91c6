package command

import (
	"fmt"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// StartWithUmask starts a command with a umask of its own. The umask belongs to the
// whole process, so this is done by a thread that leaves it (CLONE_FS, unshare(2))
// and ends afterwards: no file that another goroutine makes meanwhile is affected.
func StartWithUmask(cmd *exec.Cmd, mask int) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			started <- fmt.Errorf("unshare: %w", err)
			return
		}
		unix.Umask(mask)
		started <- cmd.Start()
	}()
	return <-started
}
