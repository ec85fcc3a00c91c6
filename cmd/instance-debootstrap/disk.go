package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/userspace"
)

// formatFlag says what a DISK's bytes are stored in.
func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Value: userspace.Raw, Usage: "`FORMAT` of DISK: raw, or qcow2; it is never guessed"}
}

// scheme matches how a URL begins.
var scheme = pattern.New(`^[a-z][a-z0-9+.-]*://`)

// diskAt is a command's first argument, its DISK: a path, or a URI as Ganeti has them.
func diskAt(c *cli.Context) (userspace.Source, error) {
	disk := c.Args().First()
	if !userspace.IsURI(disk) {
		if begin := scheme().FindString(disk); begin != "" {
			return userspace.Source{}, usagef("DISK %s: URIs that begin with %s are not taken, only rbd:, gluster:, nbd: and file:", pattern.Quote(disk), begin)
		}
		var err error
		if disk, err = filepath.Abs(disk); err != nil {
			return userspace.Source{}, err
		}
	}
	source, err := userspace.Parse(disk, c.String("format"))
	if err != nil {
		err = &usageError{err}
	}
	return source, err
}

// onDisk runs a job on a disk, by the path at which it is then.
func onDisk(ctx context.Context, s *session.Session, disk userspace.Source, readOnly bool, job func(path string) error) error {
	mark := s.Mark()
	path, err := disk.Open(ctx, s, readOnly)
	if err == nil {
		err = job(path)
	}
	return errors.Join(err, s.UndoTo(ctx, mark))
}
