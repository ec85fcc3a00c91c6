package debootstrap

import (
	"context"
	"fmt"

	"instance-debootstrap/pkg/hooks"
	"instance-debootstrap/pkg/session"
)

// Create installs a guest on the instance's first disk.
func Create(ctx context.Context, s *session.Session, j *Job) (err error) {
	j.begin(s)
	if j.keys, err = j.authorizedKeys(); err != nil {
		return err
	}
	if err := s.Do(ctx, j.createSteps()); err != nil {
		return err
	}
	j.tellReceipt(ctx)
	return nil
}

// createSteps is the recipe.
func (j *Job) createSteps() []session.Step {
	disk := j.diskName()
	steps := []session.Step{
		{Name: "claim the disks", Detail: disk, Known: j.diskAsItIs, Run: j.claimDisks},
		{Name: "find or build the root tree", Detail: j.describeTree(), Known: j.treeIsCached, Run: j.prepareTree},
	}
	return append(append(append(steps, j.diskSteps()...), j.guestSteps()...), []session.Step{
		{Name: "unmount, sync and let go of the disks", Detail: disk, Run: j.letGo},
		{Name: "boot a throw-away copy", Detail: "in QEMU", When: j.bootTests, Run: j.bootTest},
		{Name: "give the image its name", Detail: disk, When: j.isNewImage, Run: j.publishImage},
	}...)
}

// diskSteps put the tree on the disks.
func (j *Job) diskSteps() []session.Step {
	s, disk := j.Settings, j.diskName()
	return []session.Step{
		{Name: "see that it fits", Detail: fmt.Sprintf("on %s as %s", disk, s.Filesystem), Run: j.checkSuits},
		{Name: "find or make its filesystem image", Detail: s.Filesystem, When: j.canImage, Run: j.findImage},
		{Name: "partition the disk", Detail: fmt.Sprintf("%s, style %s", disk, s.PartitionStyle), Run: j.partitionDisk},
		{Name: "copy the filesystem image", Detail: s.Filesystem, When: j.hasImage, Run: j.copyImage},
		{Name: "make the root filesystem", Detail: s.Filesystem, Run: j.makeRoot},
		{Name: "make the EFI system partition", Detail: "FAT32", When: j.hasESP, Run: j.makeESP},
		{Name: "fill it", Detail: j.describeTree(), When: j.mustFill, Run: j.fillRoot},
		{Name: "make the swap file", Detail: j.describeSwapFile(), When: j.hasSwapFile, Run: j.makeSwapFile},
		{Name: "make swap", Detail: joinPaths(j.swapPaths()), When: j.hasSwap, Known: j.swapsAsTheyAre, Run: j.makeSwap},
		{Name: "make the data disks' filesystems", Detail: j.describeData(), When: j.hasData, Known: j.dataAsItIs, Run: j.makeData},
	}
}

// guestSteps make it this guest's own.
func (j *Job) guestSteps() []session.Step {
	s := j.Settings
	return []session.Step{
		{Name: "write the guest's own files", Detail: j.Request.InstanceName, Known: j.whoGetsIn, Run: j.configureGuest},
		{Name: "make its ssh host keys", Detail: "if it has an ssh server", Run: j.makeHostKeys},
		{Name: "run the hooks", Detail: s.CustomizeDir, When: j.hasHooks, Run: j.customize},
		{Name: "set up its network", Detail: "unless a hook has", When: j.getsNetwork, Run: j.writeNetwork},
		{Name: "make it boot", Detail: "GRUB", When: j.getsBoot, Run: j.makeBootable},
		{Name: "finish the guest", Detail: j.Request.InstanceName, Run: j.finishGuest},
		{Name: "write the receipt", Detail: receiptFile, Run: j.writeReceipt},
	}
}

func (j *Job) hasSwap(context.Context) (bool, string) {
	if len(j.swapPaths()) == 0 {
		return false, "no disk is named swap, and swapdev is not set"
	}
	return true, ""
}

func (j *Job) isNewImage(context.Context) (bool, string) {
	return j.Image != nil, "the disk exists already"
}

func (j *Job) publishImage(context.Context) error { return j.Image.publish() }

func (j *Job) hasHooks(context.Context) (bool, string) {
	names, err := hooks.List(j.Settings.CustomizeDir)
	if _, refused := hooks.Trusted(j.Settings.CustomizeDir, j.strictFiles()); refused != nil {
		return true, refused.Error()
	}
	switch {
	case err != nil:
		return true, err.Error()
	case len(names) == 0:
		return false, "no hook in " + j.Settings.CustomizeDir
	}
	return true, joinPaths(names)
}
