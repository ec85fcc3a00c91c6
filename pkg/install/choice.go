package install

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/tell"
)

// Choice is what is decided of an Order before anything is touched: by which tool, for
// which architecture and with what to boot. It is a value: a step that has to change it
// hands on another.
type Choice struct {
	*Order
	Arch string
	Tool bootstrap.Tool
	// NoTool is why there is none. A node without can still install from a tree in the
	// cache: it counts once one has to be built.
	NoTool error
	Boot   boot.Plan

	whyNoBoot string // it is less than GRUB
	console   boot.Console
	sources   map[string]string // EXTRA_SOURCES and its keys and pins, by their paths in the guest
	keys      string            // who may log in as root by ssh, as authorized_keys has it
	told      map[string]bool   // the warnings of the cache that were given
}

// Decide finds out how an order is carried out on this node.
func (o *Order) Decide(ctx context.Context) (Choice, error) {
	keys, keysErr := o.authorizedKeys()
	c, err := o.decideTree(ctx)
	c.keys = keys
	return c, errors.Join(keysErr, err)
}

// DecideLogin is Decide for a guest whose tree comes from elsewhere: of the choice only who
// may log in counts.
func (o *Order) DecideLogin() (Choice, error) {
	keys, err := o.authorizedKeys()
	return Choice{Order: o, keys: keys}, err
}

// decideTree is Decide but for who may log in.
func (o *Order) decideTree(ctx context.Context) (c Choice, err error) {
	c = Choice{Order: o, told: map[string]bool{}}
	command.SetProxy(o.Settings.Proxy)
	if c.Arch, err = GuestArch(ctx, o.Settings); err != nil {
		return c, err
	}
	sources, err := moreSources(ctx, o.Settings)
	if err = errors.Join(err, o.checkKeyring()); err != nil {
		return c, err
	}
	c.sources = sources
	c.Tool, c.NoTool = bootstrap.Choose(ctx, c.bootstrapSpec())
	return c.withBoot()
}

func (o *Order) checkKeyring() error {
	if o.Settings.Keyring == "" {
		return nil
	}
	if _, err := trustedKeys(o.Settings.Keyring, o.StrictFiles()); err != nil {
		return fmt.Errorf("KEYRING: %w", err)
	}
	return nil
}

// GuestArch is the architecture of guests by these settings.
func GuestArch(ctx context.Context, s *settings.Settings) (string, error) {
	if s.Arch != "" {
		return s.Arch, nil
	}
	return bootstrap.HostArch(ctx)
}

// withBoot decides how the guest is to boot, once its architecture is known.
func (c Choice) withBoot() (_ Choice, err error) {
	s := c.Settings
	c.Boot, c.whyNoBoot, err = boot.Choose(boot.Wish{
		Loader: s.BootLoader, Kernel: s.KernelPkg, Firmware: s.Firmware,
		Style: c.bootStyle(), AlignmentSectors: s.PartitionAlignment, FSType: c.fstype(),
		Distribution: c.Tool.Distribution(), Suite: s.Suite, Arch: c.Arch, Services: s.GuestServices,
		ExtraPkgs: s.ExtraPkgs, OtherInit: bootstrap.ReplacesInit(s.ExtraPkgs),
		Hypervisor: c.Request.Hypervisor, HV: c.Request.HV, BootType: c.Request.BootType(),
	})
	c.console = boot.Consoles(c.Arch, c.Request.Hypervisor, c.Request.HV)
	return c, errors.Join(err, c.checkBootTest())
}

// withoutBoot goes on without a boot loader, and says why.
func (c Choice) withoutBoot(ctx context.Context, why error) Choice {
	tell.Warn(ctx, "the guest gets no kernel and no boot loader: %v", why)
	c.Boot, c.whyNoBoot = boot.Plan{}, why.Error()
	return c
}

// layout is how the root's disk, of so many bytes, is partitioned.
func (c Choice) layout(sizeBytes int64) (partition.Layout, error) {
	return partition.PlanBoot(c.style(), sizeBytes, c.Settings.PartitionAlignment, partition.Boot{BIOS: c.Boot.BIOS, UEFI: c.Boot.UEFI}, rand.Reader)
}

// lacksBootPackage tells whether a tree wasn't built because the suite doesn't have a
// package that was chosen here for it to boot by. One that KERNEL_PKG names was not.
func (c Choice) lacksBootPackage(err error) bool {
	return slices.ContainsFunc(bootstrap.Lacking(err, c.Boot.Packages), func(name string) bool { return name != c.Settings.KernelPkg })
}

// suitePackages are those that were chosen here, which the suite has or has not.
func (c Choice) suitePackages() []string {
	return slices.DeleteFunc(c.chosenPackages(), func(name string) bool { return name == c.Settings.KernelPkg })
}

// treePackages are the packages of the tree beside its base system.
func (c Choice) treePackages() []string {
	out := c.packages()
	for _, name := range c.chosenPackages() {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func (c Choice) chosenPackages() []string {
	return slices.Concat(c.Boot.Packages, c.Boot.Services, c.agentPackages())
}
