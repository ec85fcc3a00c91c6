package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/userspace"
)

func (p *program) mountCommand() *cli.Command {
	return &cli.Command{
		Name:      "mount",
		Usage:     "mount the filesystems of a guest's disk; umount(8) ends it",
		ArgsUsage: "DISK FOLDER",
		Description: "For a disk as create makes it, or one that is all one filesystem. It is mounted without\n" +
			"devices, set-user-ID and programs; still, links in it may lead out: don't follow them.\n" +
			"`umount FOLDER` frees the loop device too; of a guest with a LAYOUT, whose folders are mounted\n" +
			"where they belong, it is `umount -R FOLDER`. Until then, QEMU won't start with the disk. The\n" +
			"exception is a block device under libvirt, where the lock isn't seen: don't start such a\n" +
			"guest before you unmount the disk.\n\n" +
			"--read-only also works while a guest uses the disk, unless that is an image in QEMU's format.\n" +
			"Where DISK is a URI or a qcow2 image, this command serves it and runs as long as it is\n" +
			"mounted; Ctrl-C unmounts it.",
		Flags: []cli.Flag{
			formatFlag(),
			&cli.BoolFlag{Name: "read-only", Aliases: []string{"r"}, Usage: "change not a byte; also while a guest uses the disk"},
		},
		Action: func(c *cli.Context) error {
			disk, err := diskAt(c)
			if err != nil {
				return err
			}
			dir, err := filepath.Abs(c.Args().Get(1))
			if err != nil {
				return err
			}
			return p.onNode(c.Context, func(ctx context.Context, s *session.Session) error {
				return p.mount(ctx, s, disk, dir, c.Bool("read-only"))
			})
		},
	}
}

func (p *program) mount(ctx context.Context, s *session.Session, disk userspace.Source, dir string, readOnly bool) error {
	fsck, err := p.guestFsck(ctx)
	if err != nil {
		return err
	}
	if disk.IsServed() {
		if err := servingFolder(s); err != nil {
			return err
		}
	}
	path, ended, err := disk.Serve(ctx, s, readOnly)
	if err != nil {
		return err
	}
	hint := ""
	if !readOnly {
		hint = "; its guest must not be started before"
	}
	if !disk.IsServed() {
		mounted, err := guestdisk.Mount(ctx, s, path, fsck, dir, readOnly)
		if err != nil {
			return fmt.Errorf("mount %s: %w", disk.Name, err)
		}
		p.tell("mounted %s on %s; end it with: %s %s%s", disk.Name, dir, umount(mounted), dir, hint)
		return nil
	}
	kept, err := guestdisk.MountServed(ctx, s, path, fsck, dir, readOnly)
	if err != nil {
		return fmt.Errorf("mount %s: %w", disk.Name, err)
	}
	p.tell("mounted %s on %s, for as long as this command runs: end it with Ctrl-C, or %[3]s %[2]s%[4]s", disk.Name, dir, umount(kept.Mounted), hint)
	return kept.UntilUnmounted(ctx, ended)
}

// umount is the command that ends all of it.
func umount(m guestdisk.Mounted) string {
	if m.Beside > 0 {
		return "umount -R"
	}
	return "umount"
}

// servers is how the folders begin in which disks are served that are mounted on the node.
const servers = paths.RunPrefix + "mount-"

// servingFolder makes the folder in which a disk is served that is mounted on the node.
func servingFolder(s *session.Session) error {
	err := session.OwnFolder(paths.RunDir, 0o755)
	if err != nil {
		return err
	}
	// Nobody sweeps before the new folder is held.
	dir, err := os.Open(paths.RunDir)
	if err == nil {
		defer dir.Close()
		err = unix.Flock(int(dir.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", paths.RunDir, err)
	}
	userspace.Sweep(filepath.Join(paths.RunDir, servers+"*"))
	if s.WorkDir, err = os.MkdirTemp(paths.RunDir, servers); err != nil {
		return err
	}
	held, err := userspace.Hold(s.WorkDir)
	if err != nil {
		return fmt.Errorf("hold %s: %w", s.WorkDir, err)
	}
	s.Defer("remove "+s.WorkDir, func(context.Context) error { return errors.Join(os.Remove(s.WorkDir), held.Close()) })
	return nil
}
