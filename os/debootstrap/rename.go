package debootstrap

import (
	"context"

	"instance-debootstrap/pkg/guest"
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
		{Name: "protect the node from the guest", Detail: "its tree read-only", Run: j.protectNode},
		{Name: "find the root filesystem", Detail: disk, Run: j.findRoot},
		{Name: "mount it", Detail: disk, Run: j.mountGuest},
		{Name: "change the host name", Detail: j.Request.OldInstanceName + " to " + j.Request.InstanceName, Run: j.renameGuest},
		{Name: "unmount, sync and let go of the disk", Detail: disk, Run: j.letGo},
	}
}

func (j *Job) renameGuest(context.Context) error {
	return j.inGuest(func(root *guest.Root) error {
		return guest.Rename(root, j.Request.OldInstanceName, j.Request.InstanceName)
	})
}
