package install

import (
	"context"
	"slices"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/tell"
)

const (
	agentPackage = "qemu-guest-agent"
	agentPath    = "/usr/sbin/qemu-ga"
)

// wantsAgent tells whether the hypervisor has a channel for QEMU's guest agent
// (gnt-instance(8), "use_guest_agent").
func (o *Order) wantsAgent() bool {
	return o.Request.Hypervisor == "kvm" && o.Request.HV["use_guest_agent"] == "True"
}

// agentPackages are what the tree has for that, once the bootstrap tool is known;
// none where the archive that is asked for doesn't have it.
func (c Choice) agentPackages() []string {
	if !c.wantsAgent() || c.lacksUniverse() || c.Settings.Suite == "wheezy" {
		return nil
	}
	return []string{agentPackage}
}

// lacksUniverse tells whether the guest is one of Ubuntu's without the component that has most
// packages.
func (c Choice) lacksUniverse() bool {
	return c.Tool.Distribution() == "ubuntu" && !slices.Contains(c.Settings.Components, "universe")
}

// lookForAgent tells of a guest that will not answer on the channel.
func (c Choice) lookForAgent(ctx context.Context, root *guest.Root) {
	if !c.wantsAgent() || root.Exists(agentPath) {
		return
	}
	remedy := "install " + agentPackage + " in it"
	if c.lacksUniverse() {
		remedy = "it is in universe: add that to COMPONENTS (main,universe)"
	}
	tell.Warn(ctx, "the guest has a channel for QEMU's guest agent, and no %s to answer there: %s", agentPackage, remedy)
}
