package main

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/os/debootstrap"
	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/userspace"
)

// installParams are install's flags that set an OS parameter of the same name
// (with _ for -), as gnt-instance's -O does.
var installParams = map[string]string{
	"suite":           "`SUITE` to install",
	"arch":            "`ARCH` of the guest; the node's unless given",
	"mirror":          "`URL` of the archive; the bootstrap tool's own unless given",
	"snapshot":        "`DAY` whose archive is installed from, such as 2026-01-31",
	"components":      "archive `COMPONENTS`, comma-separated",
	"extra-pkgs":      "further `PACKAGES`, comma-separated",
	"partition-style": "`STYLE`: none, msdos or gpt",
	"filesystem":      "`TYPE` of the root filesystem: ext2, ext3, ext4, xfs or btrfs",
	"layout":          "`NAME` of a file in the settings' folder layouts, which describes the partitions, or none",
	"bootstrap":       "`TOOL`: auto, debootstrap or mmdebstrap",
	"network":         "`MODE`: none, or dhcp on every Ethernet interface",
}

func (p *program) installCommand() *cli.Command {
	flags := []cli.Flag{
		formatFlag(),
		&cli.StringFlag{Name: "size", Usage: "`SIZE` of a new image file, such as 2G or 800M"},
		&cli.StringFlag{Name: "hostname", Usage: "the guest's host `NAME`; the image file's name unless given"},
		&cli.StringFlag{Name: "variant", Usage: "settings `VARIANT`, as after the + of Ganeti's OS name"},
		&cli.BoolFlag{Name: "force", Usage: "overwrite a disk that holds data"},
		&cli.StringFlag{Name: "ssh-key", Usage: "`FILE` of the keys that may log in as root by ssh"},
		&cli.StringFlag{Name: "root-password-file", Usage: "`FILE` whose only line is root's password, its hash, locked or blank"},
	}
	flags = append(flags, firstBootFlags()...)
	for _, name := range []string{"suite", "arch", "mirror", "snapshot", "components", "extra-pkgs", "partition-style", "filesystem", "layout", "bootstrap", "network"} {
		flags = append(flags, &cli.StringFlag{Name: name, Usage: installParams[name]})
	}
	return &cli.Command{
		Name:      "install",
		Usage:     "install a guest by hand, onto a new image file or a disk",
		ArgsUsage: "DISK",
		Description: "Does what create does under Ganeti, with the same settings files, cache and hooks.\n" +
			"With --size, DISK is a new image file, which appears under its name once it is complete.\n" +
			"Without it, DISK is a block device, an image file or a URI that exists and is blank, or\n" +
			"holds data that --force overwrites.\n\n" +
			"The options from --suite on, and --variant, override the settings files. --network dhcp makes\n" +
			"the guest ask for addresses on every Ethernet interface, since none is known by name.",
		Flags: flags,
		Action: func(c *cli.Context) error {
			req, err := p.installRequest(c)
			if err != nil {
				return err
			}
			return p.watched(c.Context, func(ctx context.Context, s *session.Session) error {
				return p.install(ctx, s, req)
			})
		},
	}
}

// installation is what install's command line asks for.
type installation struct {
	disk    string
	source  userspace.Source // of the disk, when it exists
	size    int64            // bytes of a new file; 0: the disk exists
	force   bool
	name    string
	variant string
	params  map[string]string
}

func (p *program) installRequest(c *cli.Context) (installation, error) {
	source, err := diskAt(c)
	if err != nil {
		return installation{}, err
	}
	disk := cmp.Or(source.Path, source.Name)
	in := installation{disk: disk, source: source, force: c.Bool("force"), name: c.String("hostname"), variant: c.String("variant"), params: params(c)}
	if err := in.access(c.Context, c.String("ssh-key"), c.String("root-password-file")); err != nil {
		return in, err
	}
	if err := firstBootParams(c, in.params); err != nil {
		return in, err
	}
	if in.name == "" && source.Path != "" {
		in.name = strings.TrimSuffix(filepath.Base(disk), filepath.Ext(disk))
	}
	switch served := source.IsServed(); {
	case source.Path == "" && c.IsSet("size"):
		return in, usagef("install: --size makes image files only: leave it out, %s has its size", disk)
	case served && c.IsSet("size"):
		return in, usagef("install: --size makes raw image files only: make %s first (a qcow2 by qemu-img create -f qcow2), and leave out --size", disk)
	case in.name == "":
		return in, usagef("install: give --hostname: %s has no name for a guest", disk)
	case served:
		return in, nil
	}
	st, statErr := os.Lstat(disk) // a link that leads nowhere has the name too
	switch {
	case statErr == nil && st.Mode().IsRegular() && st.Size() == 0:
		return in, usagef("install: %s is empty: remove it and give --size, or give it a size (truncate)", disk)
	case c.IsSet("size") && statErr == nil:
		return in, usagef("install: %s exists already: leave out --size to install onto it", disk)
	case c.IsSet("size"):
		in.size, err = parseSize("--size", c.String("size"))
	case statErr != nil:
		return in, usagef("install: %s does not exist: give --size to make a new image file", disk)
	}
	return in, err
}

// paramNames are the options by the parameters that they set.
func paramNames() map[string]string {
	names := map[string]string{"ssh_authorized_keys": "--ssh-key", "root_password": "--root-password-file", "first_boot": "--first-boot", "user_data": "--cloud-init"}
	for name := range installParams {
		names[strings.ReplaceAll(name, "-", "_")] = "--" + name
	}
	return names
}

// params are the OS parameters that a command's options set.
func params(c *cli.Context) map[string]string {
	out := map[string]string{}
	for name := range installParams {
		if c.IsSet(name) {
			out[strings.ReplaceAll(name, "-", "_")] = c.String(name)
		}
	}
	return out
}

// access takes what the options say of who may log in. A hash in a process's
// arguments would be there for every user of the node.
func (in *installation) access(ctx context.Context, keyFile, passwordFile string) error {
	if keyFile != "" {
		path, err := filepath.Abs(keyFile)
		if err != nil {
			return err
		}
		in.params["ssh_authorized_keys"] = path
	}
	if passwordFile == "" {
		return nil
	}
	password, err := rootPassword(ctx, passwordFile)
	if err != nil {
		return usagef("--root-password-file %s: %w", passwordFile, err)
	}
	in.params["root_password"] = password
	return nil
}

var sizePattern = pattern.New(`^([0-9]+)([KMGT]?)(I?B)?$`)

// parseSize reads an option's size in bytes with an optional power-of-1024 suffix.
func parseSize(option, s string) (int64, error) {
	m := sizePattern().FindStringSubmatch(strings.ToUpper(strings.TrimSpace(s)))
	if m == nil {
		return 0, usagef("%s %q: must be a number, with K, M, G or T behind it or without, such as 2G", option, s)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	shift := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[m[2]]
	if err != nil || n > (1<<62)>>shift {
		return 0, usagef("%s %q: too large", option, s)
	}
	if n <<= shift; n == 0 {
		return 0, usagef("%s %q: must be more than nothing", option, s)
	}
	if n < 1<<20 && m[2] == "" { // nothing here is that small
		return 0, usagef("%s %q: that is so many bytes: give a unit, such as %sG", option, s, m[1])
	}
	if n%512 != 0 {
		return 0, usagef("%s %q: must be whole sectors of 512 bytes", option, s)
	}
	return n, nil
}

// ganetiNames are how the variables begin by which Ganeti speaks to its scripts.
var ganetiNames = []string{"DISK_", "NIC_", "INSTANCE_", "OS_", "OSP_", "HYPERVISOR", "EXPORT_", "IMPORT_", "EXP_SIZE_FD", "DEBUG_LEVEL", "OLD_INSTANCE_NAME"}

// withoutGaneti is the caller's environment without what Ganeti may have said in
// it: that could name another disk.
func withoutGaneti() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return slices.ContainsFunc(ganetiNames, func(begin string) bool { return strings.HasPrefix(entry, begin) })
	})
}

// request is what Ganeti would ask for, with nothing of what it may have said in the
// caller's environment: that could name another disk.
func (in installation) request(verb osapi.Verb, disk string) (*osapi.Request, error) {
	return osapi.New(osapi.Request{
		Verb: verb, InstanceName: in.name, Variant: in.variant, Hypervisor: "kvm", HV: map[string]string{"serial_console": "True"},
		Disks: []osapi.Disk{{Path: disk, Access: "w"}}, OSParams: in.params, ParamNames: paramNames(),
	}, withoutGaneti())
}

func (p *program) install(ctx context.Context, s *session.Session, in installation) error {
	disk, image := in.disk, (*blockdev.NewImage)(nil)
	if in.size > 0 {
		var err error
		if image, err = blockdev.MakeImage(in.disk, in.size); err != nil {
			return err
		}
		s.Defer("close "+in.disk, func(context.Context) error { return image.Close() })
		disk = image.WorkPath
	}
	var report install.Report
	create := func(path string) (err error) {
		report, err = p.installOn(ctx, s, in, path, image)
		return err
	}
	var err error
	if image != nil {
		err = create(disk)
	} else {
		err = onDisk(ctx, s, in.source, false, create)
	}
	if err != nil {
		return err
	}
	return p.report(ctx, s, report, report.WaysIn())
}

// installOn installs onto the disk at path; image is the file that this run made, nil is
// none.
func (p *program) installOn(ctx context.Context, s *session.Session, in installation, path string, image *blockdev.NewImage) (install.Report, error) {
	req, err := in.request(osapi.Create, path)
	set, err := p.settingsFor(ctx, req, err)
	if err != nil {
		return install.Report{}, err
	}
	if s.WantsHostNamespace(set.Namespace) {
		return install.Report{}, session.ErrWantsHost
	}
	return debootstrap.Create(ctx, s, &install.Order{Request: req, Settings: set, DiskName: in.disk, Image: image, KeepData: !in.force, Reinstall: in.force})
}
