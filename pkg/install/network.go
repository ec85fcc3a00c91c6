package install

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/network"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/tell"
)

// nics are the guest's network interfaces.
func (o *Order) nics() []network.NIC {
	if o.NICs != nil {
		return slices.Clone(o.NICs)
	}
	return GanetiNICs(o.Request)
}

// GanetiNICs is what Ganeti knows of the instance's network interfaces.
func GanetiNICs(req *osapi.Request) (nics []network.NIC) {
	for _, n := range req.NICs {
		nics = append(nics, network.NIC{
			Index: n.Index, MAC: n.MAC, Mode: n.Mode, IP: n.IP,
			Subnet: n.Network.Subnet, Gateway: n.Network.Gateway,
			Subnet6: n.Network.Subnet6, Gateway6: n.Network.Gateway6,
		})
	}
	return nics
}

// checkNetwork refuses what can't be had, before anything is written.
func (o *Order) checkNetwork() error {
	if o.Settings.Network == "static" && !network.Known(o.nics()) {
		return errors.New("NETWORK=static: no address of a NIC is known: give one (gnt-instance add --net 0:ip=ADDRESS,network=NAME), or set NETWORK=dhcp or auto")
	}
	return nil
}

// getsNetwork tells whether the guest gets more than lo.
func (o *Order) getsNetwork(context.Context) (bool, string) {
	switch {
	case o.Settings.Network == "none":
		return false, "NETWORK=none: lo only"
	case o.Settings.Network == "auto" && !network.Known(o.nics()):
		return false, "no address of a NIC is known: lo only"
	}
	if err := o.checkNetwork(); err != nil {
		return true, err.Error()
	}
	return true, "NETWORK=" + o.Settings.Network
}

// nameInterfaces makes the names true that network files have for the NICs which were written
// since b, by whose hand the messages say: udev would call eth0 otherwise, and nothing would
// configure it. A guest in which something else decides on names is left alone.
func nameInterfaces(ctx context.Context, o *Order, whose string, b before, root *guest.Root) error {
	touched, err := b.networkFiles(root)
	if err != nil || len(touched) == 0 || guest.NamesInterfaces(root) != "" {
		return err
	}
	names, err := guest.InterfaceNames(root, touched)
	if err != nil {
		return err
	}
	pins, rest := network.PinsOf(names, o.nics())
	if len(rest) > 0 {
		tell.Warn(ctx, "%s network files name %s, and it is not known which NIC's MAC address is meant: the guest's udev may call its interfaces otherwise (ens3 or the like), and they then have no network: have a hook name eth0, eth1 and so on, which are made true, set net.ifnames=0 in /etc/default/grub, or write a .link file", whose, joinPaths(rest))
	}
	if len(pins) == 0 {
		return nil
	}
	for _, pin := range pins {
		tell.Info(ctx, "%s network files name %s: the guest calls %s so", whose, pin.Name, pattern.Plain(pin.MAC))
	}
	return guest.WritePins(root, pins)
}

// writeNetwork writes the guest's network configuration, unless a hook has
// written one, or one was kept.
func writeNetwork(ctx context.Context, o *Order, r rootDisk, b before, resolv guest.ResolvConf) error {
	return guest.Edit(ctx, r.target, func(root *guest.Root) error {
		touched, err := b.networkFiles(root)
		if err != nil {
			return err
		}
		if len(touched) > 0 {
			tell.Info(ctx, "a hook, or what was kept, has set up the network (%s): it stays as it is", pattern.Plain(joinPaths(touched)))
			return nil
		}
		return renderNetwork(ctx, o, root, resolv)
	})
}

func renderNetwork(ctx context.Context, o *Order, root *guest.Root, resolv guest.ResolvConf) error {
	nics, pinned := o.nics(), guest.HasUdev(root)
	if file := guest.KeepsKernelNames(root); file != "" {
		tell.Info(ctx, "network interfaces are called eth0 and so on, as %s has it", pattern.Plain(file))
		network.CallAsKernel(nics)
	}
	config, notes := network.DHCP(nics, pinned), []string(nil)
	if o.Settings.Network != "dhcp" {
		config, notes = network.Static(nics, pinned)
		config.DNS = guest.DNS(root, resolv)
	}
	for _, note := range notes {
		tell.Info(ctx, "%s", note)
	}
	var pins []network.Pin
	if pinned {
		pins = network.Pins(nics)
	}
	renderer, err := guest.RenderNetwork(ctx, root, config, pins)
	switch {
	case err == nil:
		tell.Info(ctx, "network of the guest, for %s: %s", renderer, config.Summary())
		if !pinned && len(nics) > 0 {
			tell.Warn(ctx, "the guest has no udev: its network interfaces are called eth0 and so on as its kernel finds them")
		}
		return nil
	case o.Settings.Network == "auto" && errors.Is(err, guest.ErrNoRenderer):
		tell.Warn(ctx, "the guest's network is not set up: %v", err)
		return nil
	}
	return fmt.Errorf("NETWORK=%s: %w", o.Settings.Network, err)
}
