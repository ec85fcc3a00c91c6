package main

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/qemu"
	"instance-debootstrap/pkg/session"
)

func (p *program) bootTestCommand() *cli.Command {
	return &cli.Command{
		Name:      "boot-test",
		Usage:     "boot a throw-away copy of a disk in QEMU, and wait for the guest to come up",
		ArgsUsage: "DISK",
		Description: "Starts the disk, of which not a byte is changed, in a machine without network, and waits for\n" +
			"a login prompt on its serial port, or for TEXT. If none appears in time, it shows the guest's\n" +
			"last output and fails.",
		Flags: []cli.Flag{
			formatFlag(),
			&cli.StringFlag{Name: "firmware", Usage: "`FIRMWARE` to boot with: " + strings.Join(qemu.Firmwares, ", ") + " (Secure Boot), or several with commas; each that the disk has a boot loader for unless given"},
			&cli.StringFlag{Name: "arch", Usage: "`ARCH` of the guest: amd64, i386 or arm64; that of its EFI programs unless given, or amd64"},
			&cli.StringFlag{Name: "marker", Usage: "`TEXT` to wait for instead of a login prompt"},
			&cli.DurationFlag{Name: "timeout", Usage: "`TIME` that one boot may take, such as 90s; 2m unless given, and 10m without KVM"},
			&cli.IntFlag{Name: "memory", Usage: "`MiB` of memory of the machine", Value: 1024},
			&cli.BoolFlag{Name: "console", Usage: "print what the guest says on stdout"},
		},
		Action: func(c *cli.Context) error {
			disk, err := diskAt(c)
			if err != nil {
				return err
			}
			test, err := bootTest(c)
			if err != nil {
				return err
			}
			err = p.watched(c.Context, func(ctx context.Context, s *session.Session) error {
				return onDisk(ctx, s, disk, true, func(path string) error {
					test.Path = path
					return test.Run(ctx, s)
				})
			})
			if err == nil && p.inner {
				p.tell("%s boots", c.Args().First())
			}
			return err
		},
	}
}

func bootTest(c *cli.Context) (*guestdisk.BootTest, error) {
	test := &guestdisk.BootTest{
		Name: c.Args().First(), Arch: c.String("arch"), Marker: c.String("marker"), Timeout: c.Duration("timeout"), MemoryMiB: c.Int("memory"),
	}
	if c.IsSet("firmware") {
		test.Firmware = strings.Split(c.String("firmware"), ",")
	}
	if !qemu.Emulates(test.Arch) {
		return nil, usagef("--arch %q: no machine is known here but for amd64, i386 and arm64", test.Arch)
	}
	for _, name := range test.Firmware {
		if !slices.Contains(qemu.Firmwares, name) {
			return nil, usagef("--firmware %q: %s", name, strings.Join(qemu.Firmwares, ", "))
		}
	}
	switch {
	case test.Timeout < 0 || c.IsSet("timeout") && test.Timeout == 0:
		return nil, usagef("--timeout %s: more than nothing", c.String("timeout"))
	case test.MemoryMiB < 64 || test.MemoryMiB > 1<<20:
		return nil, usagef("--memory %d: MiB, from 64", test.MemoryMiB)
	}
	if c.Bool("console") {
		test.Console = os.Stdout
	}
	return test, nil
}
