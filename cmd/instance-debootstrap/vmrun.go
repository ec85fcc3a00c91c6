package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/vm"
)

// runner runs a job in a session: onNode or watched.
type runner func(context.Context, func(context.Context, *session.Session) error) error

// onGuest runs a job on a guest, and tells what it did; "" is that nothing is to be told.
func (p *program) onGuest(ctx context.Context, run runner, guest string, job func(context.Context, *vm.VM) (did string, err error)) error {
	return run(ctx, func(ctx context.Context, s *session.Session) error {
		f, err := vm.Open(ctx, s, libvirt.Virsh{}, guest)
		if err != nil {
			return err
		}
		did, err := job(ctx, f)
		if err == nil && did != "" {
			p.tell("%s", did)
		}
		return err
	})
}

func stopTimeFlag() cli.Flag {
	return &cli.DurationFlag{Name: "stop-time", Value: vm.StopTime, Usage: "`TIME` that the guest has to shut down"}
}

func (p *program) vmStart(c *cli.Context, guest string) error {
	return p.onGuest(c.Context, p.onNode, guest, func(ctx context.Context, f *vm.VM) (string, error) { return f.Start(ctx) })
}

func (p *program) vmStop(c *cli.Context, guest string) error {
	return p.onGuest(c.Context, p.onNode, guest, func(ctx context.Context, f *vm.VM) (string, error) {
		return f.Shutdown(ctx, c.Duration("stop-time"), c.Bool("force"))
	})
}

func (p *program) vmReboot(c *cli.Context, guest string) error {
	return p.onGuest(c.Context, p.onNode, guest, func(ctx context.Context, f *vm.VM) (string, error) {
		return f.Reboot(ctx, c.Duration("stop-time"))
	})
}

func (p *program) vmMount(ctx context.Context, guest string, readOnly bool) error {
	return p.onGuest(ctx, p.onNode, guest, func(ctx context.Context, f *vm.VM) (string, error) {
		fsck, err := p.guestFsck(ctx)
		if err != nil {
			return "", err
		}
		dir, err := f.Mount(ctx, fsck, readOnly)
		if err != nil {
			return "", err
		}
		// A reader that goes away is an error of write(2), not the end of us without a word.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
		if _, err := fmt.Println(dir); err != nil {
			return "", fmt.Errorf("%s is mounted on %s, and stays (unmount it: instance-debootstrap vm umount %[1]s), but that can't be told: %[3]w", guest, dir, err)
		}
		return "", nil
	})
}

func (p *program) vmGrub(ctx context.Context, guest string) error {
	return p.onGuest(ctx, p.watched, guest, func(ctx context.Context, f *vm.VM) (string, error) {
		fsck, err := p.guestFsck(ctx)
		if err != nil {
			return "", err
		}
		return "", f.Grub(ctx, fsck)
	})
}

func (p *program) vmGrow(c *cli.Context, guest string) error {
	option, role := "root-size", c.String("disk")
	if c.IsSet("size") || role != "root" {
		option = "size"
	}
	if c.IsSet("root-size") && option == "size" {
		return usagef("vm grow: --root-size is the same as --disk root --size, and goes with neither")
	}
	text, add := strings.CutPrefix(c.String(option), "+")
	if text == "" {
		return usagef("vm grow: give --%s, as 30G or +10G", option)
	}
	size, err := parseSize("--"+option, text)
	if err != nil {
		return err
	}
	return p.onGuest(c.Context, p.watched, guest, func(ctx context.Context, f *vm.VM) (string, error) {
		fsck, err := p.guestFsck(ctx)
		if err != nil {
			return "", err
		}
		return f.Grow(ctx, fsck, vm.Growth{Role: role, SizeBytes: size, Add: add, Stop: stopOf(c)})
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
