package install

import (
	"context"
	"fmt"
	"time"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/receipt"
	"instance-debootstrap/pkg/session"
)

// Run is what the steps of a recipe hand on to each other. Only the steps' own functions
// below write to it: what they call takes what it needs, and returns what it makes.
type Run struct {
	Choice
	session *session.Session
	mark    int        // the undo stack's height before this run
	image   *rootImage // nil: make the filesystem and unpack the tree
	made    installed
	resolv  guest.ResolvConf
	before  before
	started time.Time
	receipt receipt.Receipt
}

// Begin starts a run. For a plan the session is empty.
func Begin(s *session.Session, c Choice) *Run {
	return &Run{Choice: c, session: s, mark: s.Mark(), started: time.Now()}
}

// ClaimStep claims the disks.
func (r *Run) ClaimStep() session.Step {
	return session.Step{Name: "claim the disks", Detail: r.Disk(), Known: r.diskAsItIs, Run: func(ctx context.Context) (err error) {
		r.made.disks, err = claimDisks(ctx, r.session, r.Order)
		return err
	}}
}

// TreeStep finds the root tree, or builds it.
func (r *Run) TreeStep() session.Step {
	known := func(ctx context.Context) (string, error) { return r.whereTreeIs(ctx) }
	return session.Step{Name: "find or build the root tree", Detail: r.describeTree(), Known: known, Run: func(ctx context.Context) (err error) {
		r.made.tree, r.Choice, err = prepareTree(ctx, r.session, r.Choice)
		return err
	}}
}

// DiskSteps put the tree on the disks. The last makes the filesystem of a /boot of its own.
func (r *Run) DiskSteps() []session.Step {
	set, disk, m := r.Settings, r.Disk(), &r.made
	fits := func(ctx context.Context) (string, error) { return r.fitAsItIs(ctx) }
	hasESP := func(ctx context.Context) (bool, string) { return r.hasESP(ctx) }
	steps := []session.Step{
		{Name: "check that it fits", Detail: fmt.Sprintf("on %s as %s", disk, set.Filesystem), Known: fits, Run: func(ctx context.Context) (err error) {
			m.tree, r.Choice, err = checkSuits(ctx, r.session, r.Choice, m.disks.root, m.tree)
			return err
		}},
		{Name: "find or make its filesystem image", Detail: set.Filesystem, When: r.canImage, Run: func(ctx context.Context) (err error) {
			r.image, err = findImage(ctx, r.session, r.Choice, m.disks.root.SizeBytes, m.tree)
			return err
		}},
		{Name: "partition the disk", Detail: fmt.Sprintf("%s, style %s", disk, set.PartitionStyle), Known: r.describeStyle, Run: func(ctx context.Context) (err error) {
			m.root, err = partitionDisk(ctx, r.Choice, m.disks.root)
			return err
		}},
		{Name: "copy the filesystem image", Detail: set.Filesystem, When: r.hasImage, Run: r.copyImage},
		{Name: "make the root filesystem", Detail: set.Filesystem, Run: func(ctx context.Context) (err error) {
			m.root, err = makeRoot(ctx, r.session, r.Order, m.disks.root, m.root, r.image)
			return err
		}},
		{Name: "make the EFI system partition", Detail: "FAT32", When: hasESP, Run: func(context.Context) (err error) {
			m.root.esp, err = makeESP(m.root)
			return err
		}},
		{Name: "unpack the files", Detail: r.describeTree(), When: r.mustFill, Run: r.fillRoot},
		{Name: "make the swap file", Detail: r.describeSwapFile(), When: r.hasSwapFile, Run: func(ctx context.Context) error {
			return makeSwapFile(ctx, r.Order, m.root)
		}},
		{Name: "make swap", Detail: joinPaths(r.swapPaths()), When: r.hasSwap, Known: r.swapsAsTheyAre, Run: func(ctx context.Context) (err error) {
			m.swapUUIDs, err = makeSwaps(ctx, r.session, m.disks.swaps)
			return err
		}},
		{Name: "make the data disks' filesystems", Detail: r.describeData(), When: r.hasData, Known: r.dataAsItIs, Run: func(ctx context.Context) error {
			return makeData(ctx, r.session, r.Order, m.disks.data)
		}},
	}
	if r.BootPath != "" {
		steps = append(steps, session.Step{Name: "make the /boot filesystem", Detail: r.BootPath, Run: func(ctx context.Context) error {
			return m.disks.boot.make(ctx, r.session, r.Order)
		}})
	}
	return steps
}

// hasImage tells whether there is one for this disk; a plan takes it for granted.
func (r *Run) hasImage(ctx context.Context) (bool, string) {
	if r.made.disks.root == nil {
		return r.canImage(ctx)
	}
	return session.NeededIf(r.image != nil, "there is no image for this disk")
}

func (r *Run) copyImage(ctx context.Context) error {
	used, err := copyImage(ctx, r.Order, r.made.disks.root, r.made.root, r.made.tree, r.image)
	if !used {
		r.image, r.made.root.blank = nil, false
	}
	return err
}

func (r *Run) mustFill(ctx context.Context) (bool, string) {
	has, _ := r.hasImage(ctx)
	return session.NeededIf(!has, "the image is filled")
}

// fillRoot unpacks the tree onto the root filesystem, or bootstraps there.
func (r *Run) fillRoot(ctx context.Context) error {
	if r.made.tree != nil {
		return unpackTree(ctx, r.Order, r.made.tree, r.made.root.target)
	}
	_, err := bootstrapInto(ctx, r.session, r.Choice, r.made.root.target) // it has said what the guest lacks
	return err
}

func (o *Order) hasSwap(context.Context) (bool, string) {
	return session.NeededIf(len(o.swapPaths()) > 0, "no disk is named swap, and swapdev is not set")
}

// describeStyle is what a plan says of a partition table that isn't made.
func (r *Run) describeStyle(context.Context) (string, error) {
	if r.Settings.PartitionStyle == "none" {
		return "the filesystem takes the whole disk", nil
	}
	return "", nil
}

// is says in a plan what is known of a step without a look.
func is(what string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return what, nil }
}

// GuestSteps make it this guest's own. The last moves /boot onto its own filesystem, when
// all that works on the guest has seen one tree.
func (r *Run) GuestSteps() []session.Step {
	instance, m := r.Request.InstanceName, &r.made
	getsBoot := func(ctx context.Context) (bool, string) { return r.getsBoot(ctx) }
	steps := []session.Step{
		{Name: "write the guest's own files", Detail: instance, Known: r.describeLogin, Run: func(ctx context.Context) (err error) {
			r.resolv, err = configureGuest(ctx, r.Choice, m.disks, m.root, m.swapUUIDs)
			return err
		}},
		{Name: "generate ssh host keys", Detail: instance, Known: is("if it has an ssh server"), Run: func(ctx context.Context) error {
			return makeHostKeys(ctx, instance, m.root)
		}},
		{Name: "run the hooks", Detail: r.Settings.CustomizeDir, When: r.hasHooks, Run: func(ctx context.Context) (err error) {
			m.root, r.before, err = customize(ctx, r.session, r.Choice, m.disks.root.SizeBytes, m.root)
			return err
		}},
		{Name: "configure the network", Detail: instance, When: r.getsNetwork, Known: is("unless a hook has"), Run: func(ctx context.Context) error {
			return writeNetwork(ctx, r.Order, m.root, r.before, r.resolv)
		}},
		{Name: "install the boot loader", Detail: "GRUB", When: getsBoot, Run: func(ctx context.Context) (err error) {
			m.boot, err = makeBootable(ctx, r.Choice, m.disks, m.root, m.tree, r.before, r.session.WorkDir)
			return err
		}},
		{Name: "check what the hooks left", Detail: instance, Run: func(ctx context.Context) (err error) {
			m.hostKeys, err = finishGuest(ctx, r.Choice, m.root, m.boot.by != "", r.resolv)
			return err
		}},
		{Name: "write the receipt", Detail: receipt.File, Run: func(ctx context.Context) (err error) {
			r.receipt, err = writeReceipt(ctx, r.Choice, *m)
			return err
		}},
	}
	if r.BootPath != "" {
		steps = append(steps, session.Step{Name: "move /boot onto its disk", Detail: r.BootPath, Run: func(ctx context.Context) error {
			return m.disks.boot.fill(ctx, r.session, r.Order, m.root)
		}})
	}
	return steps
}

// ReleaseStep unmounts, makes everything durable and frees the devices, in the
// reverse order of the claims: Ganeti finds the disk free when we exit.
func (r *Run) ReleaseStep() session.Step {
	return session.Step{Name: "unmount, sync and release the disks", Detail: r.Disk(), Run: func(ctx context.Context) error {
		return r.session.UndoTo(ctx, r.mark)
	}}
}

// LastSteps are for a guest whose disks are free: it is tried, and an image file of
// install's gets its name.
func (r *Run) LastSteps() []session.Step {
	isTried := func(ctx context.Context) (bool, string) { return r.bootTests(ctx) }
	isNewImage := func(context.Context) (bool, string) {
		return session.NeededIf(r.Image != nil, "the disk exists already")
	}
	return []session.Step{
		{Name: "boot a throw-away copy", Detail: "in QEMU", When: isTried, Run: func(ctx context.Context) error {
			return bootTest(ctx, r.session, r.Order, r.made.boot.by != "")
		}},
		{Name: "name the image file", Detail: r.Disk(), When: isNewImage, Run: func(context.Context) error { return r.Image.Publish() }},
	}
}

// Target is where the guest's tree is mounted, as long as it is.
func (r *Run) Target() string { return r.made.root.target }

// HostKeys is by what the guest's ssh server is known in the end.
func (r *Run) HostKeys() []guest.HostKey { return r.made.hostKeys }

// AuthorizeKeys lets those log in as root by ssh whom the order names, in a guest that this
// run hasn't made.
func (r *Run) AuthorizeKeys(root *guest.Root) error { return authorizeKeys(root, r.keys) }

// HasKeys tells whether anybody may log in as root by ssh.
func (r *Run) HasKeys() bool { return r.keys != "" }

// LookAtHostKeys finds out by what the ssh server of such a guest is known.
func (r *Run) LookAtHostKeys(ctx context.Context, root *guest.Root) {
	r.made.hostKeys = lookAtHostKeys(ctx, root, r.Request.InstanceName, r.keys)
}

// Report says what was made, when all is done.
func (r *Run) Report() Report { return Report{r.receipt, r.Disk(), time.Since(r.started)} }
