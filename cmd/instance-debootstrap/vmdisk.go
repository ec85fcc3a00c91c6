package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/vm"
)

// The commands that mount a guest's disks.

func (p *program) vmMount(ctx context.Context, guest string, readOnly bool) error {
	return p.onNode(ctx, func(ctx context.Context, s *session.Session) error {
		fsck, err := p.guestFsck(ctx)
		if err != nil {
			return err
		}
		dir, err := vm.Mount(ctx, s, libvirt.Virsh{}, guest, fsck, readOnly)
		if err == nil {
			_, err = fmt.Println(dir)
		}
		return err
	})
}

func (p *program) vmGrub(ctx context.Context, guest string) error {
	return p.sandboxed(ctx, func(ctx context.Context, s *session.Session) error {
		s.Observe = p.progress()
		fsck, err := p.guestFsck(ctx)
		if err != nil {
			return err
		}
		return vm.Grub(ctx, s, libvirt.Virsh{}, guest, fsck)
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
	return p.sandboxed(c.Context, func(ctx context.Context, s *session.Session) error {
		s.Observe = p.progress()
		fsck, err := p.guestFsck(ctx)
		if err != nil {
			return err
		}
		did, err := vm.Grow(ctx, s, libvirt.Virsh{}, guest, fsck, vm.Growth{Role: role, SizeBytes: size, Add: add, Stop: stopOf(c)})
		if err == nil {
			p.tell("%s", did)
		}
		return err
	})
}
