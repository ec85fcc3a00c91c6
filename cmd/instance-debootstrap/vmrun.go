package main

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/vm"
)

// makeCommand makes a command whose one argument is a guest.
type makeCommand func(name, args, usage string, flags []cli.Flag, action func(c *cli.Context, guest string) error) *cli.Command

// runCommands are the commands that start and stop a guest.
func (p *program) runCommands(command makeCommand) []*cli.Command {
	return []*cli.Command{
		command("start", "GUEST", "start a guest", nil, p.vmStart),
		command("stop", "GUEST", "shut a guest down cleanly", []cli.Flag{
			stopTimeFlag(), &cli.BoolFlag{Name: "force", Usage: "force the guest off at once; its last writes may be lost"},
		}, p.vmStop),
		command("reboot", "GUEST", "shut a guest down cleanly, and start it again", []cli.Flag{stopTimeFlag()}, p.vmReboot),
		command("console", "GUEST", "connect to a guest's serial console; Ctrl-] leaves it", nil, p.vmConsole),
	}
}

// vmRun is what starts and stops a guest; it says what it did.
type vmRun func(context.Context, *session.Session, libvirt.Virsh, string) (did string, err error)

// runVM runs it on the node.
func (p *program) runVM(ctx context.Context, guest string, run vmRun) error {
	return p.onNode(ctx, func(ctx context.Context, s *session.Session) error {
		did, err := run(ctx, s, libvirt.Virsh{}, guest)
		if err == nil {
			p.tell("%s", did)
		}
		return err
	})
}

func stopTimeFlag() cli.Flag {
	return &cli.DurationFlag{Name: "stop-time", Value: vm.StopTime, Usage: "`TIME` that the guest has to shut down"}
}

func (p *program) vmStart(c *cli.Context, guest string) error {
	return p.runVM(c.Context, guest, vm.Start)
}

func (p *program) vmStop(c *cli.Context, guest string) error {
	return p.runVM(c.Context, guest, func(ctx context.Context, s *session.Session, virsh libvirt.Virsh, guest string) (string, error) {
		return vm.Shutdown(ctx, s, virsh, guest, c.Duration("stop-time"), c.Bool("force"))
	})
}

func (p *program) vmReboot(c *cli.Context, guest string) error {
	return p.runVM(c.Context, guest, func(ctx context.Context, s *session.Session, virsh libvirt.Virsh, guest string) (string, error) {
		return vm.Reboot(ctx, s, virsh, guest, c.Duration("stop-time"))
	})
}

// vmConsole becomes virsh, on the guest's serial console.
func (p *program) vmConsole(c *cli.Context, guest string) error {
	f, err := vm.Find(c.Context, libvirt.Virsh{}, guest)
	switch {
	case err != nil:
		return err
	case !f.Running():
		return fmt.Errorf("the guest %s is %s: instance-debootstrap vm start %s", guest, f.State, guest)
	case !term.IsTerminal(int(os.Stdin.Fd())):
		return usagef("vm console: it needs a terminal; what the console said is in /var/log/libvirt/qemu/%s.console", guest)
	}
	virsh, err := command.Look("virsh")
	if err != nil {
		return err
	}
	return syscall.Exec(virsh, []string{"virsh", "--connect", libvirt.URI, "console", guest}, os.Environ())
}
