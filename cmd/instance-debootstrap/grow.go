package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/userspace"
)

func (p *program) growCommand() *cli.Command {
	return &cli.Command{
		Name:      "grow",
		Usage:     "fit the last partition and its filesystem to a disk that was enlarged",
		ArgsUsage: "DISK",
		Description: "For the disk of an instance that is shut down, after `gnt-instance grow-disk`: a root\ndisk as create makes it, or a disk that is all one filesystem or swap. What can't be\n" +
			"done safely is refused, and the disk left as it is. It can be killed, and run again at any\ntime.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and change nothing"}, formatFlag()},
		Action: func(c *cli.Context) error {
			disk, err := diskAt(c)
			if err != nil {
				return err
			}
			return p.watched(c.Context, func(ctx context.Context, s *session.Session) error {
				return p.grow(ctx, s, disk, c.Bool("dry-run"))
			})
		},
	}
}

func (p *program) grow(ctx context.Context, s *session.Session, disk userspace.Source, dryRun bool) error {
	fsck, err := p.guestFsck(ctx)
	if err != nil {
		return err
	}
	var did string
	err = onDisk(ctx, s, disk, dryRun, func(path string) (err error) {
		did, err = guestdisk.Grow(ctx, s, path, fsck, dryRun)
		return err
	})
	if err != nil {
		return err
	}
	out := p.stderr()
	if dryRun {
		out = p.stdout()
	}
	_, err = fmt.Fprintln(out, did)
	return err
}
