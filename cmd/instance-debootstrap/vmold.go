package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/vm"
)

// oldName is the program by which the script of 2009 was called.
const oldName = "vmbootstrap"

// oldApp is the program under that name, with that script's command line.
func (p *program) oldApp() *cli.App {
	return &cli.App{
		Name: oldName, Usage: "make and look after a virtual machine on a libvirt node",
		UsageText: "vmbootstrap -i IP [options] VG GUEST\n   vmbootstrap --mount|--umount|--grub|--remove VG GUEST\n   vmbootstrap --show-defaults\n\n" +
			"VG is a volume group for which libvirt has a pool, or the name of a pool. See instance-debootstrap vm --help for more.",
		HideHelpCommand: true, HideHelp: true, OnUsageError: usageFault, Writer: os.Stdout, ErrWriter: os.Stderr,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "ip", Aliases: []string{"i"}, Usage: "the new guest's static `ADDRESS`"},
			&cli.BoolFlag{Name: "mount", Usage: "mount the guest's filesystems on /mnt/GUEST"},
			&cli.BoolFlag{Name: "umount", Usage: "unmount them"},
			&cli.BoolFlag{Name: "remove", Usage: "remove the guest, which must be shut off, and its volumes, without asking"},
			&cli.BoolFlag{Name: "grub", Usage: "write the boot record anew"},
			&cli.BoolFlag{Name: "show-defaults", Aliases: []string{"s"}, Usage: "print the defaults, as ~/.vmbootstrap could have them"},
			&cli.BoolFlag{Name: "help", Aliases: []string{"h", "u"}, Usage: "print this"},
		},
		Action: p.oldAction,
	}
}

func (p *program) oldAction(c *cli.Context) error {
	if c.Bool("help") {
		return cli.ShowAppHelp(c)
	}
	if err := mayCall(c, "create", ""); err != nil {
		return err
	}
	if c.Bool("show-defaults") {
		return p.vmDefaults(c.Context, false)
	}
	if err := exactArgs(c, "VG GUEST"); err != nil {
		return err
	}
	group, guest := c.Args().Get(0), c.Args().Get(1)
	if err := checkGuest(guest); err != nil {
		return err
	}
	switch {
	case c.Bool("mount"):
		return p.vmMount(c.Context, guest, false)
	case c.Bool("umount"):
		return vm.Umount(guest)
	case c.Bool("remove"):
		return p.vmRemove(c.Context, guest, true, vm.Stop{})
	case c.Bool("grub"):
		return p.vmGrub(c.Context, guest)
	case c.String("ip") == "":
		return usagef("--ip is needed to make a guest; see --help")
	}
	o := vmOptions{guest: guest, ips: []string{c.String("ip")}, layout: vm.LayoutThree, firmware: "bios", graphics: "none"}
	pools, err := libvirt.Virsh{}.Pools(c.Context)
	if err != nil {
		return err
	}
	o.group = group
	for _, pool := range pools { // the script's pool had the volume group's name
		if pool.Name == group {
			o.pool, o.group = group, ""
		}
	}
	if err := checkNewGuest(o.guest); err != nil {
		return err
	}
	return p.createVM(c.Context, o)
}
