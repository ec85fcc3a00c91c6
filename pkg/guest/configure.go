package guest

import (
	"context"
	"errors"
	"fmt"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/pattern"
)

// Identity is what makes a tree this guest's and no other's.
type Identity struct {
	InstanceName string // as Ganeti knows it, usually a FQDN

	Filesystem  string   // of the root: ext4, xfs, …
	RootUUID    string   // filesystem UUID of the root
	RootOptions string   // fstab's mount options; "" is "defaults"
	RootPass    int      // fstab's sixth field: 0 no fsck, 1 root
	SwapUUIDs   []string // UUIDs of swap areas
	SwapFile    bool     // SwapFile is one too
	Folders     []Mount  // that have filesystems of their own, those above before those below
	DataDisks   []Mount
	ESPUUID     string // of the EFI system partition, 1234-ABCD; "" is none

	Ports []string // of login prompts: ttyS0, hvc0
	// RootPassword is the field of shadow(5): "" lets root in without one.
	RootPassword string
	Node         Node // what the guest takes over from this node
}

// word is a value that fits one field of a line.
var word = pattern.New(`^[^\s[:cntrl:]]+$`)

// check names every field that could not stand in the guest's files.
func (id Identity) check() error {
	var errs []error
	need := func(what, value string) {
		if !word().MatchString(value) {
			errs = append(errs, fmt.Errorf("%s %q: must be one word", what, value))
		}
	}
	need("instance name", id.InstanceName)
	need("filesystem type", id.Filesystem)
	need("root UUID", id.RootUUID)
	if id.RootOptions != "" {
		need("root mount options", id.RootOptions)
	}
	for _, uuid := range id.SwapUUIDs {
		need("swap UUID", uuid)
	}
	for _, m := range id.mounts() {
		need("filesystem's UUID", m.UUID)
		need("mount point", m.Folder)
	}
	if id.ESPUUID != "" {
		need("EFI system partition's UUID", id.ESPUUID)
	}
	for _, port := range id.Ports {
		errs = append(errs, checkPort(port))
	}
	return errors.Join(errs...)
}

// Configure turns a fresh tree into this guest: one step a file, in the order
// below. The files it writes are root's with mode 0644, but for netplan's (0600),
// the machine ID (0444), and those it edits (/etc/shadow, /etc/inittab), which
// keep theirs. The guest's resolv.conf is made to work for chroots; hand the
// result to RestoreResolvConf after the last of them.
func Configure(ctx context.Context, r *Root, id Identity) (ResolvConf, error) {
	if err := id.check(); err != nil {
		return ResolvConf{}, fmt.Errorf("configure guest: %w", err)
	}
	var resolv ResolvConf
	steps := []func() error{
		func() error { return ResetMachineID(r) },
		func() error { return RemoveHostKeys(r) },
		func() error { return RemoveLeftovers(r) },
		func() error { return r.WriteFile("/etc/hostname", []byte(id.InstanceName+"\n"), 0o644, Reset) },
		func() error { return r.WriteFile("/etc/mailname", []byte(id.InstanceName+"\n"), 0o644, Reset) },
		func() error { return WriteHosts(r, id.Node.Hosts, id.InstanceName) },
		func() (err error) { resolv, err = PrepareResolvConf(r, id.Node.ResolvConf); return err },
		func() error { return WriteFstab(r, id) },
		func() error { return makeMountPoints(ctx, r, id.DataDisks) },
		func() error { return WriteNetwork(ctx, r) },
		func() error { return SetRootPassword(r, id.RootPassword) },
		func() error { return enableConsoles(ctx, r, id.Ports) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return resolv, fmt.Errorf("configure guest: %w", err)
		}
	}
	zerolog.Ctx(ctx).Debug().Msg("guest configured as " + id.InstanceName)
	return resolv, nil
}
