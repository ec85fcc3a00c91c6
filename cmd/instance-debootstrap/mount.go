package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/userspace"
)

func (p *program) mountCommand() *cli.Command {
	return &cli.Command{
		Name:      "mount",
		Usage:     "mount the root filesystem of a guest's disk; umount(8) ends it",
		ArgsUsage: "DISK FOLDER",
		Description: "For a disk as create makes it, or one that is all one filesystem. It is mounted without\n" +
			"devices, set-user-ID and programs; still, links in it may lead out: don't follow them.\n`umount FOLDER` frees the loop device too.",
		OnUsageError: usageFault,
		Flags:        []cli.Flag{&cli.BoolFlag{Name: "read-only", Aliases: []string{"r"}, Usage: "change not a byte; also while a guest uses the disk"}},
		Action: func(c *cli.Context) error {
			if err := exactArgs(c, 2, "DISK and FOLDER"); err != nil {
				return err
			}
			if userspace.IsURI(c.Args().Get(0)) {
				return usagef("mount: DISK is a URI, and a mount outlasts this command, which would have to serve it: copy the disk to a file first (qemu-img convert)")
			}
			disk, err := filepath.Abs(c.Args().Get(0))
			if err != nil {
				return err
			}
			dir, err := filepath.Abs(c.Args().Get(1))
			if err != nil {
				return err
			}
			return p.onNode(c.Context, func(ctx context.Context, s *session.Session) error {
				fsck, err := p.guestFsck(ctx)
				if err != nil {
					return err
				}
				if err := guestdisk.Mount(ctx, s, disk, fsck, dir, c.Bool("read-only")); err != nil {
					return fmt.Errorf("mount %s: %w", disk, err)
				}
				hint := ""
				if !c.Bool("read-only") {
					hint = "; its guest must not be started before"
				}
				p.tell("mounted %s on %s; end it with: umount %s%s", disk, dir, dir, hint)
				return nil
			})
		},
	}
}
