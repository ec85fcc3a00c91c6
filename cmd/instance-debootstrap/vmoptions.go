package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/node"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/vm"
)

// vmOptions is what a command line says of a new guest; "" is not said.
type vmOptions struct {
	guest            string
	pool, group      string
	ips              []string // of the first NIC
	gateway          string
	dns, search      string
	domain           string
	nics             []nicOption
	userNet          bool
	suite, mirror    string
	kernel, arch     string
	memory, vcpus    string
	bootSize         string
	rootSize         string
	swapSize         string
	layout, firmware string
	sshKey           string
	extraPkgs        string
	firstBoot        map[string]string // files that the first boot runs, by their OS parameters
	backup           string            // of which it is made
	disks            []string          // further ones
	credentialFiles  []string          // NAME=FILE
	secureBoot       bool
	passwordFile     string
	blankPassword    bool
	graphics         string
	noAutostart      bool
	unattended       bool // upgrades
	start, wait      bool
	waitTime         time.Duration
	rollback         bool
}

// guestName is a name for a domain, its volumes and its host.
var guestName = pattern.New(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

func checkGuest(name string) error {
	if !guestName().MatchString(name) || strings.Contains(name, "..") {
		return usagef("guest %q: its name may have small letters, digits, hyphens and dots, at most 63", name)
	}
	return nil
}

// checkNewGuest refuses a name by which virsh, which admins use too, would find the
// running domain of that number.
func checkNewGuest(name string) error {
	if strings.Trim(name, "0123456789") == "" {
		return usagef("guest %q: a number is what virsh knows running domains by: put a letter before it, as vm%s", name, name)
	}
	return nil
}

// vmKeys are the keys of ~/.vmbootstrap in force, over the settings' and the
// node's values, and the settings.
func (p *program) vmKeys(ctx context.Context, facts node.Facts) (map[string]settings.VMValue, *settings.Settings, error) {
	inferred := map[string]settings.VMValue{}
	for name, v := range map[string]node.Value{
		"debian_release": facts.Release, "debian_mirror": facts.Mirror, "netmask": facts.Netmask, "broadcast": facts.Broadcast,
		"gateway": facts.Gateway, "dns_nameservers": facts.Nameservers, "dns_search": facts.Search, "domain": facts.Domain,
	} {
		inferred[name] = settings.VMValue(v)
	}
	set, err := settings.Load(ctx, p.sources(ctx, &osapi.Request{APIVersion: 20, Environ: withoutGaneti()}))
	if err != nil {
		return nil, nil, err
	}
	for key, name := range map[string]string{"debian_release": "SUITE", "debian_mirror": "MIRROR", "kernelpkg": "KERNEL_PKG"} {
		if origin := set.Origin[name]; origin != "the default" && set.Raw[name] != "" {
			inferred[key] = settings.VMValue{Text: set.Raw[name], Origin: origin}
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/root"
	}
	warn := func(s string) { zerolog.Ctx(ctx).Warn().Msg(s) }
	keys, err := settings.LoadVM(ctx, filepath.Join(home, ".vmbootstrap"), os.Environ(), inferred, p.stderr(), warn)
	return keys, set, err
}

// vmBuilder gathers a VM and what is wrong with what was asked for.
type vmBuilder struct {
	vmOptions
	keys     map[string]settings.VMValue
	packages []string // that the settings ask for
	// dataDisksSetting is DATA_DISKS of the settings.
	dataDisksSetting string
	vm               *vm.Wanted
	faults           []error
	warnings         func(string)
	seen             map[netip.Addr]bool // the guest's addresses
}

// fault is of what was asked for; what the node, libvirt or a file says no to is not.
func (b *vmBuilder) fault(format string, args ...any) {
	b.faults = append(b.faults, usagef(format, args...))
}

func (b *vmBuilder) warn(format string, args ...any) { b.warnings(fmt.Sprintf(format, args...)) }

// asked is what get has, as it was written: the option, or the key and where it is from.
func (b *vmBuilder) asked(option, given, key string) string {
	if given != "" {
		return option + " " + strconv.Quote(given)
	}
	return fmt.Sprintf("%s %q (%s)", key, b.keys[key].Text, b.keys[key].Origin)
}

// oldKernel matches names of before wheezy, as the script of 2009 had one for its
// default.
var oldKernel = pattern.New(`^linux-image-(2\.6|486|k7|686-bigmem|vserver|xen-)`)

// get is what the command line says, or a key's value.
func (b *vmBuilder) get(given, key string) string {
	if given != "" {
		return given
	}
	return b.keys[key].Text
}

// newVM puts together what the command line, ~/.vmbootstrap, the settings and the
// node say. Nothing is made.
func (p *program) newVM(ctx context.Context, o vmOptions) (*vm.Wanted, error) {
	virsh := libvirt.Virsh{}
	facts := node.Read(ctx, "/", "")
	if err := virsh.Check(ctx); err != nil {
		return nil, cmp.Or(p.checkOptions(ctx, o, facts), err)
	}
	links, linkErr := findLinks(ctx, virsh, o, facts)
	if len(links) > 0 {
		links[0].tell(&facts)
	}
	keys, set, err := p.vmKeys(ctx, facts)
	if err != nil {
		return nil, errors.Join(linkErr, err)
	}
	b := newVMBuilder(ctx, o, facts, keys, set)
	b.vm.Virsh = virsh
	b.fromBackup(ctx)
	b.machine()
	b.sizes()
	if linkErr == nil {
		linkErr = b.connect(ctx, links)
	}
	if linkErr != nil {
		b.faults = append(b.faults, linkErr)
	}
	if b.vm.Pool, err = virsh.FindPool(ctx, o.pool, o.group); err != nil {
		b.faults = append(b.faults, err)
	}
	b.names()
	b.credentials()
	b.dataDisks(ctx, virsh)
	sshKeys, password := b.access(ctx, set)
	if len(b.faults) > 0 {
		return nil, errors.Join(b.faults...)
	}
	req, err := b.request(sshKeys, password)
	if set, err = p.settingsFor(ctx, req, err); err != nil {
		return nil, err
	}
	b.vm.NICName = b.nicName()
	b.vm.Order = &install.Order{
		Request: req, Settings: set, BootPath: b.vm.BootPath(), Fresh: true, NICs: b.vm.NetworkNICs(), ResolvConf: b.resolvConf(),
	}
	return b.vm, nil
}

func newVMBuilder(ctx context.Context, o vmOptions, facts node.Facts, keys map[string]settings.VMValue, set *settings.Settings) *vmBuilder {
	return &vmBuilder{
		vmOptions: o, keys: keys, seen: map[netip.Addr]bool{}, warnings: func(s string) { zerolog.Ctx(ctx).Warn().Msg(s) },
		packages: set.ExtraPkgs, dataDisksSetting: set.Raw["DATA_DISKS"],
		vm: &vm.Wanted{
			Guest: o.guest, Node: facts, Unattended: o.unattended, Machine: vm.Machine{Autostart: !o.noAutostart},
			Afterwards: vm.Afterwards{Start: o.start || o.wait, Wait: o.wait, WaitTime: o.waitTime, Rollback: o.rollback},
		},
	}
}

// checkOptions is what can be said of the options without libvirt, which doesn't answer.
func (p *program) checkOptions(ctx context.Context, o vmOptions, facts node.Facts) error {
	keys, set, err := p.vmKeys(ctx, facts)
	if err != nil {
		return err
	}
	b := newVMBuilder(ctx, o, facts, keys, set)
	b.warnings = func(string) {}
	b.fromBackup(ctx)
	b.machine()
	b.sizes()
	b.names()
	b.credentials()
	b.access(ctx, set)
	return errors.Join(b.faults...)
}

var debianArch = map[string]string{"x86_64": "amd64", "i686": "i386"}

// machine reads what the virtual machine is to be.
func (b *vmBuilder) machine() {
	v := b.vm
	if v.Arch = b.get(b.arch, "libvirt_arch"); debianArch[v.Arch] == "" {
		b.fault("%s: must be x86_64 or i686", b.asked("--arch", b.arch, "libvirt_arch"))
	}
	var err error
	if v.VCPUs, err = strconv.Atoi(b.get(b.vcpus, "libvirt_vcpu")); err != nil || v.VCPUs < 1 {
		b.fault("%s: must be a number of virtual CPUs, 1 or more", b.asked("--vcpus", b.vcpus, "libvirt_vcpu"))
	}
	v.MemoryKiB, err = strconv.ParseInt(b.keys["libvirt_mem"].Text, 10, 64)
	if b.memory != "" {
		v.MemoryKiB, err = parseSize("--memory", b.memory)
		v.MemoryKiB >>= 10
	}
	if err != nil || v.MemoryKiB < 128<<10 {
		b.fault("%s: must be at least 128M (--memory 1G, or libvirt_mem in KiB)", b.asked("--memory", b.memory, "libvirt_mem"))
	}
	if v.Graphical = b.graphics == "vnc"; !v.Graphical && b.graphics != "none" {
		b.fault("--graphics %q: must be none or vnc", b.graphics)
	}
	if v.Layout = b.layout; b.hasOwnLayout() {
		if err := install.LookForLayout(v.Layout); err != nil {
			b.fault("--layout %q: must be %s, %s or a file of LAYOUT: %w", v.Layout, vm.LayoutThree, vm.LayoutSingle, err)
		}
	}
	if v.Firmware = b.firmware; !slices.Contains([]string{"bios", "uefi", "both"}, v.Firmware) {
		b.fault("--firmware %q: must be bios, uefi or both", v.Firmware)
	}
	if v.SecureBoot = b.secureBoot; v.SecureBoot && (v.Firmware == "bios" || v.Arch != "x86_64") {
		b.fault("--secure-boot needs --firmware uefi, --layout %s or a file of LAYOUT, and x86_64", vm.LayoutSingle)
	}
	if v.Layout == vm.LayoutThree && v.Firmware != "bios" {
		b.fault("--firmware %s needs --layout %s, or a file of LAYOUT: %s starts by BIOS", v.Firmware, vm.LayoutSingle, vm.LayoutThree)
	}
}

// hasOwnLayout tells whether a file of LAYOUT says how the guest's one volume is partitioned.
func (b *vmBuilder) hasOwnLayout() bool {
	return b.layout != vm.LayoutThree && b.layout != vm.LayoutSingle
}

// sizes reads the volumes' sizes.
func (b *vmBuilder) sizes() {
	read := func(option, given, key string) int64 {
		if given == "" {
			option = fmt.Sprintf("%s (%s)", key, b.keys[key].Origin)
		}
		n, err := parseSize(option, b.get(given, key))
		if err != nil {
			b.faults = append(b.faults, err)
		}
		return (n + 1<<20 - 1) >> 20 << 20
	}
	v := b.vm
	if v.RootBytes = read("--root-size", b.rootSize, "root_size"); v.RootBytes > 0 && v.RootBytes < vm.MinRootBytes {
		b.fault("%s: must be at least %d MiB", b.asked("--root-size", b.rootSize, "root_size"), vm.MinRootBytes>>20)
	}
	if v.Layout != vm.LayoutThree {
		if b.bootSize+b.swapSize != "" {
			b.warn("--boot-size and --swap-size are of no use: a guest of --layout %s has one volume", v.Layout)
		}
		return
	}
	v.BootBytes, v.SwapBytes = read("--boot-size", b.bootSize, "boot_size"), read("--swap-size", b.swapSize, "swap_size")
	if v.BootBytes > 0 && v.BootBytes < vm.MinBootBytes { // 128M were enough in 2009
		b.warn("%s: /boot gets %d MiB, which two kernels need", b.asked("--boot-size", b.bootSize, "boot_size"), vm.MinBootBytes>>20)
		v.BootBytes = vm.MinBootBytes
	}
}

// request is what Ganeti would ask for: the engine and the hooks know no other language.
func (b *vmBuilder) request(sshKeys, password string) (*osapi.Request, error) {
	v := b.vm
	style := "msdos"
	switch {
	case v.Layout == vm.LayoutThree:
		style = "none"
	case v.Firmware != "bios":
		style = "gpt"
	}
	layout := "none"
	if b.hasOwnLayout() {
		layout = v.Layout
	}
	packages := append(slices.Clone(b.packages), "openssh-server")
	if v.Node.Locale.Text != "" {
		packages = append(packages, "locales")
	}
	if b.unattended {
		packages = append(packages, vm.UnattendedPackage)
	}
	kernel := b.get(b.kernel, "kernelpkg")
	if oldKernel().MatchString(kernel) {
		b.warn("%s: no suite has it any longer; the kernel for virtual machines is taken", b.asked("--kernel-pkg", b.kernel, "kernelpkg"))
		kernel = ""
	}
	if kernel == "" {
		kernel = "cloud"
	}
	packages = append(packages, strings.FieldsFunc(b.extraPkgs, func(r rune) bool { return r == ',' || r == ' ' })...)
	disks, dataDisks := b.ganetiDisks()
	nics, network := b.ganetiNICs()
	params := map[string]string{
		"suite": b.get(b.suite, "debian_release"), "mirror": b.get(b.mirror, "debian_mirror"), "arch": debianArch[v.Arch],
		"partition_style": style, "layout": layout, "firmware": v.Firmware, "bootloader": "grub", "kernel_pkg": kernel,
		"extra_pkgs": strings.Join(packages, ","), "ssh_authorized_keys": strings.TrimSpace(sshKeys), "root_password": password,
		"data_disks": dataDisks, "network": network,
	}
	maps.Copy(params, b.firstBoot)
	return osapi.New(osapi.Request{
		Verb: osapi.Create, InstanceName: b.hostName(), Hypervisor: "kvm", HV: map[string]string{"serial_console": "True", "use_guest_agent": "True"}, Disks: disks, NICs: nics,
		OSParams: params, ParamNames: vmParamNames,
	}, withoutGaneti())
}

// hostName is the guest's name with its domain.
func (b *vmBuilder) hostName() string {
	domain := b.get(b.domain, "domain")
	if strings.Contains(b.guest, ".") || domain == "" {
		return b.guest
	}
	return b.guest + "." + domain
}
