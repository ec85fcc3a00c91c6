package install

import (
	"context"
	"fmt"
	"strings"
	"time"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/kept"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/receipt"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// Run is what the steps of a recipe hand on to each other. Only the steps' own functions
// below write to it: what they call takes what it needs, and returns what it makes.
type Run struct {
	order   *Order
	choice  Choice // as the steps so far have left it
	session *session.Session
	mark    int        // the undo stack's height before this run
	image   *rootImage // nil: make the filesystem and unpack the tree
	made    installed
	resolv  guest.ResolvConf
	before  before
	kept    *kept.Held // files of the old guest; nil is none
	started time.Time
	receipt receipt.Filed
}

// Begin starts a run. For a plan the session is empty.
func Begin(s *session.Session, c Choice) *Run {
	return &Run{order: c.Order, choice: c, session: s, mark: s.Mark(), started: time.Now()}
}

// ClaimStep claims the disks.
func (r *Run) ClaimStep() session.Step {
	return session.Step{Name: "claim the disks", Detail: r.order.Disk(), Known: r.choice.diskAsItIs, Run: func(ctx context.Context) (err error) {
		r.made.disks, err = claimDisks(ctx, r.session, r.choice)
		return err
	}}
}

// TreeStep finds the root tree, or builds it.
func (r *Run) TreeStep() session.Step {
	known := func(ctx context.Context) (string, error) { return r.choice.whereTreeIs(ctx) }
	return session.Step{Name: "find or build the root tree", Detail: r.order.describeTree(), Known: known, Run: func(ctx context.Context) (err error) {
		r.made.tree, r.choice, err = prepareTree(ctx, r.session, r.choice)
		return err
	}}
}

// DiskSteps put the tree on the disks. The last makes the filesystem of a /boot of its own.
func (r *Run) DiskSteps() []session.Step {
	set, disk, m := r.order.Settings, r.order.Disk(), &r.made
	fits := func(ctx context.Context) (string, error) { return r.choice.fitAsItIs(ctx) }
	hasESP := func(ctx context.Context) (bool, string) { return r.choice.hasESP(ctx) }
	steps := []session.Step{
		{Name: "check that it fits", Detail: fmt.Sprintf("on %s as %s", disk, set.Filesystem), Known: fits, Run: func(ctx context.Context) (err error) {
			m.tree, r.choice, err = checkSuits(ctx, r.session, r.choice, m.disks.root, m.tree)
			return err
		}},
		{Name: "find or make its filesystem image", Detail: set.Filesystem, When: r.order.canImage, Run: func(ctx context.Context) (err error) {
			r.image, err = findImage(ctx, r.session, r.choice, m.disks.root.SizeBytes, m.tree)
			return err
		}},
		{Name: "keep files of the old guest", Detail: joinPaths(set.ReinstallKeep), When: r.order.keeps, Known: r.order.keptAsItIs, Run: func(ctx context.Context) (err error) {
			r.kept, err = keepFiles(ctx, r.session, r.choice, m.disks.root, m.tree)
			return err
		}},
		{Name: "partition the disk", Detail: fmt.Sprintf("%s, style %s", disk, set.PartitionStyle), Known: r.order.describeStyle, Run: func(ctx context.Context) (err error) {
			if !r.order.Fresh { // the guest that is there ends here, whatever becomes of the new one
				ForgetReceipt(ctx, r.order.Request.InstanceName, r.order.Request.InstanceUUID)
			}
			m.root, err = partitionDisk(ctx, r.choice, m.disks.root, r.kept, r.image)
			return err
		}},
		{Name: "copy the filesystem image", Detail: set.Filesystem, When: r.hasImage, Run: r.copyImage},
		{Name: "make the root filesystem", Detail: r.order.describeFilesystems(), Run: func(ctx context.Context) (err error) {
			m.root, err = makeRoot(ctx, r.session, r.choice, m.disks.root, m.root, r.image)
			return err
		}},
		{Name: "make the EFI system partition", Detail: "FAT32", When: hasESP, Run: func(context.Context) (err error) {
			m.root.esp, err = makeESP(m.root)
			return err
		}},
		{Name: "unpack the files", Detail: r.order.describeTree(), When: r.mustFill, Run: r.fillRoot},
		{Name: "make the swap file", Detail: r.order.describeSwapFile(), When: r.order.hasSwapFile, Run: func(ctx context.Context) error {
			return makeSwapFile(ctx, r.order, m.root)
		}},
		{Name: "make swap", Detail: joinPaths(r.order.swapPaths()), When: r.order.hasSwap, Known: r.order.swapsAsTheyAre, Run: func(ctx context.Context) (err error) {
			m.swapUUIDs, err = makeSwaps(ctx, r.session, m.disks.swaps)
			return err
		}},
		{Name: "make the data disks' filesystems", Detail: r.order.describeData(), When: r.order.hasData, Known: r.order.dataAsItIs, Run: func(ctx context.Context) error {
			return makeData(ctx, r.session, r.order, m.disks.data)
		}},
	}
	if r.order.parts != nil {
		steps = append(steps, session.Step{Name: "make the other disks' filesystems", Detail: r.order.describeFurther(), When: r.order.hasFurther, Known: r.choice.furtherAsTheyAre, Run: func(ctx context.Context) error {
			parts, err := makeFurther(ctx, r.session, r.choice, m.disks.further)
			m.root.parts = byLine(append(m.root.parts, parts...))
			return err
		}})
	}
	if r.order.BootPath != "" {
		steps = append(steps, session.Step{Name: "make the /boot filesystem", Detail: r.order.BootPath, Run: func(ctx context.Context) error {
			return m.disks.boot.make(ctx, r.session, r.order)
		}})
	}
	return steps
}

// hasImage tells whether there is one for this disk; a plan takes it for granted.
func (r *Run) hasImage(ctx context.Context) (bool, string) {
	if r.made.disks.root == nil {
		return r.order.canImage(ctx)
	}
	return session.NeededIf(r.image != nil, "there is no image for this disk")
}

func (r *Run) copyImage(ctx context.Context) error {
	used, err := copyImage(ctx, r.order, r.made.disks.root, r.made.root, r.made.tree, r.image)
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
		return unpackTree(ctx, r.order, r.made.tree, r.made.root.target)
	}
	_, err := bootstrapInto(ctx, r.session, r.choice, r.made.root.target, false) // it has said what the guest lacks
	return err
}

func (o *Order) hasSwap(context.Context) (bool, string) {
	return session.NeededIf(len(o.swapPaths()) > 0, "no disk is named swap, and swapdev is not set")
}

// describeStyle is what a plan says of a partition table that isn't made.
func (o *Order) describeStyle(context.Context) (string, error) {
	switch {
	case o.parts != nil:
		return o.describeLayout(), nil
	case o.Settings.PartitionStyle == "none":
		return "the filesystem takes the whole disk", nil
	}
	return "", nil
}

// describeFilesystems says what is made on the root's disk.
func (o *Order) describeFilesystems() string {
	return strings.Join(append([]string{o.Settings.Filesystem}, o.describeParts(o.Request.Root)...), ", ")
}

// describeParts are the filesystems of a disk by LAYOUT, without the root.
func (o *Order) describeParts(disk int) (texts []string) {
	for _, l := range o.parts {
		text := strings.TrimSpace(l.Filesystem + " " + l.Folder)
		switch {
		case isRoot(l) || l.Disk != disk:
			continue
		case l.Of > 0:
			text = "subvolume " + l.Subvolume
		}
		texts = append(texts, text)
	}
	return texts
}

// is says in a plan what is known of a step without a look.
func is(what string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return what, nil }
}

// GuestSteps make it this guest's own. Folders are moved onto their own filesystems when all
// that works on the guest has seen one tree. The receipt is last: a guest that has one is whole.
func (r *Run) GuestSteps() []session.Step {
	instance, m := r.order.Request.InstanceName, &r.made
	getsBoot := func(ctx context.Context) (bool, string) { return r.choice.getsBoot(ctx) }
	steps := []session.Step{
		{Name: "write the guest's own files", Detail: instance, Known: r.choice.describeLogin, Run: func(ctx context.Context) (err error) {
			r.resolv, err = configureGuest(ctx, r.choice, m.disks, m.root, m.swapUUIDs)
			return err
		}},
		{Name: "generate ssh host keys", Detail: instance, Known: is("if it has an ssh server"), Run: func(ctx context.Context) error {
			return makeHostKeys(ctx, instance, m.root)
		}},
		{Name: "write what runs at the first boot", Detail: r.order.describeFirstBoot(), When: r.choice.runsAtFirstBoot, Run: func(ctx context.Context) error {
			return writeFirstBoot(ctx, r.choice, m.root)
		}},
		{Name: "run the hooks", Detail: r.order.Settings.CustomizeDir, When: r.order.hasHooks, Run: func(ctx context.Context) (err error) {
			m.root, r.before, err = customize(ctx, r.session, r.choice, m.disks.root.SizeBytes, m.root)
			return err
		}},
		{Name: "put back what was kept", Detail: joinPaths(r.order.Settings.ReinstallKeep), When: r.order.keeps, Run: func(ctx context.Context) (err error) {
			r.before, err = putBack(ctx, r.kept, r.order, m.root, r.before)
			return err
		}},
		{Name: "configure the network", Detail: instance, When: r.order.getsNetwork, Known: is("unless a hook has"), Run: func(ctx context.Context) error {
			return writeNetwork(ctx, r.order, m.root, r.before, r.resolv)
		}},
		{Name: "install the boot loader", Detail: "GRUB", When: getsBoot, Run: func(ctx context.Context) (err error) {
			m.boot, err = makeBootable(ctx, r.choice, m.disks, m.root, m.tree, r.before, r.session.WorkDir)
			return err
		}},
		{Name: "check what the hooks left", Detail: instance, Run: func(ctx context.Context) (err error) {
			if m.hostKeys, err = finishGuest(ctx, r.choice, m.root, m.boot.by != "", r.resolv); err == nil {
				m.kept = r.kept
				r.receipt, err = makeReceipt(ctx, r.choice, *m)
			}
			return err
		}},
	}
	if r.order.parts != nil {
		steps = append(steps, session.Step{Name: "move folders onto their filesystems", Detail: joinPaths(folderNames(r.order.folders())), When: r.order.hasFolders, Run: func(ctx context.Context) error {
			if err := fillFolders(ctx, r.session, r.order, m.root); err != nil {
				return err
			}
			return finishFurther(m.disks.further)
		}})
	}
	if r.order.BootPath != "" {
		steps = append(steps, session.Step{Name: "move /boot onto its disk", Detail: r.order.BootPath, Run: func(ctx context.Context) error {
			return m.disks.boot.fill(ctx, r.session, r.order, m.root)
		}})
	}
	return append(steps, session.Step{Name: "write the receipt", Detail: receipt.File, Run: func(ctx context.Context) error {
		return writeReceipt(ctx, r.session, r.choice, *m, r.receipt.Receipt)
	}})
}

// ReleaseStep unmounts, makes everything durable and frees the devices, in the
// reverse order of the claims: Ganeti finds the disk free when we exit.
func (r *Run) ReleaseStep() session.Step {
	return session.Step{Name: "unmount, sync and release the disks", Detail: r.order.Disk(), Run: func(ctx context.Context) error {
		return r.session.UndoTo(ctx, r.mark)
	}}
}

// LastSteps are for a guest whose disks are free: it is tried, and an image file of
// install's gets its name.
func (r *Run) LastSteps() []session.Step {
	isTried := func(ctx context.Context) (bool, string) { return r.choice.bootTests(ctx) }
	isNewImage := func(context.Context) (bool, string) {
		return session.NeededIf(r.order.Image != nil, "the disk exists already")
	}
	return []session.Step{
		{Name: "forget what was kept", Detail: r.order.Disk(), When: r.order.keeps, Run: func(context.Context) error { return forgetKept(r.kept) }},
		{Name: "boot a throw-away copy", Detail: "in QEMU", When: isTried, Run: func(ctx context.Context) error {
			return bootTest(ctx, r.session, r.choice, r.made.boot.by != "")
		}},
		{Name: "name the image file", Detail: r.order.Disk(), When: isNewImage, Run: func(context.Context) error { return r.order.Image.Publish() }},
	}
}

// Target is where the guest's tree is mounted, as long as it is.
func (r *Run) Target() string { return r.made.root.target }

// HostKeys is by what the guest's ssh server is known in the end.
func (r *Run) HostKeys() []guest.HostKey { return r.made.hostKeys }

// AuthorizeKeys lets those log in as root by ssh whom the order names, in a guest that this
// run hasn't made.
func (r *Run) AuthorizeKeys(root *guest.Root) error { return authorizeKeys(root, r.choice.keys) }

// HasKeys tells whether anybody may log in as root by ssh.
func (r *Run) HasKeys() bool { return r.choice.keys != "" }

// LookAtHostKeys finds out by what the ssh server of such a guest is known.
func (r *Run) LookAtHostKeys(ctx context.Context, root *guest.Root) {
	r.made.hostKeys = lookAtHostKeys(ctx, root, r.order.Request.InstanceName, r.choice.keys)
}

// Report says what was made, when all is done.
func (r *Run) Report() Report {
	return Report{r.receipt.Receipt, r.order.Disk(), time.Since(r.started), r.order.Settings}
}

// KeepReceipt keeps the receipt on the node, by a name, or forgets that of an earlier guest of the
// name.
func (r *Run) KeepReceipt(ctx context.Context, name string) {
	uuid := r.order.Request.InstanceUUID
	if !r.order.Settings.KeepReceipts || r.receipt.Instance == "" { // of a backup there is none
		ForgetReceipt(ctx, name, uuid)
		return
	}
	if !receipt.IsOf(paths.StateDir, name, uuid) {
		tell.Info(ctx, "the node keeps the receipt of Ganeti's instance %s, and none of this guest", name)
		return
	}
	kept := r.receipt
	kept.Instance = name
	keepReceipt(ctx, kept)
}
