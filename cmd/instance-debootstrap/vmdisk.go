package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/os/debootstrap"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/session"
)

// The commands that mount a guest's disks.

func (p *program) vmMount(ctx context.Context, guest string, readOnly bool) error {
	return p.onNode(ctx, func(ctx context.Context, s *session.Session) error {
		set, err := p.guestSettings(ctx)
		if err != nil {
			return err
		}
		dir, err := debootstrap.MountVM(ctx, s, set, libvirt.Virsh{}, guest, readOnly)
		if err == nil {
			_, err = fmt.Println(dir)
		}
		return err
	})
}

func (p *program) vmGrub(ctx context.Context, guest string) error {
	return p.sandboxed(ctx, func(ctx context.Context, s *session.Session) error {
		s.Observe = p.progress()
		set, err := p.guestSettings(ctx)
		if err != nil {
			return err
		}
		return debootstrap.GrubVM(ctx, s, set, libvirt.Virsh{}, guest)
	})
}

func (p *program) vmGrow(c *cli.Context, guest string) error {
	text, add := strings.CutPrefix(c.String("root-size"), "+")
	if text == "" {
		return usagef("vm grow: give --root-size, as 30G or +10G")
	}
	size, err := parseSize("--root-size", text)
	if err != nil {
		return err
	}
	return p.sandboxed(c.Context, func(ctx context.Context, s *session.Session) error {
		s.Observe = p.progress()
		set, err := p.guestSettings(ctx)
		if err != nil {
			return err
		}
		did, err := debootstrap.GrowVM(ctx, s, set, libvirt.Virsh{}, guest, size, add, stopOf(c))
		if err == nil {
			p.tell("%s", did)
		}
		return err
	})
}
