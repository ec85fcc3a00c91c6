package vm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/qemu"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

func (v *making) isToWait(context.Context) (bool, string) {
	return session.NeededIf(v.Wait, "--wait was not given")
}

// wait waits until the guest's ssh server says what it is (RFC 4253, 4.2). Of one that
// doesn't come up the last words are in the error.
func (v *making) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, v.WaitTime, fmt.Errorf("no answer by ssh within %v", v.WaitTime))
	defer cancel()
	g := VM{Name: v.Guest, Domain: libvirt.Domain{UUID: v.uuid}, Known: v.known(), virsh: v.Virsh}
	for {
		if address, port, err := g.Reach(ctx); err == nil && answers(ctx, address, port) {
			v.lookForGateway(ctx)
			return nil
		}
		if state, err := v.Virsh.State(ctx, v.uuid); err == nil && state != "running" {
			if reason, err := v.Virsh.Reason(ctx, v.uuid); err == nil && reason != "" {
				state += " (" + reason + ")"
			}
			return fmt.Errorf("the guest is %s; %s", state, lastWords(v.Guest))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; %s", context.Cause(ctx), lastWords(v.Guest))
		case <-time.After(time.Second):
		}
	}
}

// regretTime is how long after a first Ctrl-C a second one removes the guest.
const regretTime = 3 * time.Second

// stays is for a guest that is whole, and whose start, or waiting, was ended by err: it
// stays, unless Ctrl-C is pressed again.
func (v *making) stays(ctx context.Context, err error) error {
	if v.isRegretted(ctx) {
		v.kept = false
		if werr := v.made.write(); werr != nil {
			return fmt.Errorf("%w; the guest %s stays: instance-debootstrap vm remove --stop %s: %w", err, v.Guest, v.Guest, werr)
		}
		return fmt.Errorf("%w, twice: the guest %s is removed", err, v.Guest)
	}
	if !v.Start {
		return fmt.Errorf("%w\nThe guest %s is whole, and stays. Start it: instance-debootstrap vm start %s; remove it: instance-debootstrap vm remove %s", err, v.Guest, v.Guest, v.Guest)
	}
	return fmt.Errorf("%w\nThe guest %s is whole, and stays. See how far it is: instance-debootstrap vm console %s; log in when it is up: instance-debootstrap vm ssh %s; remove it: instance-debootstrap vm remove --stop %s",
		err, v.Guest, v.Guest, v.Guest, v.Guest)
}

// isRegretted gives the admin who pressed Ctrl-C the time to do so again.
func (v *making) isRegretted(ctx context.Context) bool {
	if by := session.InterruptedBy(context.Cause(ctx)); by != syscall.SIGINT {
		return false
	}
	tell.Warn(ctx, "the guest %s is whole, and stays; Ctrl-C once more within %v removes it", v.Guest, regretTime)
	late := time.After(regretTime)
	for range 2 { // the first one is still there
		select {
		case <-v.session.Interrupts:
		case <-late:
			return false
		}
	}
	return true
}

// answers reports whether an ssh server greets at an address.
func answers(ctx context.Context, address string, port int) bool {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	// QEMU's user-mode network accepts before the guest does.
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	context.AfterFunc(ctx, func() { conn.Close() }) // also at the end of this function
	line, err := bufio.NewReader(io.LimitReader(conn, 255)).ReadString('\n')
	return err == nil && strings.HasPrefix(line, "SSH-")
}

// lastBytes is how much of a console's log is looked at, in bytes: GRUB's menu alone
// is some kilobytes of cursor movements.
const lastBytes = 16 << 10

// lastWords are the last lines of the guest's serial console, which are the guest's own
// words: without what a terminal obeys.
func lastWords(name string) string {
	f, err := os.Open(consoleLog(name))
	if err != nil {
		return "its console isn't known: " + err.Error()
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		f.Seek(max(0, size-lastBytes), io.SeekStart)
	}
	text, _ := io.ReadAll(io.LimitReader(f, lastBytes))
	lines := qemu.LastLines(text, 10)
	if len(lines) == 0 {
		return "its console said nothing"
	}
	for i, line := range lines {
		lines[i] = fmt.Sprintf("  %.200s", line)
	}
	return "its console said last:\n" + strings.Join(lines, "\n")
}

// keep makes the guest stay: nothing sweeps it from here on.
func (v *making) keep(ctx context.Context) error {
	if err := os.Remove(pendingPath(v.Guest)); err != nil {
		return err
	}
	v.kept = true
	if err := filesystem.SyncFolder(paths.StateDir); err != nil {
		tell.Warn(ctx, "should the node go down now, %s is removed when it is up again: %v", v.Guest, err)
	}
	v.run.KeepReceipt(ctx, v.Guest)
	return nil
}

// tell says in one line that the guest is made, and how to get in.
func (v *making) tell() string {
	next := "instance-debootstrap vm start " + v.Guest + " starts it"
	if v.Start {
		next = "it runs"
	}
	return fmt.Sprintf("made the guest %s: %s. Ways in: %s", v.Guest, next, v.waysIn())
}

// waysIn are the admin's ways into the guest.
func (v *making) waysIn() string {
	var ways []string
	switch {
	case v.Identity != "":
		ways = append(ways, fmt.Sprintf("vm ssh -i %s %s", v.Identity, v.Guest))
	case v.run.HasKeys():
		ways = append(ways, "vm ssh "+v.Guest)
	}
	locked := ""
	switch rootPassword := v.Order.Settings.RootPassword; {
	case v.Backup != nil:
		ways = append(ways, "vm console "+v.Guest+", by the passwords that it had")
	case rootPassword == "locked":
		locked = " Root's password is locked; --root-password-file gives a new guest one."
	case rootPassword == "blank":
		ways = append(ways, "vm console "+v.Guest+", where root has no password")
	default:
		ways = append(ways, "vm console "+v.Guest+", with root's password")
	}
	ways = append(ways, "vm mount "+v.Guest+" while it is off.")
	return strings.Join(ways, "; ") + locked
}
