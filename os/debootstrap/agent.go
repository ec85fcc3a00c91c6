package debootstrap

import (
	"context"
	"slices"

	"instance-debootstrap/pkg/guest"
)

const (
	agentPackage = "qemu-guest-agent"
	agentPath    = "/usr/sbin/qemu-ga"
)

// wantsAgent tells whether the hypervisor has a channel for QEMU's guest agent
// (gnt-instance(8), "use_guest_agent").
func (j *Job) wantsAgent() bool {
	return j.Request.Hypervisor == "kvm" && j.Request.HV["use_guest_agent"] == "True"
}

// agentPackages are what the tree has for that, once the bootstrap tool is known;
// none where the archive that is asked for doesn't have it.
func (j *Job) agentPackages() []string {
	universe := j.tool.Distribution() != "ubuntu" || slices.Contains(j.Settings.Components, "universe")
	if !j.wantsAgent() || !universe || j.Settings.Suite == "wheezy" {
		return nil
	}
	return []string{agentPackage}
}

// lookForAgent tells of a guest that will not answer on the channel.
func (j *Job) lookForAgent(ctx context.Context, root *guest.Root) {
	if !j.wantsAgent() || root.Exists(agentPath) {
		return
	}
	remedy := "install " + agentPackage + " in it"
	if j.tool.Distribution() == "ubuntu" {
		remedy = "it is in universe: set COMPONENTS=main,universe"
	}
	warn(ctx, "the hypervisor parameter use_guest_agent is on, and the guest has no %s: %s", agentPackage, remedy)
}
