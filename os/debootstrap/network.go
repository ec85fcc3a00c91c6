package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/network"
	"instance-debootstrap/pkg/pattern"
)

// nics are what Ganeti knows of the instance's network interfaces.
func (j *Job) nics() (nics []network.NIC) {
	if j.NICs != nil {
		return slices.Clone(j.NICs)
	}
	for _, n := range j.Request.NICs {
		nics = append(nics, network.NIC{
			Index: n.Index, MAC: n.MAC, Mode: n.Mode, IP: n.IP,
			Subnet: n.Network.Subnet, Gateway: n.Network.Gateway,
			Subnet6: n.Network.Subnet6, Gateway6: n.Network.Gateway6,
		})
	}
	return nics
}

// checkNetwork refuses what can't be had, before anything is written.
func (j *Job) checkNetwork() error {
	if j.Settings.Network == "static" && !network.Known(j.nics()) {
		return errors.New("NETWORK=static: no address of a NIC is known: give one (gnt-instance add --net 0:ip=ADDRESS,network=NAME), or set NETWORK=dhcp or auto")
	}
	return nil
}

// getsNetwork tells whether the guest gets more than lo.
func (j *Job) getsNetwork(context.Context) (bool, string) {
	switch {
	case j.Settings.Network == "none":
		return false, "NETWORK=none: lo only"
	case j.Settings.Network == "auto" && !network.Known(j.nics()):
		return false, "no address of a NIC is known: lo only"
	}
	if err := j.checkNetwork(); err != nil {
		return true, err.Error()
	}
	return true, "NETWORK=" + j.Settings.Network
}

// lookBeforeHooks remembers the guest's network files, and a boot menu that a
// package has written, as the hooks find them.
func (j *Job) lookBeforeHooks(ctx context.Context) error {
	return j.inGuest(ctx, func(root *guest.Root) (err error) {
		if j.netBefore, err = guest.ReadNetworkFiles(root); err == nil {
			j.menuBefore, err = root.Fingerprint(boot.LegacyMenu)
		}
		return err
	})
}

// hooksNetwork lists the network files that the hooks have written.
func (j *Job) hooksNetwork(root *guest.Root) ([]string, error) {
	if j.netBefore == nil { // none has run
		return nil, nil
	}
	now, err := guest.ReadNetworkFiles(root)
	return now.Since(j.netBefore), err
}

// nameInterfaces makes the names true that the hooks' network files have for the
// NICs: udev would call eth0 otherwise, and nothing would configure it. A guest in
// which something else decides on names is left alone.
func (j *Job) nameInterfaces(ctx context.Context, root *guest.Root) error {
	touched, err := j.hooksNetwork(root)
	if err != nil || len(touched) == 0 || guest.NamesInterfaces(root) != "" {
		return err
	}
	names, err := guest.InterfaceNames(root, touched)
	if err != nil {
		return err
	}
	pins, rest := network.PinsOf(names, j.nics())
	if len(rest) > 0 {
		warn(ctx, "a hook's network files name %s, and no MAC address is known for that: the guest's udev may call its interfaces otherwise (ens3 or the like), and they then have no network: have the hook set net.ifnames=0 in /etc/default/grub, or write a .link file", joinPaths(rest))
	}
	if len(pins) == 0 {
		return nil
	}
	for _, pin := range pins {
		info(ctx, "a hook's network files name %s: the guest calls %s so", pin.Name, pattern.Plain(pin.MAC))
	}
	return guest.WritePins(root, pins)
}

// writeNetwork writes the guest's network configuration, unless a hook has
// written one.
func (j *Job) writeNetwork(ctx context.Context) error {
	return j.inGuest(ctx, func(root *guest.Root) error {
		touched, err := j.hooksNetwork(root)
		if err != nil {
			return err
		}
		if len(touched) > 0 {
			info(ctx, "a hook has set up the network (%s): it stays as it is", pattern.Plain(joinPaths(touched)))
			return nil
		}
		return j.renderNetwork(ctx, root)
	})
}

func (j *Job) renderNetwork(ctx context.Context, root *guest.Root) error {
	nics, pinned := j.nics(), guest.HasUdev(root)
	if file := guest.KeepsKernelNames(root); file != "" {
		info(ctx, "network interfaces are called eth0 and so on, as %s has it", pattern.Plain(file))
		network.CallAsKernel(nics)
	}
	config, notes := network.DHCP(nics, pinned), []string(nil)
	if j.Settings.Network != "dhcp" {
		config, notes = network.Static(nics, pinned)
		config.DNS = guest.DNS(root, j.resolv)
	}
	for _, note := range notes {
		info(ctx, "%s", note)
	}
	var pins []network.Pin
	if pinned {
		pins = network.Pins(nics)
	}
	renderer, err := guest.RenderNetwork(ctx, root, config, pins)
	switch {
	case err == nil:
		info(ctx, "network of the guest, for %s: %s", renderer, config.Summary())
		if !pinned && len(nics) > 0 {
			warn(ctx, "the guest has no udev: its network interfaces are called eth0 and so on as its kernel finds them")
		}
		return nil
	case j.Settings.Network == "auto" && errors.Is(err, guest.ErrNoRenderer):
		warn(ctx, "the guest's network is not set up: %v", err)
		return nil
	}
	return fmt.Errorf("NETWORK=%s: %w", j.Settings.Network, err)
}
