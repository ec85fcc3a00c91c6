package boot

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/pattern"
)

// Which program makes the initramfs is the suite's choice: initramfs-tools, or
// dracut. What it must hold is the same for all: a guest is moved between
// hypervisors, and its disk comes by another bus then.

// dracutConf keeps dracut from looking at the machine that it runs on: in a
// chroot of a node it would leave out the driver of the guest's root
// (dracut.conf(5), "hostonly").
const dracutConf = "/etc/dracut.conf.d/instance-debootstrap.conf"

// TreeFiles are laid into a tree before its packages are, since their scripts make
// the initramfs. They stay: the guest's next kernels need them too.
func TreeFiles() map[string]string {
	return map[string]string{dracutConf: "# The initramfs is for every hypervisor, not for the machine that it is made on.\nhostonly=\"no\"\n"}
}

// buses are the ways by which a disk reaches a guest, and the modules of Linux that
// each needs.
var buses = []struct {
	name    string
	modules []string
}{
	{"virtio", []string{"virtio_pci", "virtio_blk"}},
	{"virtio-scsi", []string{"virtio_pci", "virtio_scsi", "sd_mod"}},
	{"sata", []string{"ahci", "sd_mod"}},
	{"nvme", []string{"nvme"}},
	{"xen", []string{"xen_blkfront"}},
	{"ide", []string{"ata_piix", "sd_mod"}},
	{"lsi", []string{"sym53c8xx", "sd_mod"}},
	{"megasas", []string{"megaraid_sas", "sd_mod"}},
}

// InstanceBus is the name of the bus by which a hypervisor of Ganeti gives the
// instance its disks (gnt-instance(8), "disk_type", "scsi_controller_type"); ""
// is none that is known here. By hand it is virtio's.
func InstanceBus(hypervisor string, hv map[string]string) string {
	switch hypervisor {
	case "":
		return "virtio"
	case "xen-pvm", "xen-hvm": // which unplugs the emulated disks, once it has its own driver
		return "xen"
	case "kvm":
	default:
		return ""
	}
	switch hv["disk_type"] {
	case "paravirtual", "None", "":
		return "virtio"
	case "ide":
		if strings.Contains(hv["machine_version"], "q35") {
			return "sata"
		}
		return "ide"
	case "scsi":
		return "lsi"
	case "scsi-hd", "scsi-block", "scsi-generic":
		switch hv["scsi_controller_type"] {
		case "virtio-scsi-pci":
			return "virtio-scsi"
		case "megasas":
			return "megasas"
		}
		return "lsi"
	}
	return ""
}

// rootModules are the drivers of root filesystems; ext4's reads ext2 and ext3 too,
// where they have none of their own.
var rootModules = []string{"ext2", "ext3", "ext4", "xfs", "btrfs"}

// Lack is something that a guest can't start from, since its initramfs doesn't
// hold the modules for it.
type Lack struct {
	Kernel  string
	Root    string   // a root filesystem's module, "" for a bus
	Bus     string   // one of buses
	Modules []string // that are missing
	Carried bool     // the kernel has them
}

// Concerns tells whether a guest with this root filesystem, whose disk comes by
// this bus ("" is one that isn't known), is the one that can't start.
func (l Lack) Concerns(fstype filesystem.Type, bus string) bool {
	if l.Root == "" {
		return l.Bus == bus
	}
	return l.Root == string(fstype) || l.Root == "ext4" && strings.HasPrefix(string(fstype), "ext")
}

func (l Lack) String() string {
	what, where := "a root filesystem of type "+l.Root, "its initramfs lacks"
	if l.Root == "" {
		what = "a disk by " + l.Bus
	}
	if !l.Carried {
		where = "it has no"
	}
	return fmt.Sprintf("Linux %s can't start from %s: %s %s", l.Kernel, what, where, strings.Join(l.Modules, ", "))
}

// ErrInitramfs stands for an initramfs that a guest would not get beyond, or that
// nobody can look into. Such a guest is not installed without a kernel instead.
var ErrInitramfs = errors.New("the guest's initramfs is not fit")

// errNoLister says that nobody can tell what the initramfs holds.
var errNoLister = fmt.Errorf("%w: the tree has neither lsinitramfs (initramfs-tools) nor lsinitrd (dracut) to look into it: add initramfs-tools-core or dracut-core to EXTRA_PKGS", ErrInitramfs)

// InitramfsLacks looks into the initramfs of each kernel of the tree in dir, with
// the tree's own tool, for the modules of all root filesystems and buses that its
// kernel has as modules (of fstype and bus, the instance's own, also for those
// that it hasn't at all). A tree without a kernel is ErrNoKernel, one that can't be
// looked into, or whose kernel has no initramfs, wraps ErrInitramfs.
func InitramfsLacks(ctx context.Context, dir string, root *guest.Root, fstype filesystem.Type, bus string) ([]Lack, error) {
	kernels, err := Kernels(root)
	if err != nil {
		return nil, err
	}
	if len(kernels) == 0 {
		return nil, noKernel(root)
	}
	var out []Lack
	for _, k := range kernels {
		modules, err := readModules(ctx, dir, root, k)
		if context.Cause(ctx) != nil {
			return nil, err
		}
		if err != nil {
			return nil, fmt.Errorf("%w: that of Linux %s can't be looked into: %w; KERNEL_PKG and EXTRA_PKGS choose other packages", ErrInitramfs, pattern.Plain(k.Version), err)
		}
		out = append(out, modules.lacks(string(fstype), bus)...)
	}
	return out, nil
}

// noKernel is ErrNoKernel, and wraps ErrInitramfs too where a kernel lacks only that.
func noKernel(root *guest.Root) error {
	names, err := root.ReadDir("/boot")
	if err != nil {
		return ErrNoKernel
	}
	for _, name := range names {
		if m := kernelImage().FindStringSubmatch(name); m != nil {
			return fmt.Errorf("%w: Linux %s has none: %w; EXTRA_PKGS names what makes one (initramfs-tools, dracut)", ErrInitramfs, pattern.Plain(m[1]), ErrNoKernel)
		}
	}
	return ErrNoKernel
}

// modules are those of one kernel, by their names with underscores.
type modules struct {
	kernel  string
	builtin map[string]bool
	needs   map[string][]string // of those that are files: what they need
	inside  map[string]bool     // the initramfs
}

// Bounds of what a tree's kernel and its tool may say: bytes of a list, modules of
// an initramfs, and time.
const (
	maxModuleList = 16 << 20
	maxModulesIn  = 100_000
	maxListTime   = 2 * time.Minute
)

func readModules(ctx context.Context, dir string, root *guest.Root, k Kernel) (modules, error) {
	m, err := modulesOf(root, k.Version)
	if err != nil {
		return m, err
	}
	return m, m.list(ctx, dir, root, k.Initrd)
}

// modulesOf reads the lists of a kernel's modules.
func modulesOf(root *guest.Root, version string) (modules, error) {
	m := modules{kernel: version, builtin: map[string]bool{}, needs: map[string][]string{}, inside: map[string]bool{}}
	builtin, err := root.ReadFile("/lib/modules/"+version+"/modules.builtin", maxModuleList)
	if err != nil {
		return m, err
	}
	m.readBuiltin(string(builtin))
	dep, err := root.ReadFile("/lib/modules/"+version+"/modules.dep", maxModuleList)
	m.readDep(string(dep))
	return m, err
}

func (m modules) readBuiltin(text string) {
	for line := range strings.Lines(text) {
		m.builtin[module(line)] = true
	}
}

// readDep reads lines "PATH: PATH…", depmod(8).
func (m modules) readDep(text string) {
	for line := range strings.Lines(text) {
		file, needs, _ := strings.Cut(line, ":")
		names := []string{}
		for _, need := range strings.Fields(needs) {
			names = append(names, module(need))
		}
		m.needs[module(file)] = names
	}
}

// moduleFile is a module in a listing of an initramfs, whatever stands before it.
var moduleFile = pattern.New(`lib/modules/[^/\s]+/[^\s]+\.ko(\.[a-z0-9]+)?\b`)

// module is the name of a module by its file: kernel/fs/ext4/ext4.ko.xz is ext4.
func module(file string) string {
	name, _, _ := strings.Cut(path.Base(strings.TrimSpace(file)), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// list notes which modules are in the initramfs, by the tree's own tool.
func (m modules) list(ctx context.Context, dir string, root *guest.Root, initrd string) error {
	for _, lister := range []string{"lsinitramfs", "lsinitrd"} {
		if !root.Exists("/usr/bin/" + lister) {
			continue
		}
		ctx, cancel := context.WithTimeoutCause(ctx, maxListTime, fmt.Errorf("%s takes more than %v", lister, maxListTime))
		defer cancel()
		out := &command.LineWriter{Emit: m.note}
		err := command.Run(ctx, command.Cmd{Chroot: dir, Quiet: true, Group: true, Stdout: out, Args: []string{lister, initrd}})
		out.Flush()
		return err
	}
	return errNoLister
}

// note reads a line of what a lister prints.
func (m modules) note(line string) {
	file := moduleFile().FindString(line)
	if name := module(file); file != "" && name != "" && len(m.inside) < maxModulesIn {
		m.inside[name] = true
	}
}

// carried tells whether the kernel has all of these modules, built in or as files.
func (m modules) carried(names ...string) bool {
	for _, name := range names {
		if _, isFile := m.needs[name]; !isFile && !m.builtin[name] {
			return false
		}
	}
	return true
}

// missing are these modules and those that they need, as far as they are neither
// built in nor in the initramfs.
func (m modules) missing(names ...string) (out []string) {
	for _, name := range names {
		for _, n := range append([]string{name}, m.needs[name]...) {
			if !m.builtin[n] && !m.inside[n] && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// lacks are what the initramfs can't start from. What the kernel doesn't have at
// all counts only where the instance needs it: there the kernel is the wrong one.
func (m modules) lacks(fstype, bus string) (out []Lack) {
	add := func(l Lack, needed bool, names ...string) {
		l.Kernel, l.Modules, l.Carried = m.kernel, m.missing(names...), m.carried(names...)
		if len(l.Modules) > 0 && (l.Carried || needed) {
			out = append(out, l)
		}
	}
	for _, name := range rootModules {
		byExt4 := strings.HasPrefix(name, "ext") && m.carried("ext4")
		add(Lack{Root: name}, name == fstype && !byExt4, name)
	}
	for _, b := range buses {
		add(Lack{Bus: b.name}, b.name == bus, b.modules...)
	}
	return out
}
