package debootstrap

import (
	"context"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/network"
	"instance-debootstrap/pkg/session"
)

// Rename changes the host name inside the guest (gnt-instance rename, and after
// every import). The guest has had the disk: nothing on it is trusted.
func Rename(ctx context.Context, s *session.Session, j *Job) error {
	j.begin(s)
	return s.Do(ctx, j.renameSteps())
}

func (j *Job) renameSteps() []session.Step {
	disk := j.Request.BlockDev
	return []session.Step{
		{Name: "claim the disk", Detail: disk, Run: j.claimRoot},
		{Name: "find the root filesystem", Detail: disk, Run: j.findRoot},
		{Name: "mount it", Detail: disk, Run: j.mountGuest},
		{Name: "change the host name", Detail: j.Request.OldInstanceName + " to " + j.Request.InstanceName, Run: j.renameGuest},
		{Name: "name its network interfaces", Detail: "by their MAC addresses", Run: j.renameInterfaces},
		{Name: "unmount, sync and let go of the disk", Detail: disk, Run: j.letGo},
	}
}

func (j *Job) renameGuest(ctx context.Context) error {
	return j.inGuest(ctx, func(root *guest.Root) error {
		return guest.Rename(root, j.Request.OldInstanceName, j.Request.InstanceName)
	})
}

// renameInterfaces keeps the names of the guest's network interfaces with an
// instance that has other MAC addresses, as an import under another name has.
func (j *Job) renameInterfaces(ctx context.Context) error {
	return j.inGuest(ctx, func(root *guest.Root) error {
		changed, err := guest.RepinNetwork(root, network.BothPins(j.nics()))
		if changed {
			info(ctx, "the guest's network interfaces keep their names, with this instance's MAC addresses")
		}
		if err != nil {
			return err
		}
		for _, nic := range j.nics() {
			if nic.IP != "" && guest.HasOtherAddress(root, nic.Index, nic.IP) {
				warn(ctx, "NIC %d of the instance has %s in Ganeti, and another address in the guest, where it stays as it was: change one of them before both guests run", nic.Index, nic.IP)
			}
		}
		return nil
	})
}
