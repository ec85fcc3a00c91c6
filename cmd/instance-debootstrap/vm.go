package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/vm"
)

// vmDescriptions are what there is to know of some commands beside their options.
var vmDescriptions = map[string]string{
	"create": "Makes the volumes in the pool or the volume group, the guest on them, and the domain. A create\n" +
		"that fails leaves nothing behind. --layout boot+root+swap has a volume for each filesystem,\n" +
		"single one volume with a partition table; another name is a file of LAYOUT, by which that\n" +
		"volume is partitioned. What no option sets is taken from ~/.vmbootstrap\n" +
		"and from the node; vm defaults prints it.\n\n" +
		"Somebody must be able to log in, with a key of the node's root or of --ssh-key. Root's password\n" +
		"is locked, unless --root-password-file holds one, the settings file has a ROOT_PASSWORD, or\n" +
		"--insecure-blank-password is given.\n\n" +
		"A fixed address (--ip) takes the gateway and name servers of its own network; --gateway none is\n" +
		"for a guest that reaches only that network. --bridge and --network may be repeated for further\n" +
		"NICs.\n\n" +
		"A guest that doesn't answer within --wait-time stays, unless --rollback is given. --graphics vnc\n" +
		"is a UNIX socket that root and QEMU's group can reach.",
	"stop":   "Asks the guest to shut down. If it doesn't in time, it keeps running and the command fails.",
	"reboot": "Asks the guest to shut down, and starts it again. If it doesn't shut down in time, it keeps\nrunning and the command fails.",
	"mount":  "Mounts its root, /boot and the data disks in its fstab on /mnt/GUEST, a link that only root\ncan follow.",
	"grub": "Rewrites the boot record and GRUB's core image and, for UEFI, remakes the EFI system\n" +
		"partition, from the guest's own packages.",
	"grow": "A running guest does its part through its agent, and keeps running. With --stop it is asked\n" +
		"to shut down instead, and started again at the end; one that doesn't shut down in time is not\n" +
		"grown, and keeps running.",
	"ssh": "What follows GUEST is the command to run in the guest.",
	"remove": "Asks, then removes the guest with its volumes, whatever snapshots have put over them, and its\n" +
		"firmware's variables. If any of its disks stay, they are named and the exit status is 1.",
}

func (p *program) vmCommand() *cli.Command {
	command := func(name, args, usage string, flags []cli.Flag, action func(c *cli.Context, guest string) error) *cli.Command {
		wanted, rest, _ := strings.Cut(args, "[")
		before := func(c *cli.Context) error {
			err := mayCall(c, name, c.String("connect"))
			if err == nil && (rest == "" || !c.Args().Present()) {
				err = exactArgs(c, wanted)
			}
			if err == nil && wanted != "" {
				err = checkGuest(c.Args().First())
			}
			return err
		}
		return &cli.Command{Name: name, ArgsUsage: args, Usage: usage, Description: vmDescriptions[name], Flags: append(flags, connectFlag), Before: before, Action: func(c *cli.Context) error {
			return action(c, c.Args().First())
		}}
	}
	asJSON := []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}}
	guard := command("guard", "GUEST", "", nil, func(c *cli.Context, guest string) error {
		return vm.RunGuard(c.Context, libvirt.Virsh{}, guest, os.Stdin)
	})
	guard.Hidden = true
	return &cli.Command{
		Name: "vm", Usage: "make and look after virtual machines on a libvirt node",
		Subcommands: []*cli.Command{
			command("create", "GUEST", "make a guest; one that fails leaves nothing", vmCreateFlags(), p.vmCreate),
			command("list", "", "list the guests that were made here", asJSON, p.vmList),
			command("show", "GUEST", "print what is known of a guest", asJSON, p.vmShow),
			command("start", "GUEST", "start a guest", nil, p.vmStart),
			command("stop", "GUEST", "shut a guest down cleanly", []cli.Flag{
				stopTimeFlag(), &cli.BoolFlag{Name: "force", Usage: "force the guest off at once; its last writes may be lost"},
			}, p.vmStop),
			command("reboot", "GUEST", "shut a guest down cleanly, and start it again", []cli.Flag{stopTimeFlag()}, p.vmReboot),
			command("console", "GUEST", "connect to a guest's serial console; Ctrl-] leaves it", nil, p.vmConsole),
			command("mount", "GUEST", "mount a guest's filesystems on /mnt/GUEST",
				[]cli.Flag{&cli.BoolFlag{Name: "read-only", Aliases: []string{"r"}, Usage: "also while it runs"}},
				func(c *cli.Context, guest string) error { return p.vmMount(c.Context, guest, c.Bool("read-only")) }),
			command("umount", "GUEST", "unmount a guest's filesystems", nil, p.vmUmount),
			command("grub", "GUEST", "rewrite a guest's boot record, or its EFI system partition", nil,
				func(c *cli.Context, guest string) error { return p.vmGrub(c.Context, guest) }),
			command("grow", "GUEST", "enlarge a guest's root or another of its volumes, with the filesystem on it",
				append(stopFlags("shut a running one down first, and start it again"),
					&cli.StringFlag{Name: "root-size", Usage: "`SIZE` that it gets, or +SIZE to add"},
					&cli.StringFlag{Name: "disk", Value: "root", Usage: "`NAME` of another disk, as data1, with --size"},
					&cli.StringFlag{Name: "size", Usage: "`SIZE` that it gets, or +SIZE to add"}), p.vmGrow),
			command("ssh", "GUEST [COMMAND...]", "log in as root; the host keys are checked against those the guest was made with",
				[]cli.Flag{&cli.StringFlag{Name: "identity", Aliases: []string{"i"}, Usage: "`FILE` of the private key"}}, p.vmSSH),
			command("remove", "GUEST", "remove a guest and all its volumes", append(stopFlags("shut a running one down first; force it off if it doesn't answer"),
				&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "without asking"},
			), func(c *cli.Context, guest string) error {
				return p.vmRemove(c.Context, guest, c.Bool("yes"), stopOf(c))
			}),
			command("defaults", "", "print what new guests are given, and where it comes from", nil,
				func(c *cli.Context, _ string) error { return p.vmDefaults(c.Context, true) }),
			guard,
		},
	}
}

// stopFlags are the options of what needs a guest that doesn't run.
func stopFlags(usage string) []cli.Flag {
	return []cli.Flag{&cli.BoolFlag{Name: "stop", Usage: usage}, stopTimeFlag()}
}

func stopOf(c *cli.Context) vm.Stop {
	return vm.Stop{Wanted: c.Bool("stop"), Within: c.Duration("stop-time")}
}

func vmCreateFlags() []cli.Flag {
	text := func(name, usage string) cli.Flag { return &cli.StringFlag{Name: name, Usage: usage} }
	nics := &[]nicOption{}
	return append(firstBootFlags(), []cli.Flag{
		text("pool", "libvirt's storage `POOL`; default, or the only one"), text("vg", "volume `GROUP`, by libvirt's pool for it"),
		&cli.StringSliceFlag{Name: "ip", Usage: "static `ADDRESS`, as 192.0.2.5/24 or 2001:db8::5/64; may be repeated"},
		text("gateway", "`ADDRESS` of the gateway, or none; that of its network unless given"),
		&cli.BoolFlag{Name: "dhcp", Usage: "an address by DHCP, as it is without --ip"},
		text("dns", "name servers' `ADDRESSES`, comma-separated"), text("dns-search", "`DOMAINS` to search, comma-separated"), text("domain", "`DOMAIN` of its host name"),
		&cli.GenericFlag{Name: "bridge", Value: &nicFlag{"bridge", nics}, Usage: "`BRIDGE`[,ip=ADDRESS/BITS][,gateway=ADDRESS][,mac=ADDRESS] that a NIC is connected to, may be repeated; the node's first bridge unless given"},
		&cli.GenericFlag{Name: "network", Value: &nicFlag{"network", nics}, Usage: "libvirt `NETWORK` that a NIC is connected to, with the same options as --bridge; default where the node has no bridge"},
		&cli.BoolFlag{Name: "user-net", Usage: "QEMU's user-mode network, with ssh on a port of 127.0.0.1"},
		text("suite", "`SUITE` to install; the node's unless given"), text("mirror", "`URL` of the archive; the node's unless given"), text("kernel-pkg", "`PACKAGE` of the kernel; the one for virtual machines unless given"),
		text("arch", "`ARCH`: x86_64 (unless given) or i686"), text("memory", "`SIZE` of its memory; 1G unless given"), text("vcpus", "`NUMBER` of virtual CPUs; 1 unless given"),
		text("root-size", "`SIZE` of the root volume; 20G unless given"), text("boot-size", "`SIZE` of the /boot volume; 512M unless given, and at least"), text("swap-size", "`SIZE` of the swap volume; 1G unless given"),
		&cli.StringFlag{Name: "layout", Value: vm.LayoutThree, Usage: "`LAYOUT` of the volumes: boot+root+swap, single, or a file of LAYOUT for a single one"},
		&cli.StringFlag{Name: "firmware", Value: "bios", Usage: "`FIRMWARE`: bios; with one volume also uefi or both"},
		&cli.BoolFlag{Name: "secure-boot", Usage: "with UEFI: only programs signed for it start"},
		text("from-backup", "`FILE` that export wrote of a guest's first disk"),
		diskFlag(), text("extra-pkgs", "`PACKAGES`, comma-separated, beside those of the settings"),
		&cli.StringFlag{Name: "graphics", Value: "none", Usage: "`KIND` of screen: none (there is the serial console), or vnc on a UNIX socket"},
		text("ssh-key", "`FILE` of a public key that may log in, beside those of the node's root"),
		&cli.GenericFlag{Name: "credential", Value: &repeated{}, Usage: "a credential for the guest's systemd: `NAME=FILE`, which nobody else may read; given once for each"},
		text("root-password-file", "`FILE` whose only line is root's password, its hash, locked or blank, for the console"),
		&cli.BoolFlag{Name: "insecure-blank-password", Usage: "let anybody who reaches the console be root"},
		&cli.BoolFlag{Name: "unattended-upgrades", Usage: "have the guest install security updates by itself, each day"},
		&cli.BoolFlag{Name: "autostart", Value: true, Usage: "have libvirt start it with the node"}, &cli.BoolFlag{Name: "no-autostart", Usage: "don't have libvirt start it with the node"},
		&cli.BoolFlag{Name: "start", Usage: "start the guest when it is made"}, &cli.BoolFlag{Name: "wait", Usage: "start the guest, and wait until it answers by ssh"},
		&cli.DurationFlag{Name: "wait-time", Value: 10 * time.Minute, Usage: "`TIME` to wait at most"},
		&cli.BoolFlag{Name: "rollback", Usage: "remove a guest that doesn't answer in time"},
		&cli.BoolFlag{Name: "dry-run", Usage: "print the steps, and touch nothing"},
	}...)
}

func (p *program) vmCreate(c *cli.Context, guest string) error {
	if err := checkNewGuest(guest); err != nil {
		return err
	}
	o := vmOptions{
		guest: guest, pool: c.String("pool"), group: c.String("vg"), ips: c.StringSlice("ip"), gateway: c.String("gateway"),
		dns: c.String("dns"), search: c.String("dns-search"), domain: c.String("domain"),
		nics: *c.Generic("network").(*nicFlag).list, userNet: c.Bool("user-net"),
		suite: c.String("suite"), mirror: c.String("mirror"), kernel: c.String("kernel-pkg"), arch: c.String("arch"),
		memory: c.String("memory"), vcpus: c.String("vcpus"),
		bootSize: c.String("boot-size"), rootSize: c.String("root-size"), swapSize: c.String("swap-size"),
		layout: c.String("layout"), firmware: c.String("firmware"), sshKey: c.String("ssh-key"),
		passwordFile: c.String("root-password-file"), blankPassword: c.Bool("insecure-blank-password"), graphics: c.String("graphics"),
		extraPkgs: c.String("extra-pkgs"), backup: c.String("from-backup"), disks: repeatedOf(c, "disk"), credentialFiles: repeatedOf(c, "credential"), secureBoot: c.Bool("secure-boot"),
		unattended: c.Bool("unattended-upgrades"), noAutostart: !c.Bool("autostart") || c.Bool("no-autostart"), start: c.Bool("start"), wait: c.Bool("wait"), waitTime: c.Duration("wait-time"), rollback: c.Bool("rollback"),
		firstBoot: map[string]string{},
	}
	if err := firstBootParams(c, o.firstBoot); err != nil {
		return err
	}
	switch {
	case len(o.ips) > 0 && c.Bool("dhcp"):
		return usagef("--ip and --dhcp exclude each other")
	case o.pool != "" && o.group != "":
		return usagef("--pool and --vg exclude each other")
	case c.IsSet("autostart") && c.Bool("autostart") && c.Bool("no-autostart"):
		return usagef("--autostart and --no-autostart exclude each other")
	case o.rollback && !o.wait:
		return usagef("--rollback needs --wait: it removes a guest that isn't seen to answer")
	case o.waitTime <= 0:
		return usagef("--wait-time %v: must be more than nothing", o.waitTime)
	case c.Bool("dry-run"):
		return p.apart(c.Context, func(ctx context.Context, _ *session.Session) error { return p.vmPlan(ctx, o) })
	}
	return p.createVM(c.Context, o)
}

// createVM makes a guest in namespaces, which a guard watches over from outside.
func (p *program) createVM(ctx context.Context, o vmOptions) (err error) {
	if !p.inner {
		guard, started := vm.StartGuard(ctx, libvirt.Virsh{}, o.guest, []string{"instance-debootstrap", "--log-format", p.logFormat(), "vm", "guard", o.guest})
		if started != nil {
			return started
		}
		defer func() { err = guard.End(ctx, libvirt.Virsh{}, err) }()
	}
	return p.watched(ctx, func(ctx context.Context, s *session.Session) error {
		v, err := p.newVM(ctx, o)
		if cause := context.Cause(ctx); session.InterruptedBy(cause) != 0 {
			return fmt.Errorf("%w: nothing was made", cause)
		}
		if err != nil {
			return err
		}
		if s.WantsHostNamespace(v.Order.Settings.Namespace) {
			return session.ErrWantsHost
		}
		did, err := vm.Create(ctx, s, v)
		if err == nil {
			p.tell("%s", did)
		}
		return err
	})
}

func (p *program) vmPlan(ctx context.Context, o vmOptions) error {
	v, err := p.newVM(ctx, o)
	if err != nil {
		return err
	}
	plan, err := vm.Plan(ctx, v)
	printPlan(p.stdout(), plan)
	return err
}

func (p *program) vmList(c *cli.Context, _ string) error {
	virsh := libvirt.Virsh{}
	vm.Sweep(c.Context, virsh)
	list, err := vm.List(c.Context, virsh)
	if err != nil {
		return err
	}
	started, err := virsh.Autostarted(c.Context)
	if err != nil {
		return err
	}
	views := []vmView{}
	for _, f := range list {
		views = append(views, view(c.Context, f, started))
	}
	if err := vm.TellLeft(c.Context, virsh); err != nil {
		zerolog.Ctx(c.Context).Warn().Msgf("what guests without a domain have left isn't known: %v", err)
	}
	if c.Bool("json") {
		return json.NewEncoder(os.Stdout).Encode(views)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GUEST\tSTATE\tADDRESS\tLAYOUT\tDISKS (MiB)")
	for _, v := range views {
		var size int64
		for _, vol := range v.Volumes {
			size += vol.SizeBytes >> 20
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\n", v.Guest, stateOf(v), v.Address, v.Layout, size)
	}
	return w.Flush()
}

// onNode runs steps in the node's own namespaces, where what they mount stays.
func (p *program) onNode(ctx context.Context, job func(context.Context, *session.Session) error) error {
	if os.Geteuid() != 0 { // who would make the lock folder, and keep root out of it
		return session.ErrNotRoot
	}
	if err := session.OwnFolder(paths.LockDir, 0o700); err != nil {
		return err
	}
	s := &session.Session{Observe: p.progress(), Named: p.screen.names.call}
	ctx, stop := session.WithSignals(ctx)
	defer stop()
	err := session.BecauseOf(ctx, job(ctx, s))
	return errors.Join(err, s.UndoTo(ctx, 0))
}

func (p *program) vmSSH(c *cli.Context, guest string) error {
	f, err := vm.Find(c.Context, libvirt.Virsh{}, guest)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGINT) // ssh's to handle
	status, err := f.SSH(c.Context, c.String("identity"), c.Args().Tail())
	if err == nil && status != 0 {
		return &session.ExitError{Code: status}
	}
	return err
}

func (p *program) vmUmount(_ *cli.Context, guest string) error {
	err := vm.Umount(guest)
	if err == nil {
		p.tell("the guest %s is unmounted, and may start", guest)
	}
	return err
}

func (p *program) vmRemove(ctx context.Context, guest string, yes bool, stop vm.Stop) error {
	virsh := libvirt.Virsh{}
	if !yes {
		f, err := vm.Find(ctx, virsh, guest)
		if err == nil {
			err = p.askToRemove(f)
		}
		if err != nil {
			return err
		}
	}
	swept := func(ctx context.Context, job func(context.Context, *session.Session) error) error {
		return p.onNode(ctx, func(ctx context.Context, s *session.Session) error {
			vm.Sweep(ctx, virsh)
			return job(ctx, s)
		})
	}
	return p.onGuest(ctx, swept, guest, func(ctx context.Context, f *vm.VM) (string, error) {
		return fmt.Sprintf("the guest %s is removed, with its disks", f.Name), f.Remove(ctx, stop)
	})
}

// askToRemove has the guest's name typed on the terminal.
func (p *program) askToRemove(f *vm.VM) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return usagef("vm remove: give --yes, since nobody can be asked here")
	}
	fmt.Fprintf(p.stderr(), "%s is %s. Remove it, with all that is on:\n", f.Name, f.State)
	sizes := map[string]string{}
	for _, vol := range f.Disks {
		sizes[vol.Path] = fmt.Sprintf(" (%d MiB)", vol.SizeBytes>>20)
	}
	for _, path := range f.Goes() {
		fmt.Fprintf(p.stderr(), "  %s%s\n", path, sizes[path])
	}
	fmt.Fprint(p.stderr(), "Type its name: ")
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	if strings.TrimSpace(answer) != f.Name {
		return errors.New("nothing was removed: that is not the guest's name")
	}
	return nil
}
