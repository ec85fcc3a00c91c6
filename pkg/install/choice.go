package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/command"
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
	failure   error  // of the tree with what it would boot by, which isn't tried again yet; nil is none
	decided   bool   // all that goes into the tree is known
	console   boot.Console
	sources   map[string]string // EXTRA_SOURCES and its keys and pins, by their paths in the guest
	given
	// recorded is what a tree was made of that is built anew; nil is that the settings say it.
	recorded *cache.Inputs
	told     map[string]bool // the warnings of the cache that were given
}

// Decide finds out how an order is carried out on this node. The error has all that is
// refused before any disk is looked at; the choice is then as far as it could be made.
func (o *Order) Decide(ctx context.Context) (Choice, error) {
	c, err := o.DecideSettings(ctx)
	return c, errors.Join(err, o.checkNetwork(), o.checkHooks(), o.Store().CheckFolder())
}

// DecideSettings is Decide without an instance and what else of the node create works with,
// hooks and the cache's folder: verify and doctor ask it.
func (o *Order) DecideSettings(ctx context.Context) (Choice, error) {
	c, err := o.decideTree(ctx)
	var givenErr error
	c.given, givenErr = o.readGiven()
	return c, errors.Join(c.check(), givenErr, err, c.checkTool())
}

// DecideLogin is Decide for a guest whose tree comes from elsewhere: of the choice only who
// may log in counts.
func (o *Order) DecideLogin() (Choice, error) {
	keys, err := o.fileOrText("SSH_AUTHORIZED_KEYS", o.Settings.SSHAuthorizedKeys, settings.CheckAuthorizedKeys)
	return Choice{Order: o, given: given{keys: keys}}, err
}

// decideTree decides on the tree, and on what its guest boots by.
func (o *Order) decideTree(ctx context.Context) (c Choice, err error) {
	o, layoutErr := o.withLayout()
	c = Choice{Order: o, told: map[string]bool{}}
	command.SetProxy(o.Settings.Proxy)
	sources, err := moreSources(ctx, o.Settings)
	c.sources, err = sources, errors.Join(layoutErr, err, o.checkKeyring(), o.Settings.CheckSnapshot(time.Now()))
	arch, archErr := GuestArch(ctx, o.Settings)
	if archErr != nil {
		c.whyNoBoot = archErr.Error()
		return c, errors.Join(archErr, err)
	}
	c.Arch = arch
	c.Tool, c.NoTool = bootstrap.Choose(ctx, c.bootstrapSpec())
	c, bootErr := c.withBoot()
	if err = errors.Join(err, bootErr); err != nil {
		return c, err
	}
	c.decided = true
	return c.asKnown(), nil
}

// asKnown goes on without a kernel, where it is known that the tree with one can't be built.
func (c Choice) asKnown() Choice {
	if c.Boot.Loader != "" {
		c.failure = c.knownFailure()
	}
	if c.failure != nil {
		c.Boot, c.whyNoBoot = boot.Plan{}, c.failure.Error()
	}
	return c
}

// checkTool refuses to go on without a bootstrap tool where a tree has to be built.
func (c Choice) checkTool() error {
	if c.decided && c.cached() == "" {
		return c.NoTool
	}
	return nil
}

// cached is the tar in the cache that is used, by its path; "" is that there is none.
func (c Choice) cached() string {
	store := c.Store()
	if c.NoTool != nil { // what there is has to do
		store.Generate = false
	}
	return store.Peek(c.cacheInputs())
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
		ExtraPkgs: s.ExtraPkgs, OtherInit: bootstrap.ReplacesInit(s.ExtraPkgs), OwnBoot: c.hasOwnBoot(), InSubvolume: c.rootLine().Subvolume != "", Further: c.furtherTypes(),
		Hypervisor: c.Request.Hypervisor, HV: c.Request.HV, BootType: c.Request.BootType(),
	})
	if err != nil {
		c.whyNoBoot = err.Error()
	}
	c.console = boot.Consoles(c.Arch, c.Request.Hypervisor, c.Request.HV)
	return c, errors.Join(err, c.checkBootTest())
}

// noBoot says that the guest doesn't boot by itself, and why.
const noBoot = "the guest gets no kernel and no boot loader: %v"

// withoutBoot goes on without a boot loader, and says why.
func (c Choice) withoutBoot(ctx context.Context, why error) Choice {
	tell.Warn(ctx, noBoot, why)
	c.Boot, c.whyNoBoot = boot.Plan{}, why.Error()
	return c
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
	if c.recorded != nil {
		return c.recorded.ExtraPkgs
	}
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
