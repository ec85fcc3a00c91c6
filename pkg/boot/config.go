package boot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/pattern"
)

// Console is where kernel and GRUB talk to.
type Console struct {
	Kernel []string // values of console=, the last of which becomes /dev/console
	Speed  int      // of the first serial port, in baud; 0 when GRUB has none to use
}

// Consoles returns the consoles of a guest under a hypervisor of Ganeti's: the
// serial port that its console command reads, beside the screen. A guest that
// was installed by hand has a serial port in most cases, and no harm without. On arm64
// the port is ttyAMA0, and GRUB's own console, which is the firmware's, speaks there too.
func Consoles(arch, hypervisor string, hv map[string]string) Console {
	speed, err := strconv.Atoi(hv["serial_speed"])
	if err != nil || speed <= 0 {
		speed = 115200
	}
	serial := "ttyS0," + strconv.Itoa(speed)
	if arch == "arm64" {
		serial, speed = "ttyAMA0,"+strconv.Itoa(speed), 0
	}
	switch {
	case hypervisor == "xen-pvm":
		return Console{Kernel: []string{"hvc0"}}
	case hypervisor == "xen-hvm": // its console command reads the emulated port
		return Console{Kernel: []string{"tty0", "hvc0", serial}, Speed: speed}
	case hypervisor == "" || hv["serial_console"] == "True":
		return Console{Kernel: []string{"tty0", serial}, Speed: speed}
	}
	return Console{}
}

// Ports are the consoles that get a login prompt: all but the screen.
func (c Console) Ports() (names []string) {
	for _, name := range c.Kernel {
		if name, _, _ = strings.Cut(name, ","); name != "tty0" {
			names = append(names, name)
		}
	}
	return names
}

func (c Console) kernelArgs() string {
	var args []string
	for _, name := range c.Kernel {
		args = append(args, "console="+name)
	}
	return strings.Join(args, " ")
}

func (c Console) serialCommand() string {
	return fmt.Sprintf("serial --unit=0 --speed=%d --word=8 --parity=no --stop=1", c.Speed)
}

// Files of ours in the guest. The second makes a name for its boot disk that
// does not depend on the hypervisor.
const (
	settingsFile = "/etc/default/grub" // not ours: the package's, and the admins'
	DefaultsFile = "/etc/default/grub.d/instance-debootstrap.cfg"
	UdevRules    = "/etc/udev/rules.d/61-instance-debootstrap.rules"
	BootDisk     = "/dev/disk/by-id/instance-debootstrap-boot"
)

// WriteDefaults tells the guest's update-grub what it can't find out by itself.
// It comes before the hooks, which may run update-grub. os-prober would list
// what is on other disks: the node's, here. What /etc/default/grub says, or a file
// of the folder that is read before, stands: but not the seconds that the package
// itself writes there, which is what nobody has said. That its file is as the tree
// has it is seen by its time, which ours gets too: who writes the same seconds, a
// hook or somebody later, means them. grub-mkconfig reads it with set -e.
func WriteDefaults(root *guest.Root, c Console) error {
	var b strings.Builder
	b.WriteString("# For update-grub: what nothing else says. /etc/default/grub and other files of this folder win.\n" +
		"template=/usr/share/grub/default/grub packaged=\n" +
		"if [ -f $template ] && ! [ " + settingsFile + " -nt " + DefaultsFile + " ] && [ -z \"$(sed -n '/^GRUB_TIMEOUT=/p' " + path.Dir(DefaultsFile) + "/*.cfg)\" ]; then\n" +
		"\tpackaged=$(sed -n 's/^GRUB_TIMEOUT=//p' $template)\nfi\n" +
		"if [ \"${GRUB_TIMEOUT-$packaged}\" = \"$packaged\" ]; then GRUB_TIMEOUT=1; fi\n" +
		": \"${GRUB_DISABLE_OS_PROBER:=true}\"\n")
	if args := c.kernelArgs(); args != "" {
		fmt.Fprintf(&b, "case \" $GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT\" in\n*' console='*) ;;\n"+
			"*) GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX %s\" ;;\nesac\n", args)
	}
	if c.Speed > 0 {
		fmt.Fprintf(&b, "if [ -z \"$GRUB_TERMINAL$GRUB_TERMINAL_INPUT$GRUB_TERMINAL_OUTPUT\" ]; then GRUB_TERMINAL='console serial'; fi\n"+
			": \"${GRUB_SERIAL_COMMAND:=%s}\"\n", c.serialCommand())
	}
	if err := root.Put(DefaultsFile, b.String(), 0o644); err != nil {
		return err
	}
	if packages, err := root.Stat(settingsFile); err == nil {
		return root.SetModTime(DefaultsFile, packages.ModTime())
	}
	return nil
}

// WriteUdevRules gives the guest's boot disk the name that debconf knows it by
// (BootDisk): it is recognized by the id of its partition table, as blkid in
// 60-persistent-storage.rules tells it.
func WriteUdevRules(root *guest.Root, diskID string) error {
	rule := fmt.Sprintf("# The disk that GRUB is installed on, by its partition table's id (grub-pc/install_devices).\n"+
		"SUBSYSTEM==\"block\", ENV{DEVTYPE}==\"disk\", ENV{ID_PART_TABLE_UUID}==\"%s\", SYMLINK+=\"%s\"\n", diskID, strings.TrimPrefix(BootDisk, "/dev/"))
	return root.Put(UdevRules, rule, 0o644)
}

// DeviceTimeout is what has systemd wait longer for a device (systemd-system.conf(5),
// systemd 252 and later): where a node starts all its guests at once, udev came to
// their consoles and disks after the usual 90 s, which is no login prompt until the
// next boot, or emergency mode.
const DeviceTimeout = "/etc/systemd/system.conf.d/instance-debootstrap.conf"

// WriteDeviceTimeout writes it for a guest with systemd.
func WriteDeviceTimeout(root *guest.Root) error {
	if !root.Exists("/etc/systemd/system.conf") && !root.Exists("/usr/lib/systemd/system.conf") {
		return nil
	}
	text := "# For nodes that start many guests at once; later files of this folder win.\n[Manager]\nDefaultDeviceTimeoutSec=5min\n"
	return root.Put(DeviceTimeout, text, 0o644)
}

// debconfAnswers are what the packages' later upgrades ask: where GRUB for BIOS
// goes, and that firmware's default path is kept fresh too.
const debconfAnswers = `grub-pc grub-pc/install_devices multiselect ` + BootDisk + `
grub-pc grub2/force_efi_extra_removable boolean true
grub-efi-amd64 grub2/force_efi_extra_removable boolean true
grub-efi-arm64 grub2/force_efi_extra_removable boolean true
`

// PrepareTree does to a new tree in dir, in which a kernel and GRUB were
// installed, what is the same for every guest made of it. A tree without them is
// left alone.
func PrepareTree(ctx context.Context, dir string) error {
	root, err := guest.OpenRoot(ctx, dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if root.Exists("/usr/bin/debconf-set-selections") && root.Exists("/usr/share/grub") {
		return command.Run(ctx, command.Cmd{Chroot: dir, Quiet: true, Args: []string{"debconf-set-selections"}, Stdin: strings.NewReader(debconfAnswers)})
	}
	return nil
}

// Kernel is one that the guest has in /boot.
type Kernel struct{ Version, Image, Initrd string }

var kernelImage = pattern.New(`^vmlinu[xz]-(\S+)$`)

// Kernels lists the guest's kernels that have an initramfs, newest first.
func Kernels(root *guest.Root) ([]Kernel, error) {
	names, err := root.ReadDir("/boot")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []Kernel
	for _, name := range names {
		m := kernelImage().FindStringSubmatch(name)
		if m != nil && slices.Contains(names, "initrd.img-"+m[1]) {
			out = append(out, Kernel{m[1], "/boot/" + name, "/boot/initrd.img-" + m[1]})
		}
	}
	slices.SortFunc(out, func(a, b Kernel) int { return compareVersions(b.Version, a.Version) })
	return out, nil
}

var runs = pattern.New(`[0-9]+|[^0-9]+`)

// compareVersions compares kernels' versions by their numbers, as sort -V does.
func compareVersions(a, b string) int {
	x, y := runs().FindAllString(a, -1), runs().FindAllString(b, -1)
	for i := range min(len(x), len(y)) {
		m, errM := strconv.Atoi(x[i])
		n, errN := strconv.Atoi(y[i])
		c := cmp.Compare(x[i], y[i])
		if errM == nil && errN == nil {
			c = cmp.Compare(m, n)
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}
